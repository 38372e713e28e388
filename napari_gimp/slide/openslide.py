"""Slides that OpenSlide reads: MRXS, NDPI, SCN, BIF, VMS, Philips and others.

OpenSlide addresses every level in whole level-0 pixels, so that coarser levels are
read up to half a level-0 pixel off; level 0 is exact.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_gimp.errors import SlideError
from napari_gimp.slide.factors import level_factors
from napari_gimp.slide.fingerprint import fingerprint
from napari_gimp.slide.resolution import from_file
from napari_gimp.slide.source import Level, Pixels, Resolution
from napari_gimp.slide.tiled import SlideFacts, TiledSource

DEFAULT_TILE = 512
"""Side in px where OpenSlide does not tell: one read costs a fixed overhead."""


class OpenSlideSource(TiledSource):
    """A slide read by OpenSlide.

    Parameters
    ----------
    path
        The file; companions (the folder of an .mrxs) lie beside it.

    Raises
    ------
    SlideError
        If OpenSlide cannot open it.
    """

    def __init__(self, path: Path) -> None:
        import openslide

        try:
            self._slide = openslide.OpenSlide(path)
        except (openslide.OpenSlideError, OSError) as error:
            raise SlideError(
                f"{path.name} cannot be opened by OpenSlide: {error}."
            ) from error
        super().__init__(_facts(self._slide, path))
        self._error = openslide.OpenSlideError
        self._probe()

    def decode_tile(self, level: int, row: int, col: int) -> Pixels:
        """Return one tile (h, w, 3), cut off at the edge of the level."""
        spec = self.levels[level]
        y, x = row * spec.tile[0], col * spec.tile[1]
        height = min(spec.tile[0], spec.shape[0] - y)
        width = min(spec.tile[1], spec.shape[1] - x)
        fy, fx = spec.downsample
        corner = round(x * fx), round(y * fy)
        try:
            image = self._slide.read_region(corner, level, (width, height))
        except self._error as error:
            raise self._damaged(level, row, col, error) from error
        return _on_white(np.asarray(image))

    def read_associated(self, name: str) -> Pixels:
        """Return an associated image (height, width, 3).

        Raises
        ------
        SlideError
            If the slide has no such image.
        """
        self._check_open()
        if name not in self.associated:
            raise SlideError(
                f"{self.path.name} has no image called {name!r}; it has "
                f"{', '.join(self.associated) or 'none'}."
            )
        return _on_white(np.asarray(self._slide.associated_images[name]))

    def close(self) -> None:
        """Release the file and cached tiles."""
        super().close()
        self._slide.close()

    def _probe(self) -> None:
        try:
            self.decode_tile(len(self.levels) - 1, 0, 0)
        except SlideError:
            self._slide.close()
            raise


def _facts(slide: Any, path: Path) -> SlideFacts:
    shapes = [(height, width) for width, height in slide.level_dimensions]
    tiles = [_tile(slide, level) for level in range(len(shapes))]
    return SlideFacts(
        path=path,
        reader="openslide",
        levels=tuple(map(Level, shapes, tiles, level_factors(shapes))),
        resolution=_resolution(slide.properties),
        fingerprint=fingerprint(path),
        properties=_properties(slide.properties),
        associated=tuple(slide.associated_images),
    )


def _tile(slide: Any, level: int) -> tuple[int, int]:
    """Return the native tile where it is neither tiny nor a whole strip."""
    sides = [
        int(slide.properties.get(f"openslide.level[{level}].tile-{side}", 0))
        for side in ("height", "width")
    ]
    if not all(64 <= side <= 2048 for side in sides):
        return DEFAULT_TILE, DEFAULT_TILE
    return sides[0], sides[1]


def _resolution(stated: Any) -> Resolution:
    mpp = stated.get("openslide.mpp-y"), stated.get("openslide.mpp-x")
    if None in mpp:
        return Resolution(None, "none", False)
    return from_file((float(mpp[0]), float(mpp[1])), "openslide.mpp")


def _properties(stated: Any) -> dict[str, str]:
    names = {
        "vendor": "openslide.vendor",
        "objective": "openslide.objective-power",
    }
    return {ours: stated[key] for ours, key in names.items() if key in stated}


def _on_white(rgba: NDArray[np.uint8]) -> Pixels:
    """Return RGB (h, w, 3) of RGBA (h, w, 4) over white glass."""
    alpha = rgba[:, :, 3:]
    if alpha.min(initial=255) == 255:
        return np.ascontiguousarray(rgba[:, :, :3])
    share = alpha.astype(np.float32) / 255
    mixed = rgba[:, :, :3] * share + 255 * (1 - share)
    opaque: Pixels = np.rint(mixed).astype(np.uint8)
    return opaque
