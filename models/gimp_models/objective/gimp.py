"""GiMP's two stages: model and batch to named loss parts (spec B, D, E)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gimp_models.bag import Batch
from gimp_models.errors import BatchError, ConfigError
from gimp_models.gimp import Gimp
from gimp_models.losses import (
    batch_hard_triplets,
    cosine_on,
    interpolate_hidden,
    masked_error,
    pair_triplets,
    standardise,
)
from gimp_models.masking import draw_mask, drop_genes, sample_patches, sample_window
from gimp_models.objective.parts import LossParts
from gimp_models.precision import at_least_float32

__all__ = [
    "GimpFinetune",
    "GimpPretrain",
    "Triplets",
    "parameter_groups",
]

Triplets = Literal["labels", "pairs"]

_PAIR_GENE_DROPOUT = 0.2  # second view of a patient in "pairs" mode


class GimpPretrain(nn.Module):
    """Masked patch modelling and triplets: L = L_MPM + lambda L_tri.

    Window, share and mode of masking are the model's config. Parts:
    `patches` (L_MPM), `patches_trivial` (the same loss of linear interpolation between
    visible neighbours; a model that does not beat it has learned nothing),
    `patches_cosine`, `patches_trivial_cosine`, `triplet`.

    Parameters
    ----------
    model
        The model to train.
    lambda_triplet
        Weight of the triplet loss; 0 leaves the gene branch untrained.
    margin
        Margin of the triplet loss on unit vectors.
    triplets
        "labels": batch-hard by class, so pre-train inside each training fold.
        "pairs": label-free; matched against mismatched image and genes.

    Raises
    ------
    ConfigError
        If `triplets` is unknown.
    """

    def __init__(
        self,
        model: Gimp,
        *,
        lambda_triplet: float = 1.0,
        margin: float = 0.3,
        triplets: Triplets = "labels",
    ) -> None:
        super().__init__()
        if triplets not in get_args(Triplets):
            raise ConfigError(
                f"There are no triplets {triplets!r}: choose labels or pairs."
            )
        self.model = model
        self.lambda_triplet = lambda_triplet
        self.margin = margin
        self.triplets = triplets

    @property
    def choices(self) -> tuple[str, ...]:
        """What the paper leaves open about this stage, for the checkpoint's card."""
        known = {
            "labels": "batch-hard by class label inside the training fold",
            "pairs": "label-free: second view of the patient (another window, "
            f"{_PAIR_GENE_DROPOUT:g} of the genes dropped) against mismatched pairs",
        }
        return (
            f"Triplets: {known[self.triplets]}, margin {self.margin:g}.",
            f"Pre-training loss: patches + {self.lambda_triplet:g} x triplets.",
        )

    def forward(self, batch: Batch, generator: torch.Generator) -> LossParts:
        """Measure the loss on one batch.

        Parameters
        ----------
        batch
            Whole bags (B,N,P); windows are drawn here.
        generator
            Draws windows, masks and gene dropout.

        Returns
        -------
        LossParts
        """
        view = _masked_view(self.model, batch, generator)
        genes, _ = self.model.encode_genes(batch)
        embedding = self.model.project(view.image_token, genes)
        if self.triplets == "labels":
            triplet = batch_hard_triplets(embedding, batch.labels, margin=self.margin)
        else:
            triplet = self._pairs(batch, view.image_token, genes, embedding, generator)
        total = view.loss + self.lambda_triplet * triplet
        return LossParts(total, {**view.parts, "triplet": triplet.detach()})

    def _pairs(
        self,
        batch: Batch,
        image_token: Tensor,
        gene_token: Tensor,
        anchors: Tensor,
        generator: torch.Generator,
    ) -> Tensor:
        """Contrast each patient with a second view of itself and with mismatches."""
        second = _masked_view(self.model, batch, generator)
        genes, _ = self.model.encode_genes(_drop(batch, generator))
        positives = self.model.project(second.image_token, genes)
        count = len(batch)
        images = image_token[:, None].expand(-1, count, -1)
        pairs = self.model.project(images, gene_token[None].expand(count, -1, -1))
        return pair_triplets(
            anchors, positives, pairs, batch.has_genes, margin=self.margin
        )


