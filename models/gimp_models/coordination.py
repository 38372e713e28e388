"""Gradient coordination between two branches that share a last layer (subspace 5).

Between backward and the optimiser's step, class row by class row: where the two
halves of the last layer's gradient point against each other, the half of the less
confident branch gives way. Nothing but `head.weight.grad` is touched.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, distributed, nn

from gimp_models.errors import BatchError, ConfigError
from gimp_models.survival import concordance, risk

__all__ = [
    "Coordination",
    "CoordinationMode",
    "check_mode",
    "class_confidence",
    "coordinate",
    "gather_rows",
    "survival_confidence",
]

CoordinationMode = Literal["off", "project", "reflect"]
BranchName = Literal["tumour", "micro"]
Confidence = Callable[[Tensor, Tensor], Tensor]
Gather = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Coordination:
    """What one coordination saw and did.

    Parameters
    ----------
    rho
        s_t / s_m, confidence of the tumour branch over that of the micro branch; NaN
        if none can be told.
    conflicts
        Class rows whose two halves point against each other; also counted where they
        are left alone.
    rows
        C, all class rows.
    lower
        The less confident branch, whose half gives way; None if neither is (equal or
        untold confidence): then nothing is changed.
    """

    rho: float
    conflicts: int
    rows: int
    lower: BranchName | None


def coordinate(
    head: nn.Linear,
    tumour: Tensor,
    micro: Tensor,
    targets: Tensor,
    *,
    confidence: Confidence,
    mode: CoordinationMode = "project",
    gather: Gather | None = None,
) -> Coordination:
    """Let the less confident branch give way in `head.weight.grad` (spec 5).

    Call it between backward and the optimiser's step. With several ranks call it on
    every rank, after the gradients were averaged: confidences are measured over the
    patients of all ranks, so all apply the same change. The change does not depend on
    the gradient's scale, so a scaled loss (float16) needs no unscaling first.

    Parameters
    ----------
    head
        The last layer, weight (C,2D) on [tumour ; micro], with its gradient.
    tumour, micro
        (B,D) features of the branches from the forward pass.
    targets
        (B,) labels or (B,K) numbers, as `confidence` takes them.
    confidence
        From logits (B,C) of one branch and targets to its scalar confidence s:
        `class_confidence` or `survival_confidence`.
    mode
        "project" (default) takes the conflicting part out of the lower branch's half.
        "reflect" turns that part round and restores a length, as the public code.
        "off" changes nothing, but says how often rows conflict.
    gather
        Puts the rows (B,...) of all ranks below each other; by default those of
        `torch.distributed` where it is initialised (see `gather_rows`).

    Returns
    -------
    Coordination

    Raises
    ------
    ConfigError
        If `mode` is unknown.
    BatchError
        If there is no gradient yet, or the features do not fit the layer.
    """
    check_mode(mode)
    half = _halves(head, tumour, micro)
    scores = _branch_logits(head, tumour, micro)
    s_t, s_m = _confidences(scores, targets, confidence, gather or gather_rows)
    lower = _less_confident(s_t, s_m)
    against = (half["tumour"].double() * half["micro"].double()).sum(1) < 0
    if lower is not None:
        hi = half["micro" if lower == "tumour" else "tumour"][against].double()
        lo = half[lower][against].double()
        half[lower][against] = _CHANGES[mode](lo, hi).to(half[lower].dtype)
    rho = float(s_t / s_m)
    return Coordination(rho, int(against.sum()), len(against), lower)


def check_mode(mode: CoordinationMode) -> None:
    """Refuse a mode that does not exist.

    Raises
    ------
    ConfigError
        If `mode` is none of off, project and reflect.
    """
    if mode not in get_args(CoordinationMode):
        raise ConfigError(
            f"There is no coordination {mode!r}: choose off, project or reflect."
        )


def class_confidence(logits: Tensor, labels: Tensor) -> Tensor:
    """Measure s = sum_i softmax(o_i)[y_i] over patients of known label (spec 5.2).

    Parameters
    ----------
    logits
        (B,C) of one branch.
    labels
        (B,) or (B,1) class indices, -1 where unknown.

    Returns
    -------
    Tensor
        Scalar from 0 to B.
    """
    labels = labels.reshape(-1, 1).long()
    own = logits.softmax(1).gather(1, labels.clamp_min(0))
    return (own * (labels >= 0)).sum()


def survival_confidence(logits: Tensor, outcome: Tensor) -> Tensor:
    """C-index of a branch's risk in the batch (spec 5.2).

    Parameters
    ----------
    logits
        (B,C) of one branch.
    outcome
        (B,2) days (NaN where unknown) and event (1 for died).

    Returns
    -------
    Tensor
        Scalar; NaN if no two patients compare.
    """
    return concordance(risk(logits), outcome[:, 0], outcome[:, 1] > 0)


def gather_rows(rows: Tensor) -> Tensor:
    """Put the rows of all ranks below each other, in the order of the ranks.

    Parameters
    ----------
    rows
        (B,K) of this rank; B may differ between ranks, as in the last batch.

    Returns
    -------
    Tensor
        (sum of B,K), the same on every rank; `rows` itself where `torch.distributed`
        is not initialised.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return rows
    world = distributed.get_world_size()
    count = torch.tensor([len(rows)], device=rows.device)
    counts = [torch.empty_like(count) for _ in range(world)]
    distributed.all_gather(counts, count)
    sizes = [int(size) for size in counts]
    padded = rows.new_zeros(max(sizes), *rows.shape[1:])
    padded[: len(rows)] = rows
    found = [torch.empty_like(padded) for _ in range(world)]
    distributed.all_gather(found, padded)
    pairs = zip(found, sizes, strict=True)
    return torch.cat([theirs[:size] for theirs, size in pairs])


