"""MGI's two stages: model and batch to named loss parts (spec C and D)."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor, nn

from gimp_models.augment import Augmentation
from gimp_models.contrast import contrastive_loss, retrieval
from gimp_models.errors import BatchError
from gimp_models.mamba import no_weight_decay
from gimp_models.mgi import Mgi
from gimp_models.objective.parts import LossParts
from gimp_models.overlap import hard_dice, mask_loss_parts
from gimp_models.region import RegionBatch

__all__ = ["MgiFinetune", "MgiPretrain", "mgi_parameter_groups"]


class MgiPretrain(nn.Module):
    """Contrast of images and gene profiles (spec C).

    Trains both encoders, both projections and the temperature; fusion and decoder
    wait for `MgiFinetune`.

    Parts: `contrast` (the loss), `recall_1` (share of the regions whose most similar
    profile in the batch is their own) beside `recall_1_chance`, and `scale`,
    exp(theta).

    Parameters
    ----------
    model
        The model to train.
    augmentation
        What training does to each batch; evaluation sees regions as they are.
    """

    def __init__(self, model: Mgi, *, augmentation: Augmentation | None = None) -> None:
        super().__init__()
        self.model = model
        self.augmentation = augmentation or Augmentation()

    @property
    def choices(self) -> tuple[str, ...]:
        """What the paper leaves open about this stage, for the checkpoint's card."""
        return (
            "Pre-training: image-gene contrast, all regions of a patient are right "
            "answers for its profile.",
            f"Augmentation: {self.augmentation}.",
        )

    def forward(self, batch: RegionBatch, generator: torch.Generator) -> LossParts:
        """Measure the loss on one batch.

        Parameters
        ----------
        batch
            Regions (B,3,H,W); those without a profile are passed over. Only several
            patients teach something.
        generator
            Draws the augmentation.

        Returns
        -------
        LossParts

        Raises
        ------
        BatchError
            If no region of the batch has genes.
        """
        if not bool(batch.has_genes.any()):
            raise BatchError(
                f"None of the {len(batch)} regions of the batch has genes: contrast "
                "needs pairs; give gene profiles, or pre-train on other patients."
            )
        model = self.model
        seen = _take(batch, batch.has_genes)
        if self.training:
            model.hold_scale()
            seen = self.augmentation(seen, generator)
        u = model.embed_images(model.encode_images(seen))
        g = model.embed_genes(model.encode_genes(seen))
        loss = contrastive_loss(u, g, seen.patients, model.scale())
        found = retrieval(u.detach(), g.detach(), seen.patients).profiles
        parts = {
            "contrast": loss.detach(),
            "recall_1": loss.new_tensor(found.recall_1),
            "recall_1_chance": loss.new_tensor(found.chance_1),
            "scale": model.scale().detach(),
        }
        return LossParts(loss, parts)


class MgiFinetune(nn.Module):
    """Segmentation by both modalities: Dice plus cross-entropy (spec D).

    Trains both encoders, fusion and decoder; projections and temperature stay as
    pre-training left them. With `fusion="none"` the gene encoder learns nothing.

    Parts: `dice` and `entropy`, whose sum is the loss, and `dice_score`, the Dice of
    the thresholded mask: mean over tissue classes and annotated regions.

    Parameters
    ----------
    model
        The model to train.
    augmentation
        What training does to each batch; evaluation sees regions as they are.
    class_weights
        Weights of the cross-entropy: (K,), or (2,) for K = 1 (background, tissue);
        None for equal ones.
    """

    def __init__(
        self,
        model: Mgi,
        *,
        augmentation: Augmentation | None = None,
        class_weights: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.augmentation = augmentation or Augmentation()
        self.class_weights: Tensor | None
        self.register_buffer("class_weights", class_weights, persistent=False)

    @property
    def choices(self) -> tuple[str, ...]:
        """What the paper leaves open about this stage, for the checkpoint's card."""
        weights = "equal" if self.class_weights is None else "given"
        return (
            "Fine-tuning: Dice (smooth 1, mean over classes, then over regions) plus "
            f"cross-entropy, {weights} class weights; unknown pixels take no part.",
            f"Augmentation: {self.augmentation}.",
        )

    def forward(self, batch: RegionBatch, generator: torch.Generator) -> LossParts:
        """Measure the loss on one batch.

        Parameters
        ----------
        batch
            Regions (B,3,H,W) with masks; those without one are passed over.
        generator
            Draws the augmentation.

        Returns
        -------
        LossParts

        Raises
        ------
        BatchError
            If no region of the batch has a known pixel, or a mask holds a class that
            the model does not know.
        """
        seen = _annotated(batch)
        if self.training:
            seen = self.augmentation(seen, generator)
        assert seen.masks is not None
        model = self.model
        height, width = seen.images.shape[-2:]
        logits, _ = model.segment(
            model.encode_images(seen), model.encode_genes(seen), (height, width)
        )
        parts = mask_loss_parts(logits, seen.masks, class_weights=self.class_weights)
        total = torch.stack(list(parts.values())).sum()
        logged = {name: part.detach() for name, part in parts.items()}
        score = hard_dice(logits.detach(), seen.masks)
        return LossParts(total, {**logged, "dice_score": score})


def mgi_parameter_groups(
    model: Mgi,
    *,
    lr: float = 1e-4,
    encoder_scale: float = 0.1,
    weight_decay: float = 0.01,
) -> list[dict[str, Any]]:
    """Split the parameters for AdamW: decoder at `lr`, encoders slower (spec D).

    Nothing is pulled towards zero that zero would break: Mamba's A_log, skip and
    delta bias (spec B), and the temperature theta.

    Parameters
    ----------
    model
        The model to train.
    lr
        Learning rate of fusion, decoder, projections and temperature.
    encoder_scale
        What `lr` is multiplied by for the image and the gene encoder; 1 where they
        are trained from scratch.
    weight_decay
        Of all other parameters.

    Returns
    -------
    list of dict
        Groups for a torch optimizer: heads and encoders, each with and without weight
        decay; every parameter is in exactly one.
    """
    free = no_weight_decay(model) | {"log_scale"}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        scale = encoder_scale if name.startswith(("vit.", "genes.")) else 1.0
        key = (lr * scale, 0.0 if name in free else weight_decay)
        groups.setdefault(key, []).append(parameter)
    return [
        {"params": parameters, "lr": rate, "weight_decay": decay}
        for (rate, decay), parameters in groups.items()
    ]


def _take(batch: RegionBatch, rows: Tensor) -> RegionBatch:
    """Keep some regions of a batch, by a mask (B,)."""
    if bool(rows.all()):
        return batch
    chosen = {
        f.name: value[rows]
        for f in fields(batch)
        if (value := getattr(batch, f.name)) is not None
    }
    return replace(batch, **chosen)


def _annotated(batch: RegionBatch) -> RegionBatch:
    """Keep the regions with a known pixel."""
    if batch.masks is None or not bool((batch.masks >= 0).any()):
        raise BatchError(
            f"None of the {len(batch)} regions of the batch has a known pixel: "
            "fine-tuning needs masks; annotate regions or import GeoJSON."
        )
    return _take(batch, (batch.masks >= 0).flatten(1).any(1))
