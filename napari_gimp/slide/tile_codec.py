"""How the tiles of a converted slide are stored: compression, and the tags for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from napari_gimp.errors import SlideError
from napari_gimp.slide.source import Pixels, SlideSource

COMPRESSIONS = ("jpeg", "deflate", "none")
FULL_COLOUR = 90
"""From this JPEG quality on colour is stored in full resolution, as libvips does."""
DEFLATE_LEVEL = 6
KINDS = ("uint8", "uint16", "uint32", "int8", "int16", "int32", "float32", "float64")
"""What OME-TIFF has a name for."""


@dataclass(frozen=True, slots=True)
class TileCodec:
    """How one plane of a tile becomes bytes.

    Parameters
    ----------
    side
        Rows and columns of a tile, px.
    encode
        From pixels (side, side, S) to bytes.
    tags
        What tifffile must be told about these bytes.
    """

    side: int
    encode: Callable[[Pixels], bytes]
    tags: Mapping[str, Any]


def tile_codec(
    compression: str, quality: int, source: SlideSource, side: int
) -> TileCodec:
    """Return how the tiles of a slide are stored.

    Raises
    ------
    SlideError
        If there is no such compression, or it cannot hold these pixels.
    """
    if side < 16 or side % 16:
        raise SlideError(
            f"Tiles of {side} px cannot be written: give a multiple of 16, such as 512."
        )
    if source.dtype.name not in KINDS:
        raise SlideError(
            f"{source.path.name} has pixels of {source.dtype.name}, which OME-TIFF "
            f"cannot hold; it holds {', '.join(KINDS)}."
        )
    if compression == "jpeg":
        return _jpeg(quality, source, side)
    if compression == "deflate":
        return _deflate(source.dtype, side)
    if compression == "none":
        return TileCodec(side, np.ndarray.tobytes, {})
    raise SlideError(
        f"There is no compression {compression!r} to write with: choose one of "
        f"{', '.join(COMPRESSIONS)}."
    )


def _jpeg(quality: int, source: SlideSource, side: int) -> TileCodec:
    import imagecodecs

    if source.dtype != np.uint8:
        raise SlideError(
            f"{source.path.name} has {source.dtype.name} pixels and JPEG stores 8 "
            "bits: choose the compression deflate."
        )
    if not 1 <= quality <= 100:
        raise SlideError(f"A JPEG quality of {quality} is not within 1 to 100.")
    if not source.rgb:
        grey = partial(imagecodecs.jpeg8_encode, level=quality)
        return TileCodec(side, lambda t: bytes(grey(t[:, :, 0])), {"compression": 7})
    full = quality >= FULL_COLOUR
    colour = partial(
        imagecodecs.jpeg8_encode,
        level=quality,
        colorspace="RGB",
        outcolorspace="YCBCR",
        subsampling="444" if full else "420",
    )
    tags = {"compression": 7, "subsampling": (1, 1) if full else (2, 2)}
    return TileCodec(side, lambda tile: bytes(colour(tile)), tags)


def _deflate(dtype: np.dtype[np.generic], side: int) -> TileCodec:
    """Deflate; whole numbers as differences along the row, which halves the size."""
    import imagecodecs

    def encode(tile: Pixels) -> bytes:
        if dtype.kind != "f":
            tile = imagecodecs.delta_encode(tile, axis=1)
        return bytes(imagecodecs.zlib_encode(tile.tobytes(), level=DEFLATE_LEVEL))

    return TileCodec(side, encode, {"compression": 8, "predictor": dtype.kind != "f"})
