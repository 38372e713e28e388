"""Pixels at any resolution and place: exact area averages of the stored levels."""

from __future__ import annotations

import math
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_gimp.geometry import YX, Grid
from napari_gimp.slide.source import Pixels, SlideSource

SLACK = 1.001
"""A level counts as fine enough up to this factor: 0.499 um/px serves 0.4989."""
LARGEST_STEP = 64
"""Steps up to it are summed as whole numbers: 64^2 x 65535 still fits 32 bits."""
_SUMS = {"|u1": (np.uint16, np.float32), "<u2": (np.uint32, np.float64)}
"""Kinds of number that hold the sum of a line, and of a square, of a step exactly."""
STRIP_ROWS = 32
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
    number = best_level(source, mpp)
    cell = _cell_um(source, number)
    edges_y = _edges(y_um / cell[0], mpp / cell[0], shape_px[0])
    edges_x = _edges(x_um / cell[1], mpp / cell[1], shape_px[1])
    return _means_between(source, number, edges_y, edges_x)


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
    step = _whole_step(edges_y)
    if step != _whole_step(edges_x) or not 0 < step <= LARGEST_STEP:
        return _weighted(
            pixels, _taps(edges_y, len(pixels)), _taps(edges_x, pixels.shape[1])
        )
    y, x = int(edges_y[0]), int(edges_x[0])
    part = pixels[y : y + (len(edges_y) - 1) * step, x : x + (len(edges_x) - 1) * step]
    return part if step == 1 else _decimated(part, step)


def _whole_step(edges: NDArray[np.float64]) -> int:
    """Return the whole number of pixels between all edges, 0 where it is none."""
    step = (edges[-1] - edges[0]) / max(len(edges) - 1, 1)
    return int(step) if step.is_integer() and edges[0].is_integer() else 0


def block_means(pixels: Pixels, step: int) -> Pixels:
    """Return the mean of every square of `step` x `step` pixels (h, w, C).

    Squares that the lower or right edge cuts are the mean of what there is of them.
    Integer kinds are rounded to the nearest; the dtype stays.
    """
    if step == 1:
        return pixels
    if step > LARGEST_STEP:
        return _cut_means(pixels, step)
    rows, cols = pixels.shape[0] // step, pixels.shape[1] // step
    whole = _decimated(pixels[: rows * step, : cols * step], step)
    if (rows * step, cols * step) == pixels.shape[:2]:
        return whole
    shape = -(-pixels.shape[0] // step), -(-pixels.shape[1] // step), pixels.shape[2]
    out = np.empty(shape, pixels.dtype)
    out[:rows, :cols] = whole
    if shape[0] > rows:
        out[rows:] = _cut_means(pixels[rows * step :], step)
    if shape[1] > cols:
        out[:, cols:] = _cut_means(pixels[:, cols * step :], step)
    return out


def _cut_means(pixels: NDArray[Any], step: int) -> NDArray[Any]:
    """Return the means of squares of any size, cut off at the edge or not."""
    starts = [np.arange(0, side, step) for side in pixels.shape[:2]]
    sums = np.add.reduceat(pixels, starts[0], axis=0, dtype=np.float64)
    sums = np.add.reduceat(sums, starts[1], axis=1)
    rows, cols = (
        np.diff(start, append=side)
        for start, side in zip(starts, pixels.shape[:2], strict=True)
    )
    mean = sums / (rows[:, None] * cols)[..., None]
    if pixels.dtype.kind in "iu":
        mean = np.rint(mean)
    return np.asarray(mean, pixels.dtype)


def _decimated(pixels: NDArray[Any], step: int) -> NDArray[Any]:
    """Return the mean of every square of `step` x `step` pixels, by plain sums.

    A few rows at a time, so that they stay in cache, and channel by channel: loops
    over three channels cost more than the sums.
    """
    line, square = _SUMS.get(pixels.dtype.str, (np.float64, np.float64))
    whole = np.issubdtype(pixels.dtype, np.integer)
    height, width, channels = pixels.shape
    out = np.empty((height // step, width // step, channels), pixels.dtype)
    for start in range(0, len(out), STRIP_ROWS):
        strip = pixels[start * step : (start + STRIP_ROWS) * step]
        rows: NDArray[Any] = strip[::step].astype(line)
        for k in range(1, step):
            rows += strip[k::step]
        for channel in range(channels):
            mean = _mean_of_columns(rows[..., channel].astype(square), step)
            out[start : start + STRIP_ROWS, :, channel] = (
                np.rint(mean) if whole else mean
            )
    return out


def _mean_of_columns(sums: NDArray[Any], step: int) -> NDArray[Any]:
    """Return the mean of squares, given the sums over their rows."""
    mean: NDArray[Any] = sums[:, ::step].copy()
    for k in range(1, step):
        mean += sums[:, k::step]
    mean /= step**2
    return mean


def _taps(
    edges: NDArray[np.float64], size: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return which stored pixels lie under each new one (n, taps), and their shares."""
    first = np.floor(edges[:-1]).astype(np.int64)
    count = int((np.ceil(edges[1:]) - first).max())
    index = first[:, None] + np.arange(count)
    under = np.minimum(edges[1:, None], index + 1) - np.maximum(edges[:-1, None], index)
    share = under.clip(0) / np.diff(edges)[:, None]
    return index.clip(0, size - 1), share.astype(np.float32)


def _weighted(
    pixels: NDArray[Any],
    taps_y: tuple[NDArray[np.int64], NDArray[np.float32]],
    taps_x: tuple[NDArray[np.int64], NDArray[np.float32]],
) -> NDArray[Any]:
    """Return the weighted means, a few rows at a time so that they stay in cache."""
    (index_y, share_y), (index_x, share_x) = taps_y, taps_x
    whole = np.issubdtype(pixels.dtype, np.integer)
    out = np.empty((len(index_y), len(index_x), *pixels.shape[2:]), pixels.dtype)
    for start in range(0, len(index_y), STRIP_ROWS):
        strip = slice(start, start + STRIP_ROWS)
        rows = _mix(pixels, index_y[strip], share_y[strip], axis=0)
        mean = _mix(rows, index_x, share_x, axis=1)
        out[strip] = np.rint(mean) if whole else mean
    return out


def _mix(
    pixels: NDArray[Any],
    index: NDArray[np.int64],
    share: NDArray[np.float32],
    *,
    axis: int,
) -> NDArray[np.float32]:
    """Return the sum over taps of share x pixels along an axis."""
    shape = (-1, *[1] * (pixels.ndim - 1 - axis))
    total: NDArray[np.float32] = pixels.take(index[:, 0], axis) * share[:, 0].reshape(
        shape
    )
    for k in range(1, index.shape[1]):
        total += pixels.take(index[:, k], axis) * share[:, k].reshape(shape)
    return total


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
