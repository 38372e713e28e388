"""Layouts of Subspace: a bag of any length on a grid of fixed size.

`spatial` [ours, default] lays patches on their true rows and columns; `list` [code]
resamples the bag in list order and knows nothing of the slide (spec 3, "Layout of
the 50 x 50 grid").

Which token stands for which patch is held as a list of pairs, since it is many to
one: several patches share a cell of a pooled slide, and several tokens of the list
layout repeat one patch. Letters: B patients, M patches of a bag, N = grid x grid
tokens, L pairs, P patch features.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gimp_models.bag import Batch
from gimp_models.errors import BatchError
from gimp_models.subspace_config import SubspaceConfig

__all__ = ["Placement", "place"]

_SAME_UM = 1.0  # patches of one row may differ by rounding, never by a micrometre


@dataclass(frozen=True, slots=True, eq=False)
class Placement:
    """A batch laid on the grid.

    Parameters
    ----------
    features
        (B,N,P) mean feature of the patches in each cell, row by row; 0 in empty
        cells.
    mask
        (B,N) bool, True for cells that hold a patch.
    token, patch
        (B,L) int64: pair l says that token[l] stands for patch[l]; both -1 where
        there is no pair.
    patches
        M, length of the padded bags.
    grid
        Cells along a side.
    origin_um
        (B,2) float64, (y, x) of the grid's upper left corner in slide um; None for
        the list layout, which has no place on the slide.
    cell_um
        (B,) float64, side of a cell in um; None likewise.
    """

    features: Tensor
    mask: Tensor
    token: Tensor
    patch: Tensor
    patches: int
    grid: int
    origin_um: Tensor | None = None
    cell_um: Tensor | None = None

    def patch_values(self, values: Tensor) -> Tensor:
        """Spread token values over the patches, keeping their sum.

        Parameters
        ----------
        values
            (B,...,N) one number per token.

        Returns
        -------
        Tensor
            (B,...,M): the sum over the tokens that stand for a patch; a token of
            several patches shares its value equally among them. NaN for patches
            that no token stands for, so that they are transparent and not zero,
            and for padding.
        """
        paired = self.token >= 0
        held = _count(self.token, self.mask.shape[1])  # patches of each token
        share = values / held.clamp_min(1)[_rows(values)]
        share = share.gather(-1, _index(self.token.clamp_min(0), share))
        share = share.where(_index(paired, share), 0)
        room = values.new_zeros(*values.shape[:-1], self.patches)
        total = room.scatter_add(-1, _index(self.patch.clamp_min(0), share), share)
        shown = _count(self.patch, self.patches) > 0
        return total.where(_index(shown, total), torch.nan)

    def slide_um(self, positions: Tensor) -> Tensor:
        """Place sampling positions on the slide.

        Parameters
        ----------
        positions
            (B,...,2) in [-1, 1] over the grid, (x, y), as `grid_sample` takes them.

        Returns
        -------
        Tensor
            (B,...,2) float64, (y, x) in um.

        Raises
        ------
        BatchError
            If the layout is `list`.
        """
        if self.origin_um is None or self.cell_um is None:
            raise BatchError(
                "The list layout has no place on the slide: positions of keys can be "
                'drawn for layout="spatial" only.'
            )
        side = self.cell_um.reshape(-1, *[1] * (positions.ndim - 1)) * self.grid
        corner = self.origin_um.reshape(-1, *[1] * (positions.ndim - 2), 2)
        return corner + (positions.double().flip(-1) + 1) / 2 * side


def place(batch: Batch, config: SubspaceConfig) -> Placement:
    """Lay every bag of a batch on a grid of its own.

    A slide always fills the same full grid, so that what the model says of it does
    not depend on the rest of its batch.

    Parameters
    ----------
    batch
        Features (B,M,P), coordinates in um (spatial) or list order (list).
    config
        Layout and grid.

    Returns
    -------
    Placement

    Raises
    ------
    BatchError
        If a patient has no patch.
    """
    _check_patches(batch.mask)
    if config.layout == "list":
        return _listed(batch, config.grid)
    return _rasterised(batch, config.grid)


def _listed(batch: Batch, grid: int) -> Placement:
    """Every token repeats one patch; nothing is empty."""
    patch = torch.stack(
        [real.nonzero()[:, 0][_resampled(real, grid**2)] for real in batch.mask]
    )
    token = torch.arange(grid**2, device=patch.device).expand_as(patch)
    return Placement(*_pool(batch, token, patch, grid), batch.mask.shape[1], grid)


def _resampled(real: Tensor, cells: int) -> Tensor:
    """Which real patch each of the N tokens repeats, in list order (N,).

    A short list is repeated as often as it fits, then its beginning again; of a long
    one every (n/N)-th is taken.
    """
    count = int(real.sum())
    token = torch.arange(cells, device=real.device)
    if count <= cells:
        return token % count
    return (token.double() * count / cells).round().long()


def _rasterised(batch: Batch, grid: int) -> Placement:
    """Every patch lies in one cell; cells without a patch are empty."""
    cells = [
        _cells(coords[real], grid)
        for coords, real in zip(batch.coords_um, batch.mask, strict=True)
    ]
    token = torch.full_like(batch.mask, -1, dtype=torch.long)
    for row, real, (cell, _, _) in zip(token, batch.mask, cells, strict=True):
        row[real] = cell
    order = torch.arange(token.shape[1], device=token.device)
    patch = order.where(token >= 0, -1)
    return Placement(
        *_pool(batch, token, patch, grid),
        batch.mask.shape[1],
        grid,
        origin_um=torch.stack([origin for _, origin, _ in cells]),
        cell_um=torch.stack([side for _, _, side in cells]),
    )


def _cells(coords_um: Tensor, grid: int) -> tuple[Tensor, Tensor, Tensor]:
    """Lay one bag on the grid.

    Parameters
    ----------
    coords_um
        (n,2) patch centres (y, x) in um, on a regular lattice.
    grid
        Cells along a side.

    Returns
    -------
    tuple of Tensor
        Cell of each patch (n,), upper left corner of the grid (2,) and side of a
        cell () in um. A slide of at most `grid` rows and columns has a patch per
        cell; a larger one is scaled down by the same factor in both directions.
    """
    corner = coords_um.double().amin(0)
    offset = coords_um.double() - corner
    step = _step_um(offset)
    place = (offset / step).round().long()  # (row, column)
    extent = place.max() + 1
    side = torch.clamp(extent, min=grid)  # in patches, of the whole grid
    # Floor of the patch centre over the side of a cell: each cell that reaches over
    # the slide then holds at least one centre. In integers, so that it is exact.
    row, column = ((2 * place + 1) * grid // (2 * side)).unbind(1)
    return row * grid + column, corner - step / 2, step * side / grid


def _step_um(offset: Tensor) -> Tensor:
    """Distance of neighbouring patches; 1 um if the bag has a single one."""
    gaps = torch.cat([axis.sort().values.diff() for axis in offset.T])
    gaps = gaps[gaps > _SAME_UM]
    return gaps.min() if len(gaps) else offset.new_tensor(_SAME_UM)


def _pool(
    batch: Batch, token: Tensor, patch: Tensor, grid: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Mean feature of the patches of each token (B,N,P), and which have any."""
    count, cells = _count(token, grid**2), grid**2
    pairs = (token >= 0).nonzero()[:, 0], token[token >= 0], patch[token >= 0]
    row, to, source = pairs
    # index_add has a deterministic form on CUDA, scatter_add of rows has none.
    total = batch.features.new_zeros(len(batch) * cells, batch.features.shape[2])
    total = total.index_add(0, row * cells + to, batch.features[row, source])
    total = total.reshape(len(batch), cells, -1)
    mean = total / count.clamp_min(1)[..., None]
    return mean, count > 0, token, patch


def _count(token: Tensor, cells: int) -> Tensor:
    """Pairs of each token, or of each patch (B,cells) int64."""
    room = torch.zeros(len(token), cells + 1, dtype=torch.long, device=token.device)
    return room.scatter_add(1, token % (cells + 1), torch.ones_like(token))[:, :cells]


def _rows(values: Tensor) -> tuple[slice | None, ...]:
    """Index that lets (B,N) broadcast against (B,...,N)."""
    return (slice(None), *[None] * (values.ndim - 2), slice(None))


def _index(pairs: Tensor, values: Tensor) -> Tensor:
    """(B,L) as (B,...,L) beside values (B,...,N)."""
    return pairs[_rows(values)].expand(*values.shape[:-1], -1)


def _check_patches(mask: Tensor) -> None:
    empty = (~mask.any(1)).nonzero()[:, 0].tolist()
    if empty:
        raise BatchError(
            f"Patients {', '.join(map(str, empty))} of the batch have no patch: "
            "Subspace needs at least one; leave them out."
        )
