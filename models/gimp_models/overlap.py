"""Masks against masks: losses of segmentation and its scores (mgi D and F).

Letters: B regions, K maps of a model (1 for one tissue against the rest), H, W
pixels. A pixel of class -1 is unknown and takes no part in anything here.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from gimp_models.errors import BatchError
from gimp_models.precision import at_least_float32

__all__ = [
    "Overlap",
    "Spread",
    "class_overlap",
    "dice_loss",
    "dice_score",
    "hard_dice",
    "hd95_um",
    "iou_score",
    "mask_loss_parts",
    "overlap",
    "pixel_entropy",
    "predicted_classes",
    "probabilities",
    "spread",
]


def probabilities(logits: Tensor) -> Tensor:
    """Return p (B,K,H,W) of logits: a sigmoid for K = 1, else a softmax over K.

    In float32 at least.
    """
    exact = at_least_float32(logits)
    return exact.sigmoid() if logits.shape[1] == 1 else exact.softmax(1)


def predicted_classes(logits: Tensor) -> Tensor:
    """Class (B,H,W) int64 of each pixel: p > 1/2 for K = 1, else the most probable."""
    if logits.shape[1] == 1:
        return (logits[:, 0] > 0).long()
    return logits.argmax(1)


def dice_loss(logits: Tensor, masks: Tensor, *, smooth: float = 1.0) -> Tensor:
    """1 - (2 sum p y + s) / (sum p + sum y + s), with s = 1 (spec D).

    Parameters
    ----------
    logits
        (B,K,H,W).
    masks
        (B,H,W) int64 classes: 0 or 1 for K = 1, else 0 to K - 1; -1 unknown.
    smooth
        s; a class that is neither present nor predicted then costs nothing.

    Returns
    -------
    Tensor
        Scalar: mean over the K classes of each region, then over regions with a
        known pixel; 0 with a live graph if there is none.
    """
    known, truth = _known(masks), _one_hot(masks, logits.shape[1])
    p = probabilities(logits) * known[:, None]
    both = (p * truth).sum((2, 3))
    dice = (2 * both + smooth) / (p.sum((2, 3)) + truth.sum((2, 3)) + smooth)
    usable = known.flatten(1).any(1)
    return ((1 - dice.mean(1)) * usable).sum() / usable.sum().clamp_min(1)


def pixel_entropy(
    logits: Tensor, masks: Tensor, *, class_weights: Tensor | None = None
) -> Tensor:
    """Cross-entropy of the pixels: binary for K = 1, else over classes (spec D).

    Parameters
    ----------
    logits, masks
        As in `dice_loss`.
    class_weights
        (K,), or (2,) for K = 1: background, tissue. The mean is weighted likewise.

    Returns
    -------
    Tensor
        Scalar mean over known pixels; 0 with a live graph if there is none.
    """
    exact = at_least_float32(logits)
    if logits.shape[1] == 1:  # BCE is the cross-entropy of (0, logit)
        exact = torch.cat([torch.zeros_like(exact), exact], dim=1)
    weights = None if class_weights is None else class_weights.to(exact)
    each = F.cross_entropy(
        exact, masks, weight=weights, ignore_index=-1, reduction="none"
    )
    share = _known(masks).to(exact)
    if weights is not None:
        share = share * weights[masks.clamp_min(0)]
    return each.sum() / share.sum().clamp_min(torch.finfo(exact.dtype).tiny)


def hard_dice(logits: Tensor, masks: Tensor) -> Tensor:
    """Dice of the predicted classes, as a yardstick beside the loss.

    Parameters
    ----------
    logits, masks
        As in `dice_loss`.

    Returns
    -------
    Tensor
        Scalar float32: mean over tissue classes (1 to K - 1, or 1) and regions; both
        empty 1, one empty 0.
    """
    tissue = torch.arange(1, max(logits.shape[1], 2), device=masks.device)
    tissue = tissue[:, None, None]
    ours = (predicted_classes(logits)[:, None] == tissue) & _known(masks)[:, None]
    truth = masks[:, None] == tissue
    both = (ours & truth).sum((2, 3))
    total = ours.sum((2, 3)) + truth.sum((2, 3))
    return torch.where(total > 0, 2 * both / total, 1.0).mean()


def mask_loss_parts(
    logits: Tensor, masks: Tensor, *, class_weights: Tensor | None = None
) -> dict[str, Tensor]:
    """Both losses of segmentation, `dice` and `entropy`, after a check of the masks.

    Raises
    ------
    BatchError
        If a class of the masks is none of the model's, or their size is not that of
        the logits.
    """
    _check(logits, masks)
    entropy = pixel_entropy(logits, masks, class_weights=class_weights)
    return {"dice": dice_loss(logits, masks), "entropy": entropy}


@dataclass(frozen=True, slots=True)
class Overlap:
    """Pixels of a found and of a true mask; the sum of two is that of both regions.

    Parameters
    ----------
    both, found, truth
        Pixels in both masks, in the found one, in the true one.
    """

    both: int
    found: int
    truth: int

    def __add__(self, other: Overlap) -> Overlap:
        return Overlap(
            self.both + other.both, self.found + other.found, self.truth + other.truth
        )

    @property
    def dice(self) -> float:
        """2 |both| / (|found| + |truth|); both empty 1, one empty 0."""
        total = self.found + self.truth
        return 2 * self.both / total if total else 1.0

    @property
    def iou(self) -> float:
        """|both| / |either|; both empty 1, one empty 0."""
        either = self.found + self.truth - self.both
        return self.both / either if either else 1.0


def overlap(found: Tensor, truth: Tensor, known: Tensor | None = None) -> Overlap:
    """Count a found and a true mask.

    Add what a patient's regions give before asking for Dice or IoU: scores are per
    patient, not per region (spec F).

    Parameters
    ----------
    found, truth
        Bool, of one shape.
    known
        Bool likewise: pixels that count; None for all.
    """
    if known is not None:
        found, truth = found & known, truth & known
    counts = torch.stack([(found & truth).sum(), found.sum(), truth.sum()])
    return Overlap(*counts.tolist())


def class_overlap(found: Tensor, masks: Tensor, tissue: int) -> Overlap:
    """Count one tissue over the known pixels.

    Parameters
    ----------
    found, masks
        Int64 classes of one shape.
    tissue
        The class that is counted.
    """
    return overlap(found == tissue, masks == tissue, masks >= 0)


def dice_score(found: Tensor, truth: Tensor, known: Tensor | None = None) -> float:
    """Dice of two masks; both empty 1, one empty 0. Arguments as in `overlap`."""
    return overlap(found, truth, known).dice


def iou_score(found: Tensor, truth: Tensor, known: Tensor | None = None) -> float:
    """Intersection over union; both empty 1, one empty 0. As in `overlap`."""
    return overlap(found, truth, known).iou


def hd95_um(found: Tensor, truth: Tensor, *, mpp: float) -> float:
    """Distance of two outlines: the larger of both 95th percentiles (spec F).

    A percentile is that of the distances from each outline pixel of one mask to the
    nearest of the other; an outline pixel belongs to the mask and has one of its four
    neighbours outside it, or outside the region.

    Parameters
    ----------
    found, truth
        (H,W) bool.
    mpp
        um per pixel.

    Returns
    -------
    float
        um; 0 if both masks are empty, infinite if one is.
    """
    ours, theirs = _outline(found), _outline(truth)
    if not len(ours) or not len(theirs):
        return 0.0 if len(ours) == len(theirs) else float("inf")
    there = _nearest(ours, theirs).quantile(0.95)
    back = _nearest(theirs, ours).quantile(0.95)
    return mpp * float(torch.maximum(there, back))


@dataclass(frozen=True, slots=True)
class Spread:
    """Scores of several patients: mean, median, standard deviation (n - 1), count."""

    mean: float
    median: float
    sd: float
    count: int


def spread(scores: list[float]) -> Spread:
    """Summarise scores of patients (spec F); NaN where there are too few.

    Parameters
    ----------
    scores
        One per patient.
    """
    values = torch.tensor(scores, dtype=torch.float64)
    nothing = float("nan")
    sd = float(values.std()) if len(scores) > 1 else nothing
    if not scores:
        return Spread(nothing, nothing, sd, 0)
    return Spread(float(values.mean()), float(values.quantile(0.5)), sd, len(scores))


_PAIRS_AT_ONCE = 4_000_000  # distances held at once: 32 MB in double precision


def _known(masks: Tensor) -> Tensor:
    return masks >= 0


def _one_hot(masks: Tensor, classes: int) -> Tensor:
    """(B,H,W) classes to (B,K,H,W) floats; K = 1 keeps class 1; unknown is 0."""
    first = 1 if classes == 1 else 0
    wanted = torch.arange(first, first + classes, device=masks.device)
    return (masks[:, None] == wanted[:, None, None]).float()


def _check(logits: Tensor, masks: Tensor) -> None:
    if logits.shape[:1] + logits.shape[2:] != masks.shape:
        raise BatchError(
            f"The masks are {tuple(masks.shape)}, the logits {tuple(logits.shape)}: "
            "both need the size of the regions."
        )
    most = max(logits.shape[1] - 1, 1)
    highest = int(masks.max())
    if highest > most:
        raise BatchError(
            f"A mask holds class {highest}, the model knows 0 to {most}: map the "
            "annotations to its classes, or set the pixels to -1 (unknown)."
        )


def _outline(mask: Tensor) -> Tensor:
    """Outline pixels (n,2) as (y, x)."""
    around = F.pad(mask, (1, 1, 1, 1))
    inner = around[:-2, 1:-1] & around[2:, 1:-1] & around[1:-1, :-2] & around[1:-1, 2:]
    return (mask & ~inner).nonzero().double()


def _nearest(points: Tensor, others: Tensor) -> Tensor:
    """Distance (n,) of each point to the nearest of the others, in pixels."""
    rows = max(1, _PAIRS_AT_ONCE // len(others))
    parts = (points[start : start + rows] for start in range(0, len(points), rows))
    return torch.cat([torch.cdist(part, others).amin(1) for part in parts])
