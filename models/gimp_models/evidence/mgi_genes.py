"""What genes do to MGI's answer: attributions, and what if they were others.

Spec mgi, "What the viewer shows": gene attribution, counterfactual genes.

Letters: B regions, G genes, K classes of a mask, H W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gimp_models.errors import BatchError, ConfigError
from gimp_models.evidence.mgi import mask_probabilities
from gimp_models.evidence.path import FLOOR, TOLERANCE, PathSum, along_path
from gimp_models.mgi import Mgi
from gimp_models.overlap import predicted_classes
from gimp_models.precision import at_least_float32
from gimp_models.region import RegionBatch
from gimp_models.vit import ImageGrid

__all__ = [
    "Counterfactual",
    "counterfactual",
    "genes_at_mean",
    "genes_of",
    "mask_attributions",
    "mean_genes",
    "similarity_attributions",
]

SMALLEST_CHANGE = 1e-3
"""Changes of a similarity below this count as this in the completeness gap."""


@dataclass(frozen=True, slots=True, eq=False)
class Counterfactual:
    """The mask with the own genes and with others.

    Parameters
    ----------
    own, other
        (B,K,H,W) probabilities, 0 where no pixel is real.
    """

    own: Tensor
    other: Tensor

    @property
    def change(self) -> Tensor:
        """(B,K,H,W) other minus own, in [-1, 1]: where other genes add tissue."""
        return self.other - self.own


def similarity_attributions(
    model: Mgi, batch: RegionBatch, *, tolerance: float = TOLERANCE
) -> Iterator[PathSum]:
    """Integrate the image-gene similarity from the training mean to the profile.

    Parameters
    ----------
    model
        In evaluation mode.
    batch
        One region with genes; the image stays as it is.
    tolerance
        Largest completeness gap aimed at.

    Yields
    ------
    PathSum
        attribution (G,); in all the similarity minus that of the average profile.

    Raises
    ------
    BatchError
        If the batch has more than one region, or no genes.
    """
    genes = _one_profile(batch)
    with torch.no_grad():
        u = model.embed_images(model.encode_images(batch))

    def similarity(points: Tensor) -> Tensor:
        return (u * model.embed_genes(model.genes(points))).sum(-1)

    yield from along_path(
        similarity, genes, torch.zeros_like(genes), tolerance, floor=SMALLEST_CHANGE
    )


def mask_attributions(
    model: Mgi, batch: RegionBatch, *, tissue: int = 1, tolerance: float = TOLERANCE
) -> Iterator[PathSum]:
    """Integrate the sum of logits inside the predicted mask.

    The mask is the one predicted with the own genes and stays what it is along the
    path from the training mean to the profile.

    Parameters
    ----------
    model
        In evaluation mode.
    batch
        One region with genes; the image stays as it is.
    tissue
        Class of the mask; 1 where K = 1.
    tolerance
        Largest completeness gap aimed at.

    Yields
    ------
    PathSum
        attribution (G,); in all the sum inside the mask minus the same sum for the
        average profile.

    Raises
    ------
    BatchError
        If the batch has more than one region, no genes, or the mask is empty.
    ConfigError
        If the model makes its mask without genes.
    """
    genes = _one_profile(batch)
    if model.config.fusion == "none":
        raise ConfigError(
            "This model makes its mask from the image only (fusion 'none'), so "
            "genes have no part in it: train one that fuses them."
        )
    height, width = batch.images.shape[-2:]
    with torch.no_grad():
        image = model.encode_images(batch)
        logits, _ = model.segment(image, model.genes(genes), (height, width))
    inside = _predicted(logits, tissue) & batch.pixels
    channel = 0 if model.config.classes == 1 else tissue

    def inner_sum(points: Tensor) -> Tensor:
        several = _repeat(image, len(points))
        found, _ = model.segment(several, model.genes(points), (height, width))
        return (at_least_float32(found[:, channel]) * inside).sum((1, 2))

    floor = FLOOR * int(inside.sum())  # as much per pixel as for a single logit
    baseline = torch.zeros_like(genes)
    yield from along_path(inner_sum, genes, baseline, tolerance, floor=floor)


def counterfactual(model: Mgi, batch: RegionBatch, genes: Tensor) -> Counterfactual:
    """Segment the same regions with their own and with other genes.

    Parameters
    ----------
    model
        A fine-tuned model.
    batch
        Regions (B,3,H,W).
    genes
        (B,G) the other profiles: see `mean_genes`, `genes_of` and `genes_at_mean`.

    Returns
    -------
    Counterfactual
    """
    everybody = torch.ones_like(batch.has_genes)
    other = replace(batch, genes=genes, has_genes=everybody)
    own = mask_probabilities(model, batch)
    return Counterfactual(own, mask_probabilities(model, other))


def mean_genes(model: Mgi, batch: RegionBatch) -> Tensor:
    """Profiles (B,G) of the training cohort's mean, z = 0."""
    return batch.images.new_zeros(len(batch), model.config.genes)


def genes_of(batch: RegionBatch, profile: Tensor) -> Tensor:
    """Profiles (B,G) of another patient, (G,), for every region."""
    return profile.to(batch.images).expand(len(batch), -1)


def genes_at_mean(batch: RegionBatch, genes: Tensor) -> Tensor:
    """Own profiles (B,G) with one gene set at its training mean.

    Parameters
    ----------
    batch
        Regions with genes.
    genes
        (n,) int64 indices of the set's genes in the panel.

    Raises
    ------
    BatchError
        If no region has genes.
    """
    if batch.genes is None:
        raise BatchError(
            "No region of the batch has genes, so none can be moved to its mean: add "
            "a gene table."
        )
    return batch.genes.index_fill(1, genes.to(batch.genes.device), 0)


def _one_profile(batch: RegionBatch) -> Tensor:
    """Return the profile (1,G) of the only region."""
    if len(batch) != 1:
        raise BatchError(
            f"A path is integrated for one region, the batch has {len(batch)}: "
            "collate them one by one."
        )
    if batch.genes is None or not bool(batch.has_genes[0]):
        raise BatchError(
            "The region has no genes, so nothing can be attributed to them: add a "
            "gene table."
        )
    return batch.genes


def _predicted(logits: Tensor, tissue: int) -> Tensor:
    """Where (1,H,W) a class is predicted; never nowhere."""
    inside = predicted_classes(logits) == tissue
    if not bool(inside.any()):
        raise BatchError(
            f"No pixel is predicted as class {tissue}, so nothing can be attributed: "
            "choose another region or class."
        )
    return inside


def _repeat(image: ImageGrid, count: int) -> ImageGrid:
    """Return one region's tokens `count` times."""

    def several(tensor: Tensor) -> Tensor:
        return tensor.expand(count, *tensor.shape[1:])

    return replace(
        image,
        patches=several(image.patches),
        mask=several(image.mask),
        cls=several(image.cls),
        taps=tuple(several(tap) for tap in image.taps),
        pixels=several(image.pixels),
    )
