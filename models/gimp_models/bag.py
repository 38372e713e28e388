"""A patient as a model sees one: a bag of patch features and a gene profile.

Shape letters, here and in every model: B patients, N patches of a bag, P patch
feature size, D model width, G genes, C classes, T tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from gimp_models.errors import BatchError


@dataclass(frozen=True, slots=True)
class Bag:
    """One patient.

    Parameters
    ----------
    features
        (N, P) float32, patch features in raster order.
    coords_um
        (N, 2) float32, patch centres (y, x) in slide um.
    genes
        (G,) float32, expression as z-scores of the training cohort; None for
        "slide only".
    label
        Class index, None where unknown.
    patient
        The patient's identifier in the cohort.
    days
        Days until death or last contact, None where unknown.
    event
        True if the patient died on that day, False if alive at last contact.

    Raises
    ------
    BatchError
        If the shapes do not fit each other.
    """

    features: Tensor
    coords_um: Tensor
    genes: Tensor | None = None
    label: int | None = None
    patient: str = ""
    days: float | None = None
    event: bool = False

    def __post_init__(self) -> None:
        if self.features.ndim != 2 or self.coords_um.shape != (len(self.features), 2):
            raise BatchError(
                "A bag needs features (N, P) and coords_um (N, 2), got "
                f"{tuple(self.features.shape)} and {tuple(self.coords_um.shape)}."
            )


@dataclass(frozen=True, slots=True)
class Batch:
    """Several bags, padded to one length.

    Parameters
    ----------
    features
        (B, N, P) float, zero where padded.
    coords_um
        (B, N, 2) float, zero where padded.
    mask
        (B, N) bool, True for real patches.
    genes
        (B, G) float z-scores, zero (the training mean) where absent; None if no
        bag of the batch has genes.
    has_genes
        (B,) bool, True for patients with a profile.
    labels
        (B,) int64, -1 where unknown.
    days
        (B,) float64 days until death or last contact, NaN where unknown; None if no
        patient has them.
    event
        (B,) bool, True where the patient died; None likewise.
    """

    features: Tensor
    coords_um: Tensor
    mask: Tensor
    genes: Tensor | None
    has_genes: Tensor
    labels: Tensor
    days: Tensor | None = None
    event: Tensor | None = None

    def __len__(self) -> int:
        return len(self.features)

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch on another device."""
        moved = {
            f.name: value.to(device, non_blocking=True)
            for f in fields(self)
            if (value := getattr(self, f.name)) is not None
        }
        return replace(self, **moved)


def collate(bags: Sequence[Bag]) -> Batch:
    """Pad bags of different length into one batch.

    Raises
    ------
    BatchError
        If there is no bag, or feature or gene sizes differ between bags.
    """
    if not bags:
        raise BatchError("A batch needs at least one bag, got none.")
    _check_equal("feature size P", {b.features.shape[1] for b in bags})
    sizes = {len(b.genes) for b in bags if b.genes is not None}
    _check_equal("number of genes G", sizes)
    pad = torch.nn.utils.rnn.pad_sequence
    lengths = torch.tensor([len(b.features) for b in bags])
    return Batch(
        features=pad([b.features for b in bags], batch_first=True),
        coords_um=pad([b.coords_um for b in bags], batch_first=True),
        mask=torch.arange(int(lengths.max()))[None] < lengths[:, None],
        genes=_stack_genes(bags, sizes.pop()) if sizes else None,
        has_genes=torch.tensor([b.genes is not None for b in bags]),
        labels=torch.tensor([-1 if b.label is None else b.label for b in bags]),
        **_survival(bags),
    )


def check_width(what: str, tensor: Tensor, expected: int) -> None:
    """Refuse a tensor (...,W) whose last axis is not as wide as the model needs.

    Parameters
    ----------
    what
        What the axis counts, for the message.
    tensor
        Of a batch.
    expected
        W of the model.

    Raises
    ------
    BatchError
        If it is not.
    """
    if tensor.shape[-1] != expected:
        raise BatchError(
            f"The batch has {tensor.shape[-1]} {what}, the model needs {expected}: "
            "use the encoder and the gene panel of the model's card."
        )


def _stack_genes(bags: Sequence[Bag], size: int) -> Tensor:
    absent = torch.zeros(size)
    return torch.stack([absent if b.genes is None else b.genes for b in bags])


def _survival(bags: Sequence[Bag]) -> dict[str, Tensor]:
    if all(bag.days is None for bag in bags):
        return {}
    days = [math.nan if bag.days is None else bag.days for bag in bags]
    return {
        "days": torch.tensor(days, dtype=torch.float64),
        "event": torch.tensor([bag.event for bag in bags]),
    }


def _check_equal(what: str, values: set[int]) -> None:
    if len(values) > 1:
        raise BatchError(f"All bags of a batch need one {what}, got {sorted(values)}.")
