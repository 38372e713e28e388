"""Pictures that are decoded whole: PNG, JPEG and others, by Pillow.

Pillow gives 16-bit colour as 8 bits without a word, so such a PNG is decoded by
imagecodecs; TIFF comes here only where tifffile cannot read it, and in 8 bits.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from napari_gimp.errors import SlideError
from napari_gimp.slide.fingerprint import fingerprint
from napari_gimp.slide.refusals import UnknownFormatError
from napari_gimp.slide.resolution import from_file
from napari_gimp.slide.source import Level, Pixels, Resolution
from napari_gimp.slide.tiff_colour import on_white
from napari_gimp.slide.tiled import SlideFacts

FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP")
"""Others hold no pictures of 8 or 16 bits, or are read by running a program."""
GREY = {"1": "L", "L": "L", "LA": "LA", "La": "LA"}
COLOUR = {
    "P": "RGB", "PA": "RGBA", "RGB": "RGB", "RGBA": "RGBA", "RGBa": "RGBA",
    "RGBX": "RGB", "CMYK": "RGB", "YCbCr": "RGB",
}  # fmt: skip
"""Pillow's modes, and those in which they are read."""
MEASURED = {"I;16": np.uint16, "I;16L": np.uint16, "I;16B": np.uint16, "I": np.int32,
            "F": np.float32}  # fmt: skip
PNG_DEPTH_AT = 24
PNG_COLOURS = {0: "L", 2: "RGB", 4: "LA", 6: "RGBA"}
"""Colour types of a PNG's header, which follow its depth."""
_limits = threading.Lock()
COPIED_ROWS = 512
"""Rows of a decoded picture that are copied at once."""


class WholePicture:
    """A picture that Pillow knows; see `flat.Picture`.

    Parameters
    ----------
    path
        The file.
    tile
        Side in px of the tiles into which the picture is to be cut.

    Raises
    ------
    SlideError
        If it is no picture, or of a kind that is not read.
    """

    def __init__(self, path: Path, tile: int) -> None:
        self._path = path
        deep = _deep_png(path)
        self._deep = bool(deep)
        with opened(path) as image:
            self._mode = deep or _target(image, path.name)
            self.facts = _facts(path, image, self._mode, self._deep, tile)
        self.band_rows = self.facts.levels[0].shape[0]

    def decode(self, y0: int, y1: int) -> Pixels:
        """Return the rows from y0 up to, not with, y1 (h, w, C)."""
        pixels = self._deep_pixels() if self._deep else self._pillow_pixels()
        pixels = np.atleast_3d(pixels)
        if pixels.shape[2] in (2, 4):
            pixels = on_white(pixels)
        stated = *self.facts.levels[0].shape, self.facts.channels
        if pixels.shape != stated:
            raise ValueError(f"it holds {pixels.shape}, but states {stated}")
        return np.ascontiguousarray(pixels[y0:y1], self.facts.dtype)

    def close(self) -> None:
        """Do nothing: the file is open only while it is read."""

    def _pillow_pixels(self) -> Pixels:
        """Return the picture, copied by rows: of all at once Pillow makes two more."""
        with opened(self._path) as image:
            right = image.mode in MEASURED or image.mode == self._mode
            out: Pixels | None = None
            for y in range(0, image.height, COPIED_ROWS):
                end = min(y + COPIED_ROWS, image.height)
                part = image.crop((0, y, image.width, end))
                rows = np.asarray(part if right else part.convert(self._mode))
                if out is None:
                    out = np.empty((image.height, *rows.shape[1:]), rows.dtype)
                out[y:end] = rows
        assert out is not None  # Pillow opens no empty picture
        return out

    def _deep_pixels(self) -> Pixels:
        import imagecodecs

        pixels: Pixels = imagecodecs.png_decode(self._path.read_bytes())
        return pixels


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open a picture whatever its size; SlideError where it is none.

    An OSError is raised only where the file cannot be read.
    """
    import warnings

    # the last two must be known to Pillow before it is asked for their formats
    from PIL import Image, TiffImagePlugin, WebPImagePlugin  # noqa: F401

    try:
        with _limits, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # damaged: what we say ourselves
            limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            try:
                image = Image.open(path, formats=FORMATS)
            finally:
                Image.MAX_IMAGE_PIXELS = limit
    except Exception as error:  # damaged heads break Pillow in every way
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the file is gone
        raise UnknownFormatError(f"{path.name} is no picture: {error}.") from error
    with image:
        yield image


def _deep_png(path: Path) -> str:
    """Return Pillow's mode for the samples of a PNG of 16 bits; "" for all else."""
    with path.open("rb") as file:
        head = file.read(PNG_DEPTH_AT + 2)
    if not head.startswith(b"\x89PNG") or head[PNG_DEPTH_AT:-1] != b"\x10":
        return ""
    return PNG_COLOURS.get(head[-1], "")


def _target(image: Any, name: str) -> str:
    """Return the mode in which a picture is to be read."""
    mode = str(image.mode)
    if mode in MEASURED:
        return mode
    if image.format == "TIFF" and max(image.tag_v2.get(258, (1,))) > 8:
        raise SlideError(
            f"{name} has {max(image.tag_v2[258])} bits per sample of a kind that is "
            "not read: convert it to 8 or 16 bits, RGB or grey."
        )
    target = (GREY | COLOUR).get(mode)
    if target is None:
        raise SlideError(
            f"{name} has pixels of kind {mode}, which is not read: convert it to RGB "
            "or grey."
        )
    if "transparency" in image.info and "A" not in target:
        return "LA" if target == "L" else "RGBA"
    return target


def _facts(path: Path, image: Any, mode: str, deep: bool, tile: int) -> SlideFacts:
    colour = mode in COLOUR
    kind = str(image.format).lower()
    return SlideFacts(
        path=path,
        reader="imagecodecs" if deep else "pillow",
        levels=(Level((image.height, image.width), (tile, tile), (1.0, 1.0)),),
        resolution=_resolution(image),
        fingerprint=fingerprint(path),
        channels=3 if colour else 1,
        dtype=np.dtype(np.uint16 if deep else MEASURED.get(mode, np.uint8)),
        properties={"vendor": "picture", "compression": kind},
        rgb=colour,
        icc=image.info.get("icc_profile") or None,
    )


def _resolution(image: Any) -> Resolution:
    """Return um/px from the picture's dpi; screens' 72 or 96 dpi are no such thing."""
    try:
        x, y = map(float, image.info.get("dpi", (0, 0)))
    except (TypeError, ValueError, ZeroDivisionError):
        return Resolution(None, "none", False)
    if not min(x, y) > 0:
        return Resolution(None, "none", False)
    stated = from_file((25_400 / y, 25_400 / x), f"{x:.0f} dpi")
    return stated if stated.verified else Resolution(None, "none", False)
