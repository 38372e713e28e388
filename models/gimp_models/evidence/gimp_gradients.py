"""What moved a logit of GiMP: contributions of patches, attributions of genes.

Integrated gradients on two straight paths, each from a patient of whom nothing is
known to the one at hand: the average patch in place of every patch, the training
mean (z = 0) in place of every gene. The other modality stays as it is. Spec gimp,
"What the viewer shows": patch contribution, gene attribution.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from gimp_models.bag import Batch
from gimp_models.errors import BatchError
from gimp_models.evidence.path import TOLERANCE, PathSum, along_path
from gimp_models.gimp import Gimp

__all__ = ["Classify", "gene_attributions", "patch_contributions"]

PATCHES_AT_ONCE = 16_384
"""Patches in one pass, both points together: bounds memory for large bags."""

Classify = Callable[[Tensor], Tensor]
"""Image tokens (K,D) to logits (K,C)."""


def patch_contributions(
    model: Gimp,
    batch: Batch,
    classify: Classify,
    target: int,
    *,
    tolerance: float = TOLERANCE,
) -> Iterator[PathSum]:
    """Integrate from the average patch, in place of every patch, to the bag.

    Parameters
    ----------
    model
        In evaluation mode; `feature_mean` is the baseline.
    batch
        One patient.
    classify
        Image tokens (K,D) to logits (K,C); it knows the genes, if any.
    target
        Class index.
    tolerance
        Largest completeness gap aimed at.

    Yields
    ------
    PathSum
        attribution (N,), summed over features; in all the logit minus the logit of
        a bag of average patches.

    Raises
    ------
    BatchError
        If the batch has more than one patient.
    """
    _require_one(batch)

    def logit(features: Tensor) -> Tensor:
        several = _repeat(batch, len(features), features=features)
        return classify(model.encode_image(several).cls)[:, target]

    at_once = max(1, PATCHES_AT_ONCE // batch.features.shape[1])
    baseline = model.feature_mean.expand_as(batch.features)
    for part in along_path(logit, batch.features, baseline, tolerance, at_once):
        yield replace(part, attribution=part.attribution.sum(-1))


def gene_attributions(
    model: Gimp, batch: Batch, target: int, *, tolerance: float = TOLERANCE
) -> Iterator[PathSum]:
    """Integrate from the training mean (z = 0) to the patient's profile.

    Parameters
    ----------
    model
        In evaluation mode.
    batch
        One patient with genes; patches stay as they are.
    target
        Class index.
    tolerance
        Largest completeness gap aimed at.

    Yields
    ------
    PathSum
        attribution (G,); in all the logit minus the logit of the average profile.

    Raises
    ------
    BatchError
        If the batch has more than one patient, or no genes.
    """
    _require_one(batch)
    if batch.genes is None or not bool(batch.has_genes[0]):
        raise BatchError(
            "The patient has no genes, so nothing can be attributed to them: add a "
            "gene table."
        )
    with torch.no_grad():
        image_token = model.encode_image(batch).cls

    def logit(genes: Tensor) -> Tensor:
        token = model.genes(genes).cls
        return model.classify(image_token.expand(len(genes), -1), token)[:, target]

    baseline = torch.zeros_like(batch.genes)
    yield from along_path(logit, batch.genes, baseline, tolerance)


def _require_one(batch: Batch) -> None:
    if len(batch) != 1:
        raise BatchError(
            f"A path is integrated for one patient, the batch has {len(batch)}: "
            "collate them one by one."
        )


def _repeat(batch: Batch, count: int, *, features: Tensor) -> Batch:
    """Return one patient's slide `count` times, with other features."""
    return Batch(
        features=features,
        coords_um=batch.coords_um.expand(count, -1, -1),
        mask=batch.mask.expand(count, -1),
        genes=None,
        has_genes=torch.zeros(count, dtype=torch.bool, device=features.device),
        labels=batch.labels.expand(count),
    )
