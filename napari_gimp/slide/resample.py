"""Pixels at any resolution and place: exact area averages of the stored levels."""

from __future__ import annotations

import math
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_gimp.geometry import YX, Grid
from napari_gimp.slide.averages import area_average, common_step
from napari_gimp.slide.source import Pixels, SlideSource

SLACK = 1.001
"""A level counts as fine enough up to this factor: 0.499 um/px serves 0.4989."""
BLOCK_PX = 2048
"""Side of the pieces, in stored pixels, in which a large area is read."""
BLOCK_BYTES = 1 << 24
"""Many channels or wide numbers make the pieces smaller."""


def best_level(source: SlideSource, mpp: float) -> int:
    """Return the coarsest level whose pixels are not larger than `mpp` um."""
    (my, mx) = source.mpp
    fine = [
        number
        for number, level in enumerate(source.levels)
        if max(my * level.downsample[0], mx * level.downsample[1]) <= mpp * SLACK
    ]
    return fine[-1] if fine else 0


def read_at(
    source: SlideSource,
    y_um: float,
    x_um: float,
    shape_px: tuple[int, int],
    mpp: float,
) -> Pixels:
    """Return the slide's pixels (h, w, C) at `mpp` um/px.

    Each pixel is the area average of the stored pixels under it, so that neither the
    place nor the brightness is off by a fraction of a pixel. Pillow's box filter
    gives whole pixels weight 0 or 1 and is up to half a stored pixel off. A large
    area is read in pieces: memory is bounded by the result.

    Parameters
    ----------
    source
        The slide.
    y_um, x_um
        Upper left corner in slide um; need not lie on a pixel, nor on the slide.
    shape_px
        Height and width of the result, px.
    mpp
        um/px of the result. Finer than the slide itself is interpolated.

    Raises
    ------
    SlideError
        If the file can no longer be read, or (ResolutionError) the um/px is unknown.
    """
    window = Window.of(source, (y_um, x_um), (0, 0), shape_px, mpp)
    return window.means(slice(None), slice(None))


@dataclass(frozen=True, slots=True)
class Window:
    """A rectangle of pixels to be read, whole or in parts. `Window.of` makes it.

    Parameters
    ----------
    source
        The slide.
    number
        The level its pixels are averaged from.
    edges_y, edges_x
        Borders (h+1,), (w+1,) of its pixels, in pixels of that level.
    """

    source: SlideSource
    number: int
    edges_y: NDArray[np.float64]
    edges_x: NDArray[np.float64]

    @classmethod
    def of(
        cls,
        source: SlideSource,
        origin_um: YX,
        corner_px: tuple[int, int],
        shape_px: tuple[int, int],
        mpp: float,
    ) -> Window:
        """Return the window of `shape_px` whose corner lies `corner_px` from an origin.

        Windows of one origin have the same pixels where they overlap.

        Parameters
        ----------
        source
            The slide.
        origin_um
            (y, x) in slide um; need not lie on a pixel, nor on the slide.
        corner_px, shape_px
            Upper left corner from the origin, and height and width; px at `mpp`.
        mpp
            um/px of the window. Finer than the slide itself is interpolated.

        Raises
        ------
        ResolutionError
            If the slide's um/px is unknown.
        """
        number = best_level(source, mpp)
        edges = (
            _edges(start / cell, mpp / cell, first, count)
            for start, cell, first, count in zip(
                origin_um, _cell_um(source, number), corner_px, shape_px, strict=True
            )
        )
        return cls(source, number, *edges)

    def means(self, rows: slice, cols: slice) -> Pixels:
        """Return a part of it (h, w, C).

        Raises
        ------
        SlideError
            If the file can no longer be read.
        """
        edges_y, edges_x = _part(self.edges_y, rows), _part(self.edges_x, cols)
        return _means_between(self.source, self.number, edges_y, edges_x)

    def cuts(self) -> tuple[list[int], list[int]]:
        """Return where native tiles end, as rows and columns from 0 to h and 0 to w.

        Only borders of tiles that are borders of pixels too: where pixels are
        weighted means, none is. Read in these parts, tiles need not be joined.
        """
        ends = [0, len(self.edges_y) - 1], [0, len(self.edges_x) - 1]
        if not common_step(self.edges_y, self.edges_x):
            return ends
        tile = self.source.levels[self.number].tile
        for axis, edges in enumerate((self.edges_y, self.edges_x)):
            inner = np.flatnonzero(edges[1:-1] % tile[axis] == 0) + 1
            ends[axis][1:1] = inner.tolist()
        return ends


