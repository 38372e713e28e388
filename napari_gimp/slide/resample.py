"""Pixels at any resolution and place: exact area averages of the stored levels."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from napari_gimp.geometry import YX, Grid
from napari_gimp.slide.source import Pixels, SlideSource

SLACK = 1.001
"""A level counts as fine enough up to this factor: 0.499 um/px serves 0.4989."""
BLOCK_PX = 2048
"""Side of the pieces, in stored pixels, in which an overview is read."""


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
    gives whole pixels weight 0 or 1 and is up to half a stored pixel off.

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
        If a tile is damaged, or (ResolutionError) the um/px is unknown.
    """
    number = best_level(source, mpp)
    cell = _cell_um(source, number)
    edges_y = _edges(y_um / cell[0], mpp / cell[0], shape_px[0])
    edges_x = _edges(x_um / cell[1], mpp / cell[1], shape_px[1])
    y0, y1 = math.floor(edges_y[0]), max(math.ceil(edges_y[-1]), 1 + int(edges_y[0]))
    x0, x1 = math.floor(edges_x[0]), max(math.ceil(edges_x[-1]), 1 + int(edges_x[0]))
    pixels = source.read_region(number, y0, x0, y1 - y0, x1 - x0)
    return area_average(pixels, edges_y - y0, edges_x - x0)


def _cell_um(source: SlideSource, number: int) -> YX:
    (my, mx), (fy, fx) = source.mpp, source.levels[number].downsample
    return my * fy, mx * fx


def _edges(start: float, step: float, count: int) -> NDArray[np.float64]:
    """Return the `count` + 1 pixel borders, to 1/1024 of a stored pixel.

    Rounding lets 2.0000000001 be the 2 that it is and take the fast way.
    """
    return np.round((start + step * np.arange(count + 1)) * 1024) / 1024


def area_average(
    pixels: Pixels, edges_y: NDArray[np.float64], edges_x: NDArray[np.float64]
) -> Pixels:
    """Return the mean of `pixels` (h, w, C) between the edges (H+1,), (W+1,).

    Integer kinds are rounded to the nearest; the dtype stays.
    """
    step_y, step_x = _whole_step(edges_y), _whole_step(edges_x)
    if step_y == 1 and step_x == 1:
        y, x = int(edges_y[0]), int(edges_x[0])
        return pixels[y : y + len(edges_y) - 1, x : x + len(edges_x) - 1]
    rows = _average_rows(pixels.astype(np.float32), edges_y)
    mean = _average_rows(rows.swapaxes(0, 1), edges_x).swapaxes(0, 1)
    if np.issubdtype(pixels.dtype, np.integer):
        mean = np.rint(mean)
    return np.ascontiguousarray(mean.astype(pixels.dtype))


def _whole_step(edges: NDArray[np.float64]) -> int:
    """Return the whole number of pixels between all edges, 0 where it is none."""
    step = (edges[-1] - edges[0]) / max(len(edges) - 1, 1)
    return int(step) if step.is_integer() and edges[0].is_integer() else 0


def _average_rows(
    pixels: NDArray[np.float32], edges: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Return the mean of the rows between fractional edges, by running sums."""
    sums = np.zeros((len(pixels) + 1, *pixels.shape[1:]), np.float32)
    np.cumsum(pixels, axis=0, out=sums[1:])
    whole = np.minimum(edges.astype(np.int64), len(pixels) - 1)
    part = (edges - whole).astype(np.float32).reshape(-1, *[1] * (pixels.ndim - 1))
    at_edges = sums[whole] + part * pixels[whole]
    widths = np.diff(edges).astype(np.float32)
    mean: NDArray[np.float32] = np.diff(at_edges, axis=0)
    return mean / widths.reshape(part[1:].shape)


def overview(source: SlideSource, mpp: float) -> tuple[Pixels, Grid]:
    """Return the whole slide (h, w, C) at `mpp` um/px, and its place.

    It is read in blocks, so that memory stays bounded by the result. The last row
    and column may reach over the slide's edge, where it is white.

    Raises
    ------
    SlideError
        If a tile is damaged, or (ResolutionError) the um/px is unknown.
    """
    grid = _overview_grid(source, mpp)
    rows, cols = grid.shape
    out = np.empty((rows, cols, source.channels), source.dtype)
    cell = min(_cell_um(source, best_level(source, mpp)))
    block = max(16, int(BLOCK_PX * cell / mpp))
    for row in range(0, rows, block):
        for col in range(0, cols, block):
            shape = min(block, rows - row), min(block, cols - col)
            out[row : row + shape[0], col : col + shape[1]] = read_at(
                source, row * mpp, col * mpp, shape, mpp
            )
    return out, grid


def _overview_grid(source: SlideSource, mpp: float) -> Grid:
    (height, width), (my, mx) = source.levels[0].shape, source.mpp
    rows, cols = math.ceil(height * my / mpp - 1e-6), math.ceil(width * mx / mpp - 1e-6)
    return Grid((max(rows, 1), max(cols, 1)), (mpp, mpp))
