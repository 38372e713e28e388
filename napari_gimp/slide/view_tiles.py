"""The tiles of a slide's display levels: where they lie, and what is in them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_gimp.errors import SlideError
from napari_gimp.slide.display import DisplayLevel
from napari_gimp.slide.source import Pixels, SlideSource
from napari_gimp.slide.tiles import tile_cache

Place = tuple[int, int, int]
"""Display level, row and column of a tile."""


class Area(NamedTuple):
    """A rectangle in pixels of a display level, up to, not with, (y1, x1)."""

    y0: int
    x0: int
    y1: int
    x1: int

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.y1 - self.y0, self.x1 - self.x0

    def around(self, other: Area) -> Area:
        """Return the smallest area that holds both."""
        return Area(
            min(self.y0, other.y0),
            min(self.x0, other.x0),
            max(self.y1, other.y1),
            max(self.x1, other.x1),
        )


class ViewTiles:
    """Tiles of stored and of virtual levels, from the cache or decoded.

    Parameters
    ----------
    source
        The slide.
    plan
        Its display levels, finest first.
    """

    def __init__(self, source: SlideSource, plan: tuple[DisplayLevel, ...]) -> None:
        self.source, self.plan = source, plan
        self.token = (source.fingerprint, source.reader, "view", id(self))
        self.closed = False

    def under(self, number: int, area: Area | None = None) -> Iterator[Place]:
        """Yield the tiles of a level that hold slide pixels under an area, or all."""
        level = self.plan[number]
        y0, x0, y1, x1 = area or Area(0, 0, *level.inner)
        bottom, right = min(y1, level.inner[0]), min(x1, level.inner[1])
        if y0 >= bottom or x0 >= right:
            return
        for row in range(max(y0, 0) // level.tile[0], -(-bottom // level.tile[0])):
            for col in range(max(x0, 0) // level.tile[1], -(-right // level.tile[1])):
                yield number, row, col

    def area(self, place: Place) -> Area:
        """Return where a tile lies, cut off at the slide's edge."""
        number, row, col = place
        level = self.plan[number]
        y0, x0 = row * level.tile[0], col * level.tile[1]
        y1 = min(y0 + level.tile[0], level.inner[0])
        return Area(y0, x0, y1, min(x0 + level.tile[1], level.inner[1]))

    def cached(self, place: Place) -> Pixels | None:
        """Return a tile (h, w, C) if it is decoded already."""
        number, row, col = place
        stored = self.plan[number].stored
        if stored is not None:
            return self.source.cached_tile(stored, row, col)
        return tile_cache().peek((self.token, *place))

    def decoded(self, place: Place) -> Pixels:
        """Return a tile (h, w, C) in true pixels, decoding what is not cached.

        Raises
        ------
        SlideError
            If the file cannot be read any more, or the view is closed.
        """
        number, row, col = place
        if self.closed:
            raise SlideError(f"The view of {self.source.path.name} is closed.")
        stored = self.plan[number].stored
        if stored is not None:
            return self.source.tile(stored, row, col)
        return tile_cache().fetch((self.token, *place), partial(self._halved, place))

    def exact(self, number: int, area: Area) -> Pixels:
        """Return an area (h, w, C) of a level in true pixels; decodes here.

        Raises
        ------
        SlideError
            As `decoded` does.
        """
        out = self.blank(*area.shape)
        for place in self.under(number, area):
            paste(out, self.decoded(place), self.area(place), area)
        return out

    def blank(self, height: int, width: int) -> Pixels:
        """Return pixels (h, w, C) as they are outside the slide."""
        shape = (height, width, self.source.channels)
        return np.full(shape, self.source.fill, self.source.dtype)

    def is_damaged(self, place: Place) -> bool:
        """Whether a tile of a stored level is known to be undecodable."""
        number, row, col = place
        return (self.plan[number].stored, row, col) in self.source.damage

    def below(self, area: Area, number: int, coarser: int) -> Area:
        """Return the coarser pixels under the centres of an area's pixels."""
        y0, x0 = self._under(area[:2], number, coarser)
        y1, x1 = self._under((area.y1 - 1, area.x1 - 1), number, coarser)
        return Area(y0, x0, y1 + 1, x1 + 1)

    def indices(
        self, area: Area, number: int, coarser: int
    ) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return row and column in `below` of the pixel under each of an area's."""
        below, (y, x) = self.below(area, number, coarser), self._ratio(number, coarser)
        rows = ((np.arange(area.y0, area.y1) + 0.5) * y).astype(np.intp) - below.y0
        cols = ((np.arange(area.x0, area.x1) + 0.5) * x).astype(np.intp) - below.x0
        last_row, last_col = below.shape[0] - 1, below.shape[1] - 1
        return np.minimum(rows, last_row), np.minimum(cols, last_col)

    def close(self) -> None:
        """Forget the tiles of virtual levels and make no more."""
        self.closed = True
        tile_cache().drop(self.token)

    def _halved(self, place: Place) -> Pixels:
        """Return a tile of a virtual level: 2x2 means of the level before."""
        y0, x0, y1, x1 = self.area(place)
        return halve(self.exact(place[0] - 1, Area(2 * y0, 2 * x0, 2 * y1, 2 * x1)))

    def _under(
        self, pixel: tuple[int, ...], number: int, coarser: int
    ) -> tuple[int, int]:
        """Return row and column of the coarser pixel under the centre of a pixel."""
        (y, x), (rows, cols) = self._ratio(number, coarser), self.plan[coarser].inner
        row, col = int((pixel[0] + 0.5) * y), int((pixel[1] + 0.5) * x)
        return min(row, rows - 1), min(col, cols - 1)

    def _ratio(self, number: int, coarser: int) -> tuple[float, float]:
        (y, x), (far_y, far_x) = self.plan[number].factor, self.plan[coarser].factor
        return y / far_y, x / far_x


def halve(pixels: Pixels) -> Pixels:
    """Return the 2x2 means (h/2, w/2, C) of pixels (h, w, C), rounded half up."""
    if pixels.dtype == np.uint8 and pixels.shape[2] == 3:
        from PIL import Image

        return np.array(Image.fromarray(pixels).reduce(2))  # seven times numpy's rate
    wider = {"u": np.uint64, "i": np.int64}.get(pixels.dtype.kind, np.float64)
    wide: NDArray[Any] = pixels.astype(wider)
    rows = wide[0::2] + wide[1::2]
    total = rows[:, 0::2] + rows[:, 1::2]
    mean: NDArray[Any] = total / 4 if wider is np.float64 else (total + 2) // 4
    return mean.astype(pixels.dtype)


def paste(out: Pixels, part: Pixels, at: Area, area: Area) -> None:
    """Copy into `out`, the pixels of an area, what of a part lies there."""
    y0, x0 = max(at.y0, area.y0), max(at.x0, area.x0)
    y1, x1 = min(at.y1, area.y1), min(at.x1, area.x1)
    out[y0 - area.y0 : y1 - area.y0, x0 - area.x0 : x1 - area.x0] = part[
        y0 - at.y0 : y1 - at.y0, x0 - at.x0 : x1 - at.x0
    ]
