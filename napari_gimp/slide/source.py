"""What every slide reader offers, whatever the file format.

Order is (y, x) and pixels are (height, width, channels) throughout; a reader
whose library speaks (x, y) turns round at its own edge.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from napari_gimp.geometry import YX, Grid
from napari_gimp.slide.damage import Damage

Pixels = NDArray[np.generic]


@dataclass(frozen=True, slots=True)
class Level:
    """One stored level of a slide.

    Parameters
    ----------
    shape
        Height and width, px.
    tile
        Height and width of a native tile, px.
    downsample
        The exact factor (y, x) by which the level was made from level 0 (2.0, 4.0,
        2.5, ...): not the quotient of the shapes, which are rounded.
    """

    shape: tuple[int, int]
    tile: tuple[int, int]
    downsample: YX


@dataclass(frozen=True, slots=True)
class Resolution:
    """um per level-0 pixel (y, x), and where the number came from.

    Parameters
    ----------
    mpp
        um/px (y, x); None where the file does not say.
    origin
        The property or tag it was read from, "user", or "none".
    verified
        False where the value is missing or implausible (outside 0.05 to 20 um/px),
        or is a user's word.
    """

    mpp: YX | None
    origin: str
    verified: bool


class SlideSource(Protocol):
    """An open slide. `open_slide` makes one; `close` it, or use it in a `with`."""

    path: Path
    reader: str
    """The library that reads it: "tifffile", "openslide", ..."""
    thread_safe: bool
    """Whether `read_region` may be called from several threads at once."""
    levels: tuple[Level, ...]
    """From finest to coarsest."""
    channels: int
    dtype: np.dtype[np.generic]
    rgb: bool
    """Whether the three channels are one colour picture; fluorescence is not."""
    channel_names: tuple[str, ...]
    """What each channel shows ("DAPI"), as the file says; () where it is silent."""
    channel_colors: tuple[str, ...]
    """"#rrggbb" for each channel, as the file says; () where it is silent."""
    resolution: Resolution
    properties: Mapping[str, str]
    """vendor, objective, compression, scanner, ... as text; no patient data."""
    associated: tuple[str, ...]
    """Names of label, macro, thumbnail images; their pixels only on request."""
    corner_px: tuple[int, int]
    """Level-0 row and column where the scanned part begins; (0, 0) where it is all.
    Positions here count from the whole canvas; QuPath crops to the scanned part."""
    icc: bytes | None
    """The colour profile in the file, None if there is none."""
    srgb: bool
    """Whether pixels are converted from that profile to sRGB."""
    refused: tuple[str, ...]
    """What faster readers said when they refused the file, in the order asked."""
    damage: Damage
    """The tiles that could not be decoded so far; they read as `fill`."""
    fingerprint: str
    """Hex digest that names the pixels: equal files, equal fingerprints; converted
    to sRGB, another."""

    @property
    def fill(self) -> int:
        """The value outside the slide: white (255 or 65535) for colour, else 0."""
        ...

    @property
    def mpp(self) -> YX:
        """Um per level-0 pixel (y, x); raises ResolutionError where unknown."""
        ...

    def read_region(
        self, level: int, y: int, x: int, height: int, width: int
    ) -> Pixels:
        """Return true pixels (height, width, channels) of a level.

        (y, x) is the upper left corner in that level's own pixels. What lies
        outside the slide is `fill`, and so is a damaged tile, noted in `damage`.
        """
        ...

    def tile(self, level: int, row: int, col: int) -> Pixels:
        """Return one native tile (h, w, C), read-only, cut off at the level's edge."""
        ...

    def cached_tile(self, level: int, row: int, col: int) -> Pixels | None:
        """Return a tile if it is decoded already; never decodes, so never waits."""
        ...

    def passing(self, budget_bytes: int) -> AbstractContextManager[None]:
        """Keep tiles that are decoded meanwhile apart from those on display."""
        ...

    def read_associated(self, name: str) -> Pixels:
        """Return an associated image (height, width, channels)."""
        ...

    def close(self) -> None:
        """Release file handles; reading afterwards raises SlideError."""
        ...

    def __enter__(self) -> SlideSource: ...

    def __exit__(self, *exc: object) -> None: ...


def level_grid(source: SlideSource, level: int) -> Grid:
    """Return the place of a level's pixels on the slide."""
    (my, mx), (fy, fx) = source.mpp, source.levels[level].downsample
    return Grid(source.levels[level].shape, (my * fy, mx * fx))


def open_slide(
    path: str | Path, *, mpp: float | YX | None = None, srgb: bool = False
) -> SlideSource:
    """Open a slide with the fastest reader that can read it.

    Parameters
    ----------
    path
        A TIFF of any kind, a DICOM file or folder, an OME-Zarr folder, anything
        OpenSlide reads, or a plain picture.
    mpp
        um per level-0 pixel, one number or (y, x), where the file says nothing or
        nonsense; it overrides the file.
    srgb
        Convert the pixels from the file's colour profile to sRGB, if it has one.

    Raises
    ------
    SlideError
        If there is no such file or no reader can read it; the text says why.
    ResolutionError
        If `mpp` is no positive number.
    """
    from napari_gimp.slide.opening import open_with_fallback

    return open_with_fallback(Path(path), mpp, srgb=srgb)
