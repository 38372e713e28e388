"""Where the tissue is out of focus, judged on a few small places of the slide.

Blur takes fine detail and leaves coarse structure, so the energy of the Laplacian in
pixels of 2 um is compared with that of the same place in pixels of 8 um (and of 4 um
with 16 um: of strong blur). A smooth or pale tissue has little of both; where there
is too little of the coarse, nothing is said. Only whole native tiles are read, so
many as `BUDGET_PX` allows, on a coarse lattice first, then round what was blurred.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_gimp.geometry import YX, Grid
from napari_gimp.patches.annotations import Mask
from napari_gimp.patches.brightfield import read_rgb
from napari_gimp.slide.resample import best_level
from napari_gimp.slide.source import SlideSource

Energy = NDArray[np.float32]

FOCUS_MPP = 2.0
"""A place is looked at in pixels of about that many um."""
MPP_LIMITS = (1.6, 2.5)
"""Whole multiples of stored pixels serve as they are within these, um."""
WINDOW_PX, BLOCK_PX = 64, 16
"""One verdict for each window (128 um), from the blocks with most structure in it."""
LARGEST_UNIT_UM = 1024.0
BUDGET_PX = 1 << 24
"""Stored pixels decoded in all; of JPEG a quarter of a second, of JPEG 2000 one."""
FIRST_SHARE = 0.6
FEWEST = 8
"""Places looked at however large a tile is."""
DETAIL, NOISE, STRUCTURE = 0.05, 6.0, 40.0
"""Blurred: energy of detail below `DETAIL` of that of structure, plus `NOISE` (JPEG
and sensor), where structure has `STRUCTURE` at least; grey levels squared. Sharp
tissue of slides from five sources and lung and brain tiles has 0.06 to 2 of it; the
same blurred with a disc of 6 to 16 um, 0.02 to 0.07 and noise."""
TISSUE_SHARE = 0.75
"""Least tissue of a window that is judged."""
SMALLEST_MM2, NEIGHBOURS = 0.1, 5
"""Blur comes in areas: smaller ones are not called, nor is one window alone."""
MOST_BLURRED = 0.9
"""With more of it than that the whole slide, or its um/px, is in question."""


@dataclass(frozen=True, slots=True)
class Focus:
    """What was seen of a slide's focus.

    Parameters
    ----------
    blurred
        (rows, cols) bool on the tissue's grid.
    told
        A sentence: what it was judged by.
    """

    blurred: Mask
    told: str


@dataclass(frozen=True, slots=True)
class _Units:
    """A lattice of whole tiles (several where they are small), the places to read."""

    side_um: YX
    shape: tuple[int, int]
    mpp: float
    cost_px: int

    @property
    def size_px(self) -> tuple[int, int]:
        """Height and width of one, px of `mpp`, in whole blocks."""
        rows, cols = (
            max(int(side / self.mpp + 1e-6) // BLOCK_PX, 1) for side in self.side_um
        )
        return rows * BLOCK_PX, cols * BLOCK_PX


def find_blurred(source: SlideSource, mask: Mask, grid: Grid) -> Focus:
    """Return where the tissue of a bright-field slide is out of focus.

    Parameters
    ----------
    source
        The slide.
    mask
        (rows, cols) bool, its tissue.
    grid
        The place of the mask.

    Raises
    ------
    SlideError
        If the file can no longer be read.
    """
    nothing = np.zeros_like(mask)
    if max(source.mpp) > MPP_LIMITS[1]:
        return Focus(nothing, f"not judged: a pixel is {max(source.mpp):.3g} um")
    units = _units(source)
    wanted = _tissue_share(mask, grid, units) > 0
    first = _lattice(wanted, max(int(FIRST_SHARE * BUDGET_PX / units.cost_px), FEWEST))
    seen = _seen(source, units, first, mask, grid)
    left = max(BUDGET_PX // units.cost_px, FEWEST) - len(first)
    more = _around(wanted, first, seen, units, left)
    seen = np.concatenate([seen, _seen(source, units, more, mask, grid)])
    return _verdict(seen, mask, grid, len(first) + len(more))


def _units(source: SlideSource) -> _Units:
    number = best_level(source, MPP_LIMITS[1])
    level = source.levels[number]
    cell = np.multiply(source.mpp, level.downsample)
    mpp = float(cell.max()) * max(round(FOCUS_MPP / cell.max()), 1)
    if not MPP_LIMITS[0] <= mpp <= MPP_LIMITS[1]:
        mpp = FOCUS_MPP
    tile_um = cell * level.tile
    least = WINDOW_PX * mpp * 0.75
    count = np.maximum(np.ceil(least / tile_um), 1)
    side = np.minimum(count * tile_um, LARGEST_UNIT_UM)
    extent = np.multiply(source.mpp, source.levels[0].shape)
    rows, cols = np.maximum(extent // side, 1).astype(int)
    cost = int(count.prod()) * math.prod(level.tile)
    return _Units((side[0], side[1]), (int(rows), int(cols)), mpp, cost)


def _tissue_share(mask: Mask, grid: Grid, units: _Units) -> NDArray[np.float64]:
    """Return which share of each unit (rows, cols) is tissue, about."""
    sums = mask
    for axis in (0, 1):
        start = np.arange(units.shape[axis]) * units.side_um[axis] / grid.cell_um[axis]
        first = start.round().astype(int).clip(0, mask.shape[axis] - 1)
        sums = np.add.reduceat(sums, first, axis=axis, dtype=np.int32)
    return np.asarray(sums / np.prod(np.divide(units.side_um, grid.cell_um)))


def _lattice(wanted: Mask, most: int) -> NDArray[np.int64]:
    """Return at most `most` of the units (n, 2), evenly over those wanted."""
    index = np.argwhere(wanted)
    step = 1
    while len(index) > most:
        step += 1
        kept = np.argwhere(wanted[step // 2 :: step, step // 2 :: step])
        index = kept * step + step // 2
    return index


def _around(
    wanted: Mask,
    first: NDArray[np.int64],
    seen: NDArray[np.float64],
    units: _Units,
    most: int,
) -> NDArray[np.int64]:
    """Return the units not yet read that are nearest to something blurred."""
    from scipy.spatial import cKDTree

    blurred = seen[seen[:, 2] > 0, :2]
    left = wanted.copy()
    left[tuple(first.T)] = False
    index = np.argwhere(left)
    if not len(blurred) or not len(index) or most <= 0:
        return index[:0]
    centres = (index + 0.5) * units.side_um
    distance, _ = cKDTree(blurred).query(centres)
    return index[np.argsort(distance, kind="stable")[:most]]


def _seen(
    source: SlideSource,
    units: _Units,
    index: NDArray[np.int64],
    mask: Mask,
    grid: Grid,
) -> NDArray[np.float64]:
    """Read units (n, 2); return the judged windows (k, 3): centre um, blurred."""

    def look(unit: NDArray[np.int64]) -> list[tuple[float, float, float]]:
        y, x = (float(v) for v in unit * units.side_um)
        green = read_rgb(source, y, x, units.size_px, units.mpp)[..., 1]
        return list(_windows(green, (y, x), units.mpp, mask, grid))

    threads = min(4, os.cpu_count() or 1) if source.thread_safe else 1
    with ThreadPoolExecutor(threads, thread_name_prefix="gimp-decode-focus") as pool:
        found = [window for unit in pool.map(look, index) for window in unit]
    return np.array(found, dtype=np.float64).reshape(-1, 3)


def _windows(
    green: NDArray[np.uint8], corner: YX, mpp: float, mask: Mask, grid: Grid
) -> Iterator[tuple[float, float, float]]:
    """Yield centre (y, x) um of each window that can be judged, and 1 if blurred."""
    energies = energies_of(green.astype(np.float32))
    per = WINDOW_PX // BLOCK_PX
    rows, cols = energies[0].shape
    for i in range(0, max(rows - per, 0) + 1, per):
        for j in range(0, max(cols - per, 0) + 1, per):
            part = [energy[i : i + per, j : j + per] for energy in energies]
            side = np.multiply(part[0].shape, BLOCK_PX * mpp)
            start = np.add(corner, np.multiply((i, j), BLOCK_PX * mpp))
            if _share_in(mask, grid, start, start + side) < TISSUE_SHARE:
                continue
            blurred = is_blurred(part)
            if blurred is not None:
                y, x = start + side / 2
                yield float(y), float(x), float(blurred)


def _share_in(
    mask: Mask, grid: Grid, start: NDArray[np.float64], stop: NDArray[np.float64]
) -> float:
    (y0, x0), (y1, x1) = (
        np.round(at / np.asarray(grid.cell_um)).astype(int) for at in (start, stop)
    )
    part = mask[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)]
    return float(part.mean()) if part.size else 0.0


def energies_of(grey: Energy) -> list[Energy]:
    """Return the mean squared Laplacian of blocks, in 4 octaves of pixel size.

    Parameters
    ----------
    grey
        (h, w), multiples of `BLOCK_PX`.

    Returns
    -------
    list
        Four times (h, w) / `BLOCK_PX`: of `grey`, of it in pixels twice as large, ...
    """
    energies, block = [], BLOCK_PX
    for _ in range(4):
        energies.append(_block_means(_laplacian(grey) ** 2, block))
        grey, block = _block_means(grey, 2), block // 2
    return energies


def is_blurred(energies: Sequence[Energy]) -> bool | None:
    """Whether a window is out of focus; None where it has too little to judge by.

    Parameters
    ----------
    energies
        Those of its blocks, each (rows, cols), as `energies_of` returns them.
    """
    answers = []
    for fine, coarse in ((0, 2), (1, 3)):
        structure = energies[coarse].ravel()
        most = np.argsort(structure, kind="stable")[len(structure) // 2 :]
        detail, whole = (
            float(energies[k].ravel()[most].mean()) for k in (fine, coarse)
        )
        if whole >= STRUCTURE:
            answers.append(detail < DETAIL * whole + NOISE)
    return any(answers) if answers else None


def _laplacian(grey: Energy) -> Energy:
    inner = 4 * grey[1:-1, 1:-1]
    for shifted in (grey[:-2, 1:-1], grey[2:, 1:-1], grey[1:-1, :-2], grey[1:-1, 2:]):
        inner -= shifted
    return np.pad(inner, 1, mode="edge")


def _block_means(grey: Energy, side: int) -> Energy:
    height, width = (length // side for length in grey.shape)
    cut = grey[: height * side, : width * side].reshape(height, side, width, side)
    return np.asarray(cut.mean((1, 3)), dtype=np.float32)


def _verdict(seen: NDArray[np.float64], mask: Mask, grid: Grid, places: int) -> Focus:
    nothing = np.zeros_like(mask)
    if not len(seen):
        return Focus(nothing, "not judged: the tissue has too little structure")
    told = f"judged on {places} places, by detail of 4 um against structure of 16 um"
    blurred = float(seen[:, 2].mean())
    if blurred > MOST_BLURRED:
        told += f"; {blurred:.0%} of what was looked at seems blurred, and is kept"
        return Focus(nothing, f"{told}, as hardly anything shows what sharp is")
    return Focus(_spread(_agreed(seen), mask, grid), told)


def _agreed(seen: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return windows of which a blurred one has mostly blurred ones beside it."""
    from scipy.spatial import cKDTree

    if len(seen) < NEIGHBOURS:
        return seen
    _, beside = cKDTree(seen[:, :2]).query(seen[:, :2], k=NEIGHBOURS)
    most = seen[beside, 2].mean(1) > 0.5
    return np.column_stack([seen[:, :2], seen[:, 2] * most])


def _spread(seen: NDArray[np.float64], mask: Mask, grid: Grid) -> Mask:
    """Give every cell the verdict of the nearest window; drop small areas."""
    from scipy.spatial import cKDTree
    from skimage.morphology import remove_small_objects

    if not seen[:, 2].any():
        return np.zeros_like(mask)
    step = max(round(WINDOW_PX * FOCUS_MPP / 2 / grid.cell_um[0]), 1)
    coarse = np.logical_or.reduceat(mask, np.arange(0, mask.shape[0], step), axis=0)
    coarse = np.logical_or.reduceat(coarse, np.arange(0, mask.shape[1], step), axis=1)
    index = np.argwhere(coarse)
    centres = (index + 0.5) * step * np.asarray(grid.cell_um)
    _, nearest = cKDTree(seen[:, :2]).query(centres)
    coarse[tuple(index.T)] = seen[nearest, 2] > 0
    cells = int(SMALLEST_MM2 * 1e6 / np.prod(grid.cell_um) / step**2)
    large = remove_small_objects(coarse, max_size=cells)
    fine = large.repeat(step, 0).repeat(step, 1)[: mask.shape[0], : mask.shape[1]]
    return np.asarray(fine & mask)
