"""Losses of GiMP as functions of tensors (spec B and D)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from gimp_models.precision import at_least_float32

__all__ = [
    "batch_hard_triplets",
    "cosine_on",
    "interpolate_hidden",
    "masked_error",
    "pair_triplets",
    "standardise",
]

_EPS = 1e-6


def standardise(features: Tensor) -> Tensor:
    """Bring each vector (...,P) to mean 0 and variance 1 over P."""
    centred = features - features.mean(-1, keepdim=True)
    variance = centred.square().mean(-1, keepdim=True)
    return centred / (variance + _EPS).sqrt()


def masked_error(predicted: Tensor, target: Tensor, masked: Tensor) -> Tensor:
    """L_MPM: mean over masked patches of (1/P) ||f_hat - f||^2 (spec B).

    Parameters
    ----------
    predicted, target
        (B,N,P).
    masked
        (B,N) bool. Without a masked patch the loss is 0, with a live graph.

    Returns
    -------
    Tensor
        Scalar.
    """
    error = (at_least_float32(predicted) - at_least_float32(target)).square().mean(-1)
    return (error * masked).sum() / masked.sum().clamp_min(1)


def cosine_on(predicted: Tensor, target: Tensor, masked: Tensor) -> Tensor:
    """Mean cosine similarity of f_hat and f over the masked patches; scalar."""
    cosine = F.cosine_similarity(
        at_least_float32(predicted), at_least_float32(target), dim=-1
    )
    return (cosine * masked).sum() / masked.sum().clamp_min(1)


def interpolate_hidden(features: Tensor, masked: Tensor, mask: Tensor) -> Tensor:
    """Guess hidden patches trivially, from their visible neighbours in order.

    Parameters
    ----------
    features
        (B,N,P) in reading order.
    masked, mask
        (B,N) bool: hidden patches, and real (not padding) ones.

    Returns
    -------
    Tensor
        (B,N,P): linear interpolation between the nearest visible patch before and
        after, the nearer one at the ends, 0 where nothing is visible; visible
        patches are returned as they are.
    """
    before, after = _visible_neighbours(mask & ~masked)
    here = torch.arange(features.shape[1], device=features.device)
    gap = (after - before).clamp_min(1)
    weight = ((here - before) / gap)[..., None].to(features.dtype)
    both = _at(features, before) * (1 - weight) + _at(features, after) * weight
    return both * (mask & ~masked).any(1)[:, None, None]


def batch_hard_triplets(
    embedding: Tensor, labels: Tensor, *, margin: float = 0.3
) -> Tensor:
    """L_tri with the hardest positive and nearest negative of each anchor (spec D).

    Parameters
    ----------
    embedding
        (B,E) unit vectors.
    labels
        (B,) int64, -1 where unknown (such patients take no part).
    margin
        Required distance between nearest negative and farthest positive.

    Returns
    -------
    Tensor
        Scalar mean over anchors that own both; exactly 0 with a live graph if no
        anchor does.
    """
    embedding = at_least_float32(embedding)
    distance = torch.cdist(embedding, embedding)
    known = (labels >= 0)[:, None] & (labels >= 0)
    same = (labels[:, None] == labels) & known
    own = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    return _hinge(distance, distance, same & ~own, ~same & known, margin)


def pair_triplets(
    anchors: Tensor,
    positives: Tensor,
    pairs: Tensor,
    has_genes: Tensor,
    *,
    margin: float = 0.3,
) -> Tensor:
    """Label-free L_tri: matched against mismatched pairs of modalities (spec D).

    Parameters
    ----------
    anchors, positives
        (B,E) unit vectors of two views of the same patients.
    pairs
        (B,B,E) unit vectors of image i with genes j; the diagonal is not used.
    has_genes
        (B,) bool; patients without genes take no part.
    margin
        As in `batch_hard_triplets`.

    Returns
    -------
    Tensor
        Scalar; exactly 0 with a live graph if fewer than two patients have genes.
    """
    to_positive = at_least_float32(anchors - positives).norm(dim=-1)
    to_mismatch = at_least_float32(anchors[:, None] - pairs).norm(dim=-1)
    known = has_genes[:, None] & has_genes
    own = torch.eye(len(anchors), dtype=torch.bool, device=anchors.device)
    spread = to_positive[:, None].expand_as(to_mismatch)
    return _hinge(spread, to_mismatch, own & known, ~own & known, margin)


def _hinge(
    to_positive: Tensor,
    to_negative: Tensor,
    positive: Tensor,
    negative: Tensor,
    margin: float,
) -> Tensor:
    """Hinge per anchor (rows), mean over rows that own a positive and a negative."""
    farthest = to_positive.masked_fill(~positive, 0).amax(1)
    nearest = to_negative.masked_fill(~negative, 10).amin(1)  # unit vectors: <= 2
    owning = positive.any(1) & negative.any(1)
    hinge = (margin + farthest - nearest).clamp_min(0) * owning
    return hinge.sum() / owning.sum().clamp_min(1)


def _visible_neighbours(visible: Tensor) -> tuple[Tensor, Tensor]:
    """Index (B,N) of the nearest visible patch at or before, and at or after."""
    last = visible.shape[1]
    here = torch.arange(last, device=visible.device)
    before = torch.where(visible, here, -1).cummax(1).values
    after = torch.where(visible, here, last).flip(1).cummin(1).values.flip(1)
    first = torch.where(before < 0, after, before).clamp(max=last - 1)
    return first, torch.where(after >= last, before, after).clamp_min(0)


def _at(features: Tensor, index: Tensor) -> Tensor:
    return features.gather(1, index[..., None].expand(-1, -1, features.shape[2]))