class GimpFinetune(nn.Module):
    """Classification by both modalities (spec E).

    The heads of one modality alone learn beside it from detached tokens, so they
    change nothing else.

    Parts: `classify` (the cross-entropy that trains the encoders), `image`, `genes`
    (heads of one modality), and those of masked patch modelling if kept.

    Parameters
    ----------
    model
        The model to train.
    class_weights
        (C,) weights of the cross-entropy, None for equal ones.
    max_patches
        Random subsample of each bag in training; evaluation sees whole bags.
    lambda_patches
        Weight of masked patch modelling, kept up so that the reconstruction maps stay
        those of the fine-tuned encoder; 0 is the plain fine-tuning of the spec.
    """

    def __init__(
        self,
        model: Gimp,
        *,
        class_weights: Tensor | None = None,
        max_patches: int = 4096,
        lambda_patches: float = 0.0,
    ) -> None:
        super().__init__()
        self.model = model
        self.max_patches = max_patches
        self.lambda_patches = lambda_patches
        self.class_weights: Tensor | None
        self.register_buffer("class_weights", class_weights, persistent=False)

    @property
    def choices(self) -> tuple[str, ...]:
        """What the paper leaves open about this stage, for the checkpoint's card."""
        weights = "equal" if self.class_weights is None else "given"
        told = [
            f"Fine-tuning: cross-entropy, {weights} class weights, at most "
            f"{self.max_patches} random patches of a slide per step.",
        ]
        if self.lambda_patches:
            kept = f"{self.lambda_patches:g} x masked patch loss"
            told.append(f"Fine-tuning keeps {kept}, for true reconstruction maps.")
        return tuple(told)

    def forward(self, batch: Batch, generator: torch.Generator) -> LossParts:
        """Measure the loss on one batch.

        Parameters
        ----------
        batch
            Whole bags (B,N,P); patients of unknown label (-1) are passed over.
        generator
            Draws the subsample, windows and masks.

        Returns
        -------
        LossParts

        Raises
        ------
        BatchError
            If no patient of the batch has a label.
        """
        if not bool((batch.labels >= 0).any()):
            raise BatchError(
                f"None of the {len(batch)} patients of the batch has a label: "
                "fine-tuning needs labels from 0 to C - 1; complete the manifest."
            )
        total, parts = self._classify(batch, generator)
        if self.lambda_patches:
            view = _masked_view(self.model, batch, generator)
            total, parts = total + self.lambda_patches * view.loss, parts | view.parts
        return LossParts(total, parts)

    def _classify(
        self, batch: Batch, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        model = self.model
        seen = batch
        if self.training:
            seen = sample_patches(batch, self.max_patches, generator=generator)
        image, (genes, _) = model.encode_image(seen).cls, model.encode_genes(seen)
        with_genes = seen.labels.masked_fill(~seen.has_genes, -1)
        parts = {
            "classify": self._entropy(model.classify(image, genes), seen.labels),
            "image": self._entropy(model.image_head(image.detach()), seen.labels),
            "genes": self._entropy(model.gene_head(genes.detach()), with_genes),
        }
        total = torch.stack(list(parts.values())).sum()
        return total, {name: part.detach() for name, part in parts.items()}

    def _entropy(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy over known labels; 0 with a live graph if there are none."""
        if not bool((labels >= 0).any()):
            return logits.sum() * 0
        logits, weights = at_least_float32(logits), self.class_weights
        weights = None if weights is None else weights.to(logits)
        return F.cross_entropy(logits, labels, weight=weights, ignore_index=-1)


def parameter_groups(
    model: Gimp, *, lr: float, encoder_scale: float = 0.1, weight_decay: float = 1e-4
) -> list[dict[str, Any]]:
    """Split the parameters for fine-tuning: heads at `lr`, encoders slower (spec E).

    Returns
    -------
    list of dict
        Two groups for a torch optimizer: heads, encoders.
    """
    encoders = [*model.image.parameters(), *model.genes.parameters()]
    slow = set(map(id, encoders))
    heads = [p for p in model.parameters() if id(p) not in slow]
    return [
        {"params": heads, "lr": lr, "weight_decay": weight_decay},
        {"params": encoders, "lr": lr * encoder_scale, "weight_decay": weight_decay},
    ]


@dataclass(frozen=True, slots=True)
class _MaskedView:
    """One masked pass: L_MPM with its parts, and the class token c_I (B,D)."""

    loss: Tensor
    parts: dict[str, Tensor]
    image_token: Tensor


def _masked_view(model: Gimp, batch: Batch, generator: torch.Generator) -> _MaskedView:
    config = model.config
    seen = sample_window(batch, config.window, order=config.order, generator=generator)
    masked = draw_mask(
        seen.mask, config.mask_ratio, mode=config.mask_mode, generator=generator
    )
    image = model.encode_image(seen, masked)
    predicted = model.predict_patches(image.patches)
    target = standardise(seen.features) if config.standardise_target else seen.features
    loss = masked_error(predicted, target, masked)
    trivial = interpolate_hidden(target, masked, seen.mask)
    parts = {
        "patches": loss.detach(),
        "patches_cosine": cosine_on(predicted, target, masked).detach(),
        "patches_trivial": masked_error(trivial, target, masked),
        "patches_trivial_cosine": cosine_on(trivial, target, masked),
    }
    return _MaskedView(loss, parts, image.cls)


def _drop(batch: Batch, generator: torch.Generator) -> Batch:
    if batch.genes is None:
        return batch
    dropped = drop_genes(batch.genes, _PAIR_GENE_DROPOUT, generator=generator)
    return replace(batch, genes=dropped)