def _part(edges: NDArray[np.float64], pixels: slice) -> NDArray[np.float64]:
    first, last, _ = pixels.indices(len(edges) - 1)
    return edges[first : last + 1]


def _means_between(
    source: SlideSource,
    number: int,
    edges_y: NDArray[np.float64],
    edges_x: NDArray[np.float64],
) -> Pixels:
    """Return the means between edges (H+1,), (W+1,) in pixels of a stored level."""
    spans = edges_y[-1] - edges_y[0], edges_x[-1] - edges_x[0]
    counts = len(edges_y) - 1, len(edges_x) - 1
    if spans[0] * spans[1] > 2 * _block_px(source) ** 2 and max(counts) > 1:
        axis = int(counts[0] == 1 or (spans[1] > spans[0] and counts[1] > 1))
        edges, middle = (edges_y, edges_x)[axis], counts[axis] // 2
        halves = (
            (half, edges_x) if axis == 0 else (edges_y, half)
            for half in (edges[: middle + 1], edges[middle:])
        )
        parts = [_means_between(source, number, *half) for half in halves]
        return np.concatenate(parts, axis=axis)
    y0, y1 = math.floor(edges_y[0]), max(math.ceil(edges_y[-1]), 1 + int(edges_y[0]))
    x0, x1 = math.floor(edges_x[0]), max(math.ceil(edges_x[-1]), 1 + int(edges_x[0]))
    pixels = source.read_region(number, y0, x0, y1 - y0, x1 - x0)
    return area_average(pixels, edges_y - y0, edges_x - x0)


def _block_px(source: SlideSource) -> int:
    """Return the side of the pieces in which a large area is read, stored px."""
    pixel_bytes = source.channels * source.dtype.itemsize
    return min(BLOCK_PX, math.isqrt(BLOCK_BYTES // pixel_bytes))


def _cell_um(source: SlideSource, number: int) -> YX:
    (my, mx), (fy, fx) = source.mpp, source.levels[number].downsample
    return my * fy, mx * fx


def _edges(start: float, step: float, first: int, count: int) -> NDArray[np.float64]:
    """Return the `count` + 1 pixel borders from a pixel on, to 1/1024 stored pixel.

    Rounding lets 2.0000000001 be the 2 that it is and take the fast way.
    """
    numbers = np.arange(first, first + count + 1)
    return np.round((start + step * numbers) * 1024) / 1024


def overview(source: SlideSource, mpp: float) -> tuple[Pixels, Grid]:
    """Return the whole slide (h, w, C) at `mpp` um/px, and its place.

    It is read in blocks, a few at a time on threads, so that memory stays bounded by
    the result. The last row and column may reach over the slide's edge, where it is
    `fill`.

    Raises
    ------
    SlideError
        If the file can no longer be read, or (ResolutionError) the um/px is unknown.
    """
    grid = overview_grid(source, mpp)
    rows, cols = grid.shape
    out = np.empty((rows, cols, source.channels), source.dtype)
    cell = min(_cell_um(source, best_level(source, mpp)))
    side = max(16, int(_block_px(source) * cell / mpp))
    corners = [(y, x) for y in range(0, rows, side) for x in range(0, cols, side)]

    def fill(corner: tuple[int, int]) -> None:
        y, x = corner
        block = out[y : y + side, x : x + side]
        block[:] = read_at(source, y * mpp, x * mpp, block.shape[:2], mpp)

    threads = min(4, os.cpu_count() or 1) if source.thread_safe else 1
    with ThreadPoolExecutor(threads, thread_name_prefix="gimp-decode-overview") as pool:
        list(pool.map(fill, corners))
    return out, grid


def overview_grid(source: SlideSource, mpp: float) -> Grid:
    """Return the place of the whole slide at `mpp` um/px.

    The last row and column may reach over the slide's edge.

    Raises
    ------
    ResolutionError
        If the slide's um/px is unknown.
    """
    (height, width), (my, mx) = source.levels[0].shape, source.mpp
    rows, cols = math.ceil(height * my / mpp - 1e-6), math.ceil(width * mx / mpp - 1e-6)
    return Grid((max(rows, 1), max(cols, 1)), (mpp, mpp))
