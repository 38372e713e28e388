"""Reading orders: what "contiguous patches" means on a slide.

`raster` reads row by row; `hilbert` follows a Hilbert curve, so that a run of
consecutive patches is a compact region. Both follow from the coordinates alone
(spec gimp A, order).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

__all__ = ["Order", "reading_order", "reading_rank"]

Order = Literal["raster", "hilbert"]

_SAME_UM = 1.0  # patches of one row may differ by rounding, never by a micrometre


def reading_order(coords_um: Tensor, order: Order) -> Tensor:
    """Sort the patches of one bag.

    Parameters
    ----------
    coords_um
        (N,2) patch centres (y, x) in um.
    order
        "raster" or "hilbert".

    Returns
    -------
    Tensor
        (N,) int64, indices of the patches in reading order.
    """
    if not len(coords_um):  # a patient without patches, padded beside others
        return torch.empty(0, dtype=torch.long, device=coords_um.device)
    cells = _lattice(coords_um)
    if order == "raster":
        keys = cells[:, 0] * (int(cells[:, 1].max()) + 1) + cells[:, 1]
    else:
        keys = _hilbert(cells)
    return torch.argsort(keys, stable=True)


def reading_rank(coords_um: Tensor, mask: Tensor, order: Order) -> Tensor:
    """Place of each patch in its bag's reading order.

    Parameters
    ----------
    coords_um
        (B,N,2) um.
    mask
        (B,N) bool, True for real patches.
    order
        "raster" or "hilbert".

    Returns
    -------
    Tensor
        (B,N) int64; N - 1 for padding.
    """
    rank = torch.full(mask.shape, mask.shape[1] - 1, device=mask.device)
    for row, coords, real in zip(rank, coords_um, mask, strict=True):
        inside = real.nonzero()[:, 0]
        sequence = inside[reading_order(coords[real], order)]
        row[sequence] = torch.arange(len(sequence), device=mask.device)
    return rank


def _lattice(coords_um: Tensor) -> Tensor:
    """Integer (row, column) of patches on their regular grid, from (0, 0)."""
    offset = coords_um.double() - coords_um.double().amin(0)
    return (offset / _step_um(offset)).round().long()


def _step_um(offset: Tensor) -> Tensor:
    gaps = torch.cat([axis.sort().values.diff() for axis in offset.T])
    gaps = gaps[gaps > _SAME_UM]
    return gaps.min() if len(gaps) else offset.new_tensor(_SAME_UM)


def _hilbert(cells: Tensor) -> Tensor:
    """Distance along the Hilbert curve over the smallest square of side 2^k."""
    y, x = cells.T.clone()
    distance = torch.zeros_like(x)
    for bit in reversed(range(int(cells.max()).bit_length())):
        side = 1 << bit
        right, below = (x & side) > 0, (y & side) > 0
        distance += side * side * ((3 * right.long()) ^ below.long())
        x, y = _turn(x & (side - 1), y & (side - 1), side, right, below)
    return distance


def _turn(
    x: Tensor, y: Tensor, side: int, right: Tensor, below: Tensor
) -> tuple[Tensor, Tensor]:
    """Rotate a quadrant so that the curve enters and leaves it where it should."""
    flip = ~below & right
    x, y = torch.where(flip, side - 1 - x, x), torch.where(flip, side - 1 - y, y)
    return torch.where(below, x, y), torch.where(below, y, x)
