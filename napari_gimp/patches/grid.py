"""Which patches of a slide are looked at: a regular lattice over the tissue."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_gimp.errors import PatchError
from napari_gimp.geometry import YX, Grid
from napari_gimp.patches.tissue import Tissue

MOST_PLACES = 5_000_000
"""Squares of a lattice, tissue or not: 128 um side by side on 280 x 280 mm."""
LEAST_TOLD = 0.01
"""Part of a patch that is tissue, below which it is no use to ask for less."""


@dataclass(frozen=True, slots=True)
class PatchGrid:
    """Patches of one slide, in raster order.

    Parameters
    ----------
    grid
        The lattice: one cell per stride; a patch is centred on its cell.
    index
        (N, 2) int32, (row, col) of each patch.
    tissue
        (N,) float32, the fraction of each patch that is tissue.
    patch_um
        Side of a patch, um.

    Raises
    ------
    PatchError
        If the shapes do not fit each other.
    """

    grid: Grid
    index: NDArray[np.int32]
    tissue: NDArray[np.float32]
    patch_um: float

    def __post_init__(self) -> None:
        if self.index.ndim != 2 or self.index.shape != (len(self.tissue), 2):
            raise PatchError(
                f"patches need index (N, 2) and tissue (N,), got {self.index.shape} "
                f"and {self.tissue.shape}"
            )

    def __len__(self) -> int:
        """Return N."""
        return len(self.index)

    @property
    def stride_um(self) -> float:
        """Distance of neighbouring patches, um."""
        return self.grid.cell_um[0]

    @property
    def coords_um(self) -> NDArray[np.float32]:
        """Centres (N, 2), (y, x) in slide um."""
        return self.grid.centers_um(self.index).astype(np.float32)

    @property
    def corners_um(self) -> NDArray[np.float64]:
        """Upper left corners (N, 2), (y, x) in slide um."""
        return self.grid.centers_um(self.index) - self.patch_um / 2


def lay_patches(
    tissue: Tissue,
    *,
    patch_um: float = 128.0,
    stride_um: float | None = None,
    min_tissue: float = 0.5,
) -> PatchGrid:
    """Return every whole patch of which at least `min_tissue` is tissue.

    The first patch starts at the slide's corner; a patch that would reach beyond
    the slide is not laid.

    Parameters
    ----------
    tissue
        The slide's tissue.
    patch_um
        Side of a patch, um.
    stride_um
        Distance of neighbouring patches, um; None means no overlap.
    min_tissue
        Least fraction of a patch that is tissue, 0 to 1.

    Raises
    ------
    PatchError
        If a value is out of range or no patch is left; the text says what took the
        tissue, and how to have some.
    """
    stride = patch_um if stride_um is None else stride_um
    _check(patch_um, stride, min_tissue)
    grid = _lattice(tissue.grid.rect.size_um, patch_um, stride)
    fraction = _fractions(tissue, grid, patch_um)
    index = np.argwhere(fraction >= max(min_tissue, 1e-6)).astype(np.int32)
    if not len(index):
        raise PatchError(_nothing_left(tissue, fraction, patch_um, min_tissue))
    return PatchGrid(grid, index, fraction[tuple(index.T)], patch_um)


def _check(patch_um: float, stride_um: float, min_tissue: float) -> None:
    if not (patch_um > 0 and stride_um > 0):
        raise PatchError(
            f"patches need a side and a stride above 0 um, got {patch_um} and "
            f"{stride_um}; 128 is usual"
        )
    if not 0 <= min_tissue <= 1:
        raise PatchError(f"min_tissue must be 0 to 1, got {min_tissue}; 0.5 is usual")


def _lattice(extent_um: YX, patch_um: float, stride_um: float) -> Grid:
    shape = [int((side - patch_um) // stride_um) + 1 for side in extent_um]
    rows, cols = (max(n, 0) for n in shape)
    if rows * cols > MOST_PLACES:
        raise PatchError(
            f"A stride of {stride_um:g} um lays {rows * cols:,} patches, more than "
            f"{MOST_PLACES:,}: is it in um? {patch_um:g}, the side, is usual."
        )
    corner = (patch_um - stride_um) / 2
    return Grid((rows, cols), (stride_um, stride_um), (corner, corner))


def _fractions(tissue: Tissue, grid: Grid, patch_um: float) -> NDArray[np.float32]:
    """Return the exact tissue fraction (rows, cols) of every patch of a lattice.

    A mask's integral is piecewise bilinear, so four look-ups with linear
    interpolation weigh the cells that a patch's edge cuts.
    """
    (rows, cols), cell = grid.shape, np.asarray(tissue.grid.cell_um)
    integral = np.zeros(np.add(tissue.mask.shape, 1))
    integral[1:, 1:] = tissue.mask.cumsum(0, dtype=np.float64).cumsum(1)
    index = (np.arange(rows), np.arange(cols))
    origin = np.asarray(grid.origin_um) + (grid.cell_um[0] - patch_um) / 2
    start = [(origin[k] + index[k] * grid.cell_um[k]) / cell[k] for k in (0, 1)]
    stop = [start[k] + patch_um / cell[k] for k in (0, 1)]
    lines = _along(_along(integral, start[0], stop[0]).T, start[1], stop[1]).T
    fraction: NDArray[np.float32] = (lines * cell.prod() / patch_um**2).astype(
        np.float32
    )
    return fraction.clip(0, 1)


def _along(
    integral: NDArray[np.float64],
    start: NDArray[np.float64],
    stop: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the integral between fractional rows, (len(start), columns)."""
    return _rows_at(integral, stop) - _rows_at(integral, start)


