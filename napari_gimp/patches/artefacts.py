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

import numpy as np
from numpy.typing import NDArray

from napari_gimp.geometry import YX
from napari_gimp.patches.annotations import Mask
from napari_gimp.patches.brightfield import Rgb

Density = NDArray[np.float32]

SMALLEST_STROKE_MM2 = {"blue or green ink": 0.01, "red ink": 0.03, "black ink": 0.02}
"""A pen's mark is larger; red needs most, since a vessel's red cells are as red."""
SMALLEST_DOT_MM2 = 0.004
"""Where a pen rests its ink is redder than blood can be, and small."""
RIM_CELLS = 3
STRIP_ROWS = 64
"""So many rows at a time stay in the processor's cache."""


def optical_density(rgb: NDArray[np.uint8]) -> Density:
    """Return -log10(light / glass), (rows, cols, 3), 0 where lighter than glass.

    Glass is the slide's own: the median of its brightest grey pixels, or 243 where
    it shows none.
    """
    least, most = extremes(rgb)
    bright = (least >= 200) & (most - least < 16)
    enough = bright.mean() > 0.01
    light = np.arange(1, 257, dtype=np.float32)
    glass = [
        np.float32(_median(rgb[..., k][bright]) + 1 if enough else 244)
        for k in range(3)
    ]
    of_value = [np.maximum(-np.log10(light / own), 0) for own in glass]
    density: Density = np.empty((*rgb.shape[:2], 3), dtype=np.float32)

    def fill(start: int) -> None:
        strip = slice(start, start + STRIP_ROWS)
        for k in range(3):
            density[strip, :, k] = of_value[k][rgb[strip, :, k]]

    _in_strips(fill, len(rgb))
    return density


def _in_strips(fill: Callable[[int], None], rows: int) -> None:
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        list(pool.map(fill, range(0, rows, STRIP_ROWS)))


def _median(values: NDArray[np.uint8]) -> float:
    """Return the median of many bytes, by counting."""
    below = np.bincount(values, minlength=256).cumsum()
    middle = (len(values) - 1) // 2, len(values) // 2
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
    signs = np.empty((8, *density.shape[:2]), dtype=bool)

    def fill(start: int) -> None:
        first, stop = max(start - 1, 0), min(start + STRIP_ROWS, rows)
        smooth = (_smooth(density[first : stop + 1, :, k]) for k in range(3))
        part = slice(start - first, stop - first)
        signs[:, start:stop] = _signs(*(channel[part] for channel in smooth))

    _in_strips(fill, rows)
    cell_mm2 = cell_um[0] * cell_um[1] / 1e6
    found = {
        reason: _strokes(signs[2 * k], signs[2 * k + 1], int(mm2 / cell_mm2))
        for k, (reason, mm2) in enumerate(SMALLEST_STROKE_MM2.items())
    }
    found["red ink"] |= _strokes(signs[2], signs[7], int(SMALLEST_DOT_MM2 / cell_mm2))
    return {**found, "dark edge": _touching_border(signs[6])}


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
    box = _box(weak)
    pieces, count = label(weak[box])
    sizes = np.bincount(pieces.ravel(), minlength=count + 1)
    kept = np.zeros(count + 1, dtype=bool)
    kept[np.unique(pieces[strong[box] & weak[box]])] = True
    kept &= sizes >= smallest
    kept[0] = False
    found[box] = binary_dilation(kept[pieces], iterations=RIM_CELLS)
    return found


def _box(mask: Mask) -> tuple[slice, slice]:
    """Return where there is anything, with room for a rim."""
    rows, cols = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    return (
        slice(max(int(rows[0]) - RIM_CELLS, 0), int(rows[-1]) + RIM_CELLS + 1),
        slice(max(int(cols[0]) - RIM_CELLS, 0), int(cols[-1]) + RIM_CELLS + 1),
    )


def _touching_border(mask: Mask) -> Mask:
    from scipy.ndimage import label

    if not any(side.any() for side in (mask[0], mask[-1], mask[:, 0], mask[:, -1])):
        return np.zeros_like(mask)
    pieces, _ = label(mask)
    border = np.concatenate([pieces[0], pieces[-1], pieces[:, 0], pieces[:, -1]])
    return np.asarray(np.isin(pieces, np.setdiff1d(border, [0])))