def _halves(head: nn.Linear, tumour: Tensor, micro: Tensor) -> dict[BranchName, Tensor]:
    """View the two halves (C,D) of the layer's gradient."""
    width = head.in_features // 2
    if tumour.shape[1] != width or micro.shape[1] != width:
        raise BatchError(
            f"A last layer of {head.in_features} inputs needs two branches of {width} "
            f"features, got {tumour.shape[1]} and {micro.shape[1]}."
        )
    if head.weight.grad is None:
        raise BatchError(
            "The last layer has no gradient to coordinate: call loss.backward() "
            "before, and optimizer.step() after the coordination."
        )
    grad = head.weight.grad
    return {"tumour": grad[:, :width], "micro": grad[:, width:]}


@torch.no_grad()
def _branch_logits(head: nn.Linear, tumour: Tensor, micro: Tensor) -> Tensor:
    """o_t = f_t W_t^T + b/2 and o_m likewise (spec 5.1), (B,2,C).

    In float64, which autocast leaves alone: both branches are close to each other.
    """
    weights = head.weight.double().chunk(2, dim=1)
    branches = zip((tumour, micro), weights, strict=True)
    scores = torch.stack([f.double() @ w.T for f, w in branches], dim=1)
    return scores if head.bias is None else scores + head.bias.double() / 2


def _confidences(
    scores: Tensor, targets: Tensor, confidence: Confidence, gather: Gather
) -> tuple[Tensor, Tensor]:
    """s_t and s_m over the patients of all ranks, gathered in one go."""
    rows = len(targets)
    own = torch.cat([scores.flatten(1), targets.reshape(rows, -1).double()], dim=1)
    tumour, micro, rest = gather(own).tensor_split(_cuts(scores), dim=1)
    return confidence(tumour, rest), confidence(micro, rest)


def _cuts(scores: Tensor) -> tuple[int, int]:
    return scores.shape[2], 2 * scores.shape[2]


def _less_confident(tumour: Tensor, micro: Tensor) -> BranchName | None:
    if bool(tumour < micro):
        return "tumour"
    return "micro" if bool(micro < tumour) else None  # neither where NaN


def _keep(lo: Tensor, _: Tensor) -> Tensor:
    return lo


def _project(lo: Tensor, hi: Tensor) -> Tensor:
    """Return lo - p with p = (lo.hi / |hi|^2) hi, rows (R,D) (spec 5.4)."""
    return lo - _along(lo, hi)


def _reflect(lo: Tensor, hi: Tensor) -> Tensor:
    """Return |lo - p| (lo - 2p) / |lo - 2p|, as the public code (spec 5.4)."""
    p = _along(lo, hi)
    turned = lo - 2 * p
    scale = _length(lo - p) / _length(turned)
    return scale * turned


def _length(rows: Tensor) -> Tensor:
    return rows.square().sum(1, keepdim=True).sqrt()


def _along(lo: Tensor, hi: Tensor) -> Tensor:
    """p, the part of lo along hi; never called where hi is 0: no conflict there."""
    share = (lo * hi).sum(1, keepdim=True) / hi.square().sum(1, keepdim=True)
    return share * hi


_CHANGES: dict[CoordinationMode, Callable[[Tensor, Tensor], Tensor]] = {
    "off": _keep,
    "project": _project,
    "reflect": _reflect,
}
