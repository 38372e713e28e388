"""What looks stained and is no tissue: ink and the slide's edge, by their light.

Light is measured as optical density (OD, decimal, against the slide's own glass),
since stains, ink and shadow differ in *which* light they take away:
haematoxylin and eosin take green first; blue and green ink take red first; red
ink takes green and blue alike; black ink and the slide's edge take all alike.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from napari_gimp.geometry import YX
from napari_gimp.patches.annotations import Mask
from napari_gimp.patches.brightfield import Rgb

Density = NDArray[np.float32]
T = TypeVar("T")

SMALLEST_STROKE_MM2 = {"blue or green ink": 0.01, "red ink": 0.03, "black ink": 0.02}
"""A pen's mark is larger; red needs most, since a vessel's red cells are as red."""
SMALLEST_DOT_MM2 = 0.004
"""Where a pen rests its ink is redder than blood can be, and small."""
RIM_CELLS = 3
GLASS_OD = 0.039
"""Light that is lost in glass, at most: the least that any sign asks for is 0.04."""
STRIP_ROWS = 64
"""So many rows at a time stay in the processor's cache."""


def optical_density(rgb: Rgb) -> Density:
    """Return -log10(light / glass), (rows, cols, 3), 0 where lighter than glass.

    Glass is the slide's own: the median of its brightest grey pixels, or 243 where
    it shows none.
    """
    counts = np.sum(in_strips(partial(_count_glass, rgb), len(rgb)), axis=0)
    seen = counts[0].sum() > 0.01 * rgb[..., 0].size
    light = np.arange(1, 257, dtype=np.float32)
    glass = [np.float32(_median(of) + 1 if seen else 244) for of in counts]
    of_value = [np.maximum(-np.log10(light / own), 0) for own in glass]
    density: Density = np.empty((*rgb.shape[:2], 3), dtype=np.float32)

    def fill(strip: slice) -> None:
        for k in range(3):
            density[strip, :, k] = of_value[k][rgb[strip, :, k]]

    in_strips(fill, len(rgb))
    return density


def _count_glass(rgb: Rgb, strip: slice) -> NDArray[np.int64]:
    """Return how often (3, 256) each value is that of a bright grey pixel."""
    part = rgb[strip]
    least, most = extremes(part)
    bright = (least >= 200) & (most - least < 16)
    return np.stack(
        [np.bincount(part[..., k][bright], minlength=256) for k in range(3)]
    )


def in_strips(work: Callable[[slice], T], rows: int, step: int = STRIP_ROWS) -> list[T]:
    """Return what is made of each strip of so many rows, in several threads."""
    strips = [slice(k, min(k + step, rows)) for k in range(0, rows, step)]
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        return list(pool.map(work, strips))


def _median(counts: NDArray[np.int64]) -> float:
    """Return the median of bytes that are counted."""
    below = counts.cumsum()
    middle = (int(below[-1]) - 1) // 2, int(below[-1]) // 2
    return float(np.mean([np.searchsorted(below, k, side="right") for k in middle]))


def extremes(rgb: Rgb) -> tuple[Rgb, Rgb]:
    """Return the least and most of three colours, each (rows, cols)."""
    red, green, blue = (rgb[..., k] for k in range(3))  # reducing 3 is slow
    least: Rgb = np.minimum(np.minimum(red, green), blue)
    most: Rgb = np.maximum(np.maximum(red, green), blue)
    return least, most


