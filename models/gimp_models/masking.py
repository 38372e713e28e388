"""What a model sees of a bag while it learns: windows, masks, subsamples (spec B, E).

Every draw comes from the generator that is handed in, on that generator's device.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from gimp_models.bag import Batch
from gimp_models.gimp_config import MaskMode
from gimp_models.order import Order, reading_rank

__all__ = ["draw_mask", "drop_genes", "hidden_count", "sample_patches", "sample_window"]


def sample_window(
    batch: Batch, window: int, *, order: Order, generator: torch.Generator
) -> Batch:
    """Take `window` consecutive patches of each bag, start uniform.

    Parameters
    ----------
    batch
        Bags (B,N,P).
    window
        L. A shorter bag is taken whole and stays padded; no patch is repeated, since
        a repeated patch would leak its own target.
    order
        Reading order of the patches.
    generator
        Draws the starts.

    Returns
    -------
    Batch
        Bags (B,min(L,N),P) in reading order.
    """
    length = batch.mask.sum(1)
    start = _below((length - window).clamp_min(0) + 1, generator)
    span = torch.arange(min(window, int(length.max())), device=length.device)
    sequence = reading_rank(batch.coords_um, batch.mask, order).argsort(1)
    chosen = sequence.gather(1, start[:, None] + span)
    return _take(batch, chosen, span < length.clamp(max=window)[:, None])


def draw_mask(
    mask: Tensor, ratio: float, *, mode: MaskMode, generator: torch.Generator
) -> Tensor:
    """Choose the patches to hide.

    Parameters
    ----------
    mask
        (B,N) bool, True for real patches, which come first, in reading order.
    ratio
        rho, share of the real patches to hide.
    mode
        "block": one run of consecutive patches, start uniform; "random": single
        patches anywhere.
    generator
        Draws them.

    Returns
    -------
    Tensor
        (B,N) bool with exactly `hidden_count` patches hidden in each bag.
    """
    length = mask.sum(1)
    count = hidden_count(length, ratio)[:, None]
    if mode == "block":
        start = _below(length - count[:, 0] + 1, generator)[:, None]
        here = torch.arange(mask.shape[1], device=mask.device)
        return (here >= start) & (here < start + count)
    lottery = _uniform(mask.shape, generator, mask.device).masked_fill(~mask, 2)
    return lottery.argsort(1).argsort(1) < count


def hidden_count(length: Tensor, ratio: float) -> Tensor:
    """Return m = round(rho n), at least 1, and one patch fewer than all at most."""
    count = (length * ratio).round().long()
    return count.clamp_min(1).minimum(length - 1).clamp_min(0)


def sample_patches(batch: Batch, limit: int, *, generator: torch.Generator) -> Batch:
    """Keep at most `limit` random patches of each bag (fine-tuning only).

    Returns
    -------
    Batch
        Bags (B,min(limit,N),P); the batch itself if no bag is longer.
    """
    if batch.mask.shape[1] <= limit:
        return batch
    lottery = _uniform(batch.mask.shape, generator, batch.mask.device)
    chosen = lottery.masked_fill(~batch.mask, 2).argsort(1)[:, :limit]
    return _take(batch, chosen, batch.mask.gather(1, chosen))


def drop_genes(genes: Tensor, rate: float, *, generator: torch.Generator) -> Tensor:
    """Set single z-scores (B,G) to the training mean, 0, with probability `rate`."""
    return genes * (_uniform(genes.shape, generator, genes.device) >= rate)


def _take(batch: Batch, chosen: Tensor, mask: Tensor) -> Batch:
    """Rearrange the patches of a batch; padding becomes zeros."""
    features = batch.features.gather(1, _wide(chosen, batch.features.shape[2]))
    coords_um = batch.coords_um.gather(1, _wide(chosen, 2))
    return replace(
        batch,
        features=features * mask[..., None],
        coords_um=coords_um * mask[..., None],
        mask=mask,
    )


def _wide(index: Tensor, width: int) -> Tensor:
    return index[..., None].expand(-1, -1, width)


def _below(limit: Tensor, generator: torch.Generator) -> Tensor:
    """Draw an integer from 0 to below each limit (B,)."""
    return (_uniform(limit.shape, generator, limit.device) * limit).long()


def _uniform(
    shape: tuple[int, ...], generator: torch.Generator, device: torch.device
) -> Tensor:
    """Draw from [0, 1) in double precision, so that no product reaches its limit."""
    drawn = torch.rand(
        shape, generator=generator, device=generator.device, dtype=torch.float64
    )
    return drawn.to(device)
