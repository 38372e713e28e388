"""Plain pictures: PNG, JPEG and TIFF without tiles, held in memory once read."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from napari_gimp.errors import SlideError
from napari_gimp.slide.fingerprint import fingerprint
from napari_gimp.slide.resolution import from_file
from napari_gimp.slide.source import Level, Pixels, Resolution
from napari_gimp.slide.tiled import SlideFacts, TiledSource

TILE = 512
MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr")
"""Pillow's 8-bit modes; it would clip 16 bits without a word."""
MAX_PIXELS = 400_000_000
"""Larger pictures (over 1.2 GB of RGB) must be converted to a tiled pyramid."""


class FlatSource(TiledSource):
    """A plain picture; its pixels are decoded at the first read, a TIFF's at once.

    A TIFF comes here because other readers refused it, and whether this one can
    read it shows only by doing so.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    SlideError
        If it is no picture, or has more than `MAX_PIXELS`.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(_facts(path))
        self._lock = threading.Lock()
        self._pixels: Pixels | None = None
        if self.properties["compression"] == "tiff":
            self._whole()

    def decode_tile(self, level: int, row: int, col: int) -> Pixels:
        """Return one square (h, w, 3) of the picture, without copying."""
        y, x = row * TILE, col * TILE
        return self._whole()[y : y + TILE, x : x + TILE]

    def read_associated(self, name: str) -> Pixels:
        """Raise SlideError: a plain picture has no other images."""
        raise SlideError(f"{self.path.name} has no image called {name!r}; it has none.")

    def close(self) -> None:
        """Forget the pixels."""
        super().close()
        self._pixels = None

    def _whole(self) -> Pixels:
        with self._lock:
            if self._pixels is None:
                self._pixels = _decode(self.path)
                self._pixels.flags.writeable = False  # tiles are views of it
            return self._pixels


def _facts(path: Path) -> SlideFacts:
    with _opened(path) as image:
        width, height = image.size
        resolution = _resolution(image)
        kind, mode = str(image.format).lower(), image.mode
    if mode not in MODES:
        raise SlideError(f"{path.name} has pixels of kind {mode}, not 8-bit colour.")
    if width * height > MAX_PIXELS:
        raise SlideError(
            f"{path.name} is a plain picture of {height} x {width} px; up to "
            f"{MAX_PIXELS // 1_000_000} million are read: convert it to a tiled "
            "pyramidal TIFF."
        )
    level = Level((height, width), (TILE, TILE), (1.0, 1.0))
    return SlideFacts(
        path=path,
        reader="pillow",
        levels=(level,),
        resolution=resolution,
        fingerprint=fingerprint(path),
        properties={"vendor": "picture", "compression": kind},
    )


def _decode(path: Path) -> Pixels:
    """Return the picture as RGB (h, w, 3); transparent pixels lie on white."""
    from PIL import Image

    with _opened(path) as image:
        try:
            rgba = image.convert("RGBA" if "A" in image.getbands() else "RGB")
        except (OSError, ValueError) as error:
            raise SlideError(
                f"{path.name} is damaged: its pixels cannot be decoded ({error}); "
                "copy the file again from its source."
            ) from error
        if rgba.mode == "RGBA":
            white = Image.new("RGBA", rgba.size, "white")
            rgba = Image.alpha_composite(white, rgba).convert("RGB")
        return np.array(rgba)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a picture whatever its size; SlideError where it is none."""
    import warnings

    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # large, damaged: what we say ourselves
            image = Image.open(path)
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise SlideError(f"{path.name} is no picture: {error}.") from error
    with image:
        yield image


def _resolution(image: Any) -> Resolution:
    """Return um/px from the picture's dpi; screens' 72 or 96 dpi are no such thing."""
    x, y = map(float, image.info.get("dpi", (0, 0)))
    if min(x, y) <= 0:
        return Resolution(None, "none", False)
    stated = from_file((25_400 / y, 25_400 / x), f"{x:.0f} dpi")
    return stated if stated.verified else Resolution(None, "none", False)