def find_artefacts(density: Density, cell_um: YX) -> dict[str, Mask]:
    """Return a mask (rows, cols) per kind of ink, and of the dark slide edge.

    Each ink has a weak and a strong sign; a weak region counts where it holds a
    strong one and is as large as a pen makes it (red cells are red, but few).
    """
    rows = len(density)
    signs = np.zeros((8, *density.shape[:2]), dtype=bool)

    def fill(strip: slice) -> None:
        first, stop = max(strip.start - 1, 0), strip.stop + 1
        cols = _stained_columns(density[first:stop])
        if cols is None:
            return
        smooth = (_smooth(density[first:stop, cols, k]) for k in range(3))
        part = slice(strip.start - first, strip.stop - first)
        signs[:, strip, cols] = _signs(*(channel[part] for channel in smooth))

    in_strips(fill, rows)
    cell_mm2 = cell_um[0] * cell_um[1] / 1e6
    found = {
        reason: _strokes(signs[2 * k], signs[2 * k + 1], int(mm2 / cell_mm2))
        for k, (reason, mm2) in enumerate(SMALLEST_STROKE_MM2.items())
    }
    found["red ink"] |= _strokes(signs[2], signs[7], int(SMALLEST_DOT_MM2 / cell_mm2))
    return {**found, "dark edge": _touching_border(signs[6])}


def _stained_columns(strip: Density) -> slice | None:
    """Return the columns that may show a sign: each asks for more than `GLASS_OD`.

    Two more at either side, so that what lies beyond changes no mean within.
    """
    used = np.flatnonzero((strip > GLASS_OD).any(axis=(0, 2)))
    if not len(used):
        return None
    return slice(max(int(used[0]) - 2, 0), int(used[-1]) + 3)


def _signs(red: Density, green: Density, blue: Density) -> list[Mask]:
    """Return weak and strong sign of each ink, of the edge, and of a red dot."""
    most = np.maximum(np.maximum(red, green), blue) + 1e-6
    least = np.minimum(np.minimum(red, green), blue)
    cold = np.where(red > 0.08, red - np.maximum(green, 0.6 * blue), 0)
    warm = np.where((green > 0.3) & (red < 0.35 * green), blue - 0.6 * green, 0)
    dark = (least > 0.3) & (least > 0.45 * most) & (most > 0.7)
    return [
        *(cold > 0.03, cold > 0.15),
        *(warm > 0.03, (warm > 0.1) & (green > 0.5)),
        *(dark, dark & (least > 0.5) & (least > 0.6 * most)),
        (least > 0.7 * most) & (most > 0.04),
        (warm > 0.15) & (green > 0.9),
    ]


def _smooth(channel: Density) -> Density:
    """Return the mean of every cell and its 8 neighbours; plain sums are fastest."""
    padded = np.pad(channel, 1, mode="edge")
    rows = padded[:-2] + padded[1:-1]
    rows += padded[2:]
    mean: Density = rows[:, :-2] + rows[:, 1:-1]
    mean += rows[:, 2:]
    mean /= 9
    return mean


def _strokes(weak: Mask, strong: Mask, smallest: int) -> Mask:
    """Return the large weak regions that hold a strong cell, with their soft rim."""
    from scipy.ndimage import binary_dilation, label

    found = np.zeros_like(weak)
    if not (strong & weak).any():
        return found
    box = around(weak, RIM_CELLS)
    pieces, count = label(weak[box])
    sizes = np.bincount(pieces.ravel(), minlength=count + 1)
    kept = np.zeros(count + 1, dtype=bool)
    kept[np.unique(pieces[strong[box] & weak[box]])] = True
    kept &= sizes >= smallest
    kept[0] = False
    found[box] = binary_dilation(kept[pieces], iterations=RIM_CELLS)
    return found


def around(mask: Mask, rim: int) -> tuple[slice, slice]:
    """Return where there is anything, and so many cells about it."""
    rows, cols = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    return (
        slice(max(int(rows[0]) - rim, 0), int(rows[-1]) + rim + 1),
        slice(max(int(cols[0]) - rim, 0), int(cols[-1]) + rim + 1),
    )


def _touching_border(mask: Mask) -> Mask:
    from scipy.ndimage import label

    if not any(side.any() for side in (mask[0], mask[-1], mask[:, 0], mask[:, -1])):
        return np.zeros_like(mask)
    pieces, _ = label(mask)
    border = np.concatenate([pieces[0], pieces[-1], pieces[:, 0], pieces[:, -1]])
    return np.asarray(np.isin(pieces, np.setdiff1d(border, [0])))
