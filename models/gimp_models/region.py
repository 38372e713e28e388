"""A region of a slide as MGI sees it: pixels, a gene profile and a tissue mask.

Letters beside those of `bag.py`: H, W pixels of a region, K classes of a mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from gimp_models.errors import BatchError

__all__ = ["Region", "RegionBatch", "collate_regions"]

UNKNOWN = -1
"""Class of a pixel nobody has annotated; it takes no part in any loss."""


@dataclass(frozen=True, slots=True)
class Region:
    """One image of one patient.

    Parameters
    ----------
    image
        (3,H,W) float32 RGB in [0, 1].
    genes
        (G,) float32 z-scores of the training cohort; None for "image only".
    mask
        (H,W) int64 class of each pixel, 0 for background, -1 where unknown; None if
        the region has no annotation.
    patient
        The patient's identifier: regions of one patient share one profile.

    Raises
    ------
    BatchError
        If the shapes do not fit each other.
    """

    image: Tensor
    genes: Tensor | None = None
    mask: Tensor | None = None
    patient: str = ""

    def __post_init__(self) -> None:
        if self.image.ndim != 3 or len(self.image) != 3:
            raise BatchError(
                f"A region's image is {tuple(self.image.shape)}, it must be (3, H, W): "
                "give RGB with the channels first."
            )
        if self.mask is not None and self.mask.shape != self.image.shape[1:]:
            raise BatchError(
                f"A region's mask is {tuple(self.mask.shape)}, it must be the image's "
                f"{tuple(self.image.shape[1:])}: draw it on the same region."
            )


@dataclass(frozen=True, slots=True)
class RegionBatch:
    """Several regions, padded to one size at the bottom and the right.

    Parameters
    ----------
    images
        (B,3,H,W) float RGB in [0, 1], zero where padded.
    pixels
        (B,H,W) bool, True for real pixels.
    genes
        (B,G) float z-scores, zero (the training mean) where absent; None if no
        region of the batch has genes.
    has_genes
        (B,) bool, True for regions with a profile.
    masks
        (B,H,W) int64 classes, -1 where unknown or padded; None if no region has one.
    patients
        (B,) int64, equal for regions of the same patient. Regions without a
        patient's name count as patients of their own.
    """

    images: Tensor
    pixels: Tensor
    genes: Tensor | None
    has_genes: Tensor
    masks: Tensor | None
    patients: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device: torch.device | str) -> RegionBatch:
        """Return the batch on another device."""
        moved = {
            f.name: value.to(device, non_blocking=True)
            for f in fields(self)
            if (value := getattr(self, f.name)) is not None
        }
        return replace(self, **moved)


def collate_regions(regions: Sequence[Region]) -> RegionBatch:
    """Pad regions of different size into one batch.

    Raises
    ------
    BatchError
        If there is no region, or the number of genes differs between regions.
    """
    if not regions:
        raise BatchError("A batch needs at least one region, got none.")
    sizes = {len(r.genes) for r in regions if r.genes is not None}
    if len(sizes) > 1:
        raise BatchError(
            f"All regions of a batch need one number of genes G, got {sorted(sizes)}."
        )
    height = max(r.image.shape[1] for r in regions)
    width = max(r.image.shape[2] for r in regions)
    real = [torch.ones(r.image.shape[1:], dtype=torch.bool) for r in regions]
    return RegionBatch(
        images=torch.stack([_padded(r.image, height, width) for r in regions]),
        pixels=torch.stack([_padded(r, height, width) for r in real]),
        genes=_stack_genes(regions, sizes.pop()) if sizes else None,
        has_genes=torch.tensor([r.genes is not None for r in regions]),
        masks=_stack_masks(regions, height, width),
        patients=_number_patients(regions),
    )


def _padded(image: Tensor, height: int, width: int, value: float = 0) -> Tensor:
    below, right = height - image.shape[-2], width - image.shape[-1]
    return F.pad(image, (0, right, 0, below), value=value)


def _stack_genes(regions: Sequence[Region], size: int) -> Tensor:
    absent = torch.zeros(size)
    return torch.stack([absent if r.genes is None else r.genes for r in regions])


def _stack_masks(regions: Sequence[Region], height: int, width: int) -> Tensor | None:
    if all(region.mask is None for region in regions):
        return None
    unknown = torch.full((height, width), UNKNOWN)
    masks = (r.mask for r in regions)
    return torch.stack(
        [unknown if m is None else _padded(m, height, width, UNKNOWN) for m in masks]
    )


def _number_patients(regions: Sequence[Region]) -> Tensor:
    names = [r.patient or f"\0{i}" for i, r in enumerate(regions)]
    number = {name: index for index, name in enumerate(dict.fromkeys(names))}
    return torch.tensor([number[name] for name in names])