def _rows_at(
    integral: NDArray[np.float64], at: NDArray[np.float64]
) -> NDArray[np.float64]:
    at = at.clip(0, len(integral) - 1)
    low = np.minimum(at.astype(int), len(integral) - 2)
    weight = (at - low)[:, None]
    rows: NDArray[np.float64] = (1 - weight) * integral[low] + weight * integral[
        low + 1
    ]
    return rows


def _nothing_left(
    tissue: Tissue, fraction: NDArray[np.float32], patch_um: float, min_tissue: float
) -> str:
    """Return the sentence for a lattice (rows, cols) of which no patch is left."""
    height, width = tissue.grid.rect.size_um
    size = f"the slide of {height / 1e3:.2f} x {width / 1e3:.2f} mm"
    if min(height, width) < patch_um:
        return (
            f"no patch is left: {size} is smaller than one patch of {patch_um:g} um; "
            "look whether its um/px is right"
        )
    taken = {why: mm2 for why, mm2 in tissue.excluded.items() if mm2}
    out = ", ".join(f"{mm2:.2g} mm2 {why}" for why, mm2 in taken.items())
    left_out = f" (left out: {out})" if out else ""
    start = (
        f"no patch is left: {size} has {tissue.area_mm2:.2g} mm2 of tissue{left_out}"
    )
    if fraction.max(initial=0) >= LEAST_TOLD:
        return f"{start}. {_relaxed(fraction, patch_um, min_tissue)}"
    if taken:
        return f"{start}. {_advice(max(taken, key=taken.__getitem__))}"
    return (
        f"{start}; look whether it is a stained section and whether its um/px is right"
    )


def _relaxed(fraction: NDArray[np.float32], patch_um: float, min_tissue: float) -> str:
    """Return which least tissue would leave patches, and how many."""
    fullest = math.floor(100 * float(fraction.max()) + 1e-4) / 100
    count = int((fraction >= fullest).sum())
    return (
        f"No square of {patch_um:g} um is at least {min_tissue:.0%} tissue, the "
        f"fullest is {fullest:.0%}: with a least tissue of {fullest:g} (--min-tissue "
        f"{fullest:g}) there {'is 1 patch' if count == 1 else f'are {count:,} patches'}"
    )


def _advice(largest: str) -> str:
    """Return what to do, given the reason that took most of the tissue."""
    from napari_gimp.patches.regions import INSIDE, OUTSIDE

    if largest == OUTSIDE:
        return (
            "What is to be included (--include) lies beside the tissue: look whether "
            "it was drawn on this slide, or leave it out"
        )
    if largest == INSIDE:
        return "What is to be left out (--exclude) covers the tissue: name less of it"
    return (
        f"Most of it was taken for {largest}: if it is tissue, draw a mask of the "
        "tissue and give that (--tissue)"
    )
