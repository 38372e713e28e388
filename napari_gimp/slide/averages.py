"""Means over areas of pixels, exact: the arithmetic of every change of resolution.

Whole steps are summed as whole numbers, all else is weighted, a few rows at a time.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_gimp.slide.source import Pixels

LARGEST_STEP = 64
"""Steps up to it are summed as whole numbers: 64^2 x 65535 still fits 32 bits."""
_SUMS = {"|u1": (np.uint16, np.float32), "<u2": (np.uint32, np.float64)}
"""Kinds of number that hold the sum of a line, and of a square, of a step exactly."""
_SHIFTED = (2, 4, 8, 16)
"""Steps whose sums of squares fit the kind that holds a line, and divide by shifts."""
STRIP_BYTES = 1 << 18
"""Of pixels that are summed at once, so that they stay in the processor's cache."""

Taps = tuple[NDArray[np.int64], NDArray[np.float32]]
"""Which stored pixels lie under each new one (n, taps), and their shares."""


def area_average(
    pixels: Pixels, edges_y: NDArray[np.float64], edges_x: NDArray[np.float64]
) -> Pixels:
    """Return the mean of `pixels` (h, w, C) between the edges (H+1,), (W+1,).

    Integer kinds are rounded to the nearest; the dtype stays.
    """
    step = common_step(edges_y, edges_x)
    if not step:
        return _weighted(
            pixels, _taps(edges_y, len(pixels)), _taps(edges_x, pixels.shape[1])
        )
    y, x = int(edges_y[0]), int(edges_x[0])
    part = pixels[y : y + (len(edges_y) - 1) * step, x : x + (len(edges_x) - 1) * step]
    return part if step == 1 else _decimated(part, step)


def common_step(edges_y: NDArray[np.float64], edges_x: NDArray[np.float64]) -> int:
    """Return the step that both axes share and that can be summed, 0 if none."""
    step = _whole_step(edges_y)
    return step if step == _whole_step(edges_x) and step <= LARGEST_STEP else 0


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
    """Return the mean of every square of `step` x `step` pixels, by plain sums."""
    line, square = _SUMS.get(pixels.dtype.str, (np.float64, np.float64))
    shifted = step in _SHIFTED and pixels.dtype.str in _SUMS
    whole = np.issubdtype(pixels.dtype, np.integer)
    height, width, channels = pixels.shape
    out = np.empty((height // step, width // step, channels), pixels.dtype)
    count = _strip_rows(width * channels * pixels.itemsize * step)
    for start in range(0, len(out), count):
        strip = pixels[start * step : (start + count) * step]
        lines: NDArray[Any] = np.add(strip[::step], strip[1::step], dtype=line)
        for k in range(2, step):
            lines += strip[k::step]
        mean = _sums_along(lines, step, line if shifted else square)
        if shifted:
            _shift(mean, step)
        else:
            mean /= step**2
        out[start : start + count] = mean if shifted or not whole else np.rint(mean)
    return out


def _strip_rows(row_bytes: int) -> int:
    """Return how many rows of a result are made at once, given what one takes."""
    return max(STRIP_BYTES // max(row_bytes, 1), 1)


def _sums_along(lines: NDArray[Any], step: int, kind: type) -> NDArray[Any]:
    """Return the sums (h, w, C) of `step` pixels each of (h, w step, C).

    Channel by channel: loops over three channels cost more than the sums.
    """
    height, width, channels = lines.shape
    sums = np.empty((height, width // step, channels), kind)
    for channel in range(channels):
        out, part = sums[..., channel], lines[..., channel]
        np.add(part[:, ::step], part[:, 1::step], out=out, dtype=kind)
        for k in range(2, step):
            out += part[:, k::step]
    return sums


def _shift(sums: NDArray[Any], step: int) -> None:
    """Make means of the sums of squares, in place and in whole numbers.

    Rounded as `np.rint` does, halves to the even number: of 4 q + 2, in squares of
    2 x 2, becomes q where q is even and q + 1 where it is odd.
    """
    bits = 2 * step.bit_length() - 2
    odd = sums >> bits
    odd &= 1
    sums += odd
    sums += (1 << (bits - 1)) - 1
    sums >>= bits


def _taps(edges: NDArray[np.float64], size: int) -> Taps:
    first = np.floor(edges[:-1]).astype(np.int64)
    count = int((np.ceil(edges[1:]) - first).max())
    index = first[:, None] + np.arange(count)
    under = np.minimum(edges[1:, None], index + 1) - np.maximum(edges[:-1, None], index)
    share = under.clip(0) / np.diff(edges)[:, None]
    return index.clip(0, size - 1), share.astype(np.float32)


def _weighted(pixels: NDArray[Any], taps_y: Taps, taps_x: Taps) -> NDArray[Any]:
    """Return the weighted means (h, w, C), down the columns first, then along rows.

    To all sums a row is one line of w x C numbers: loops over three channels cost
    more than the sums.
    """
    (index_y, share_y), (index_x, share_x) = taps_y, taps_x
    channels = pixels.shape[2]
    shares_x = share_x.T.repeat(channels, axis=1)
    out = np.empty((len(index_y), shares_x.shape[1]), pixels.dtype)
    whole = np.issubdtype(pixels.dtype, np.integer)
    lines = pixels.reshape(len(pixels), -1)
    count = _strip_rows(lines.shape[1] * np.dtype(np.float32).itemsize)
    for start in range(0, len(out), count):
        strip = slice(start, start + count)
        rows = _mixed_down(lines, index_y[strip], share_y[strip])
        rows = rows.reshape(len(rows), -1, channels)
        means = _mixed_along(rows, index_x, shares_x)
        out[strip] = np.rint(means, out=means) if whole else means
    return out.reshape(len(out), -1, channels)


def _mixed_down(
    lines: NDArray[Any], index: NDArray[np.int64], share: NDArray[np.float32]
) -> NDArray[Any]:
    """Return the sums (h, W C) over taps of share x line."""
    total: NDArray[Any] = lines[index[:, 0]] * share[:, :1]
    for k in range(1, index.shape[1]):
        total += lines[index[:, k]] * share[:, k : k + 1]
    return total


def _mixed_along(
    rows: NDArray[Any], index: NDArray[np.int64], shares: NDArray[np.float32]
) -> NDArray[Any]:
    """Return the sums (h, w C) over taps (w,) of share (w C) x pixels (h, W, C)."""
    total = rows.take(index[:, 0], axis=1).reshape(len(rows), -1)
    total *= shares[0]
    for k in range(1, len(shares)):
        part = rows.take(index[:, k], axis=1).reshape(len(rows), -1)
        part *= shares[k]
        total += part
    return total
