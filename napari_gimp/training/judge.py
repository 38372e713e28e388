"""How an epoch is judged on the validation patients, per stage."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from gimp_models.bag import Bag, Batch, collate
from gimp_models.gimp import Gimp
from gimp_models.objective import GimpPretrain
from torch import Tensor

from napari_gimp.errors import RunError
from napari_gimp.training.fit import Judge, Judgement, labels_of
from napari_gimp.training.metrics import measure
from napari_gimp.training.plan import Plan
from napari_gimp.training.predict import Logits, predict
from napari_gimp.training.sampler import balanced_batches, steps_per_epoch

_FIXED = 20_23  # validation windows and masks are the same in every epoch


def pretrain_judge(objective: GimpPretrain, plan: Plan) -> Judge:
    """Judge by the loss of validation patients, always with the same masks."""

    def judge(bags: Sequence[Bag], device: torch.device) -> Judgement:
        labels, generator = labels_of(bags), torch.Generator().manual_seed(_FIXED)
        steps = steps_per_epoch(labels, plan.batch)
        sums: dict[str, float] = {}
        for positions in balanced_batches(labels, plan.batch, generator):
            batch = collate([bags[p] for p in positions]).to(device)
            with torch.inference_mode():
                loss = objective(batch, generator)
            for name, value in {"total": loss.total, **loss.parts}.items():
                sums[name] = sums.get(name, 0.0) + float(value) / steps
        return Judgement((-_finite(sums["total"]),), sums)

    return judge


def finetune_judge(logits: Logits) -> Judge:
    """Judge by the cross-entropy of validation patients.

    Their AUC was tried first: with tens of patients it is a matter of luck, and it
    chose first epochs that could not tell two of the classes apart.
    """

    def judge(bags: Sequence[Bag], device: torch.device) -> Judgement:
        found, labels = predict(logits, bags, device), torch.tensor(labels_of(bags))
        loss = _finite(float(F.cross_entropy(found, labels)))
        scores = measure(labels.numpy(), softmax(found))
        return Judgement((-loss,), {"loss": loss, **scores})

    return judge


def pair_logits(model: Gimp) -> Logits:
    """Return batch -> logits (B, C) of both modalities.

    A patient without genes is judged by the image head, as `napari-gimp run` answers.
    """

    def logits(batch: Batch) -> Tensor:
        out = model(batch)
        return torch.where(batch.has_genes[:, None], out.logits, out.image_logits)

    return logits


def _finite(loss: float) -> float:
    # Nothing is better than NaN: the first epoch would be kept for ever.
    if not math.isfinite(loss):
        raise RunError(
            f"The loss of the validation patients is {loss}. Lower lr, or look for "
            "broken features or genes; checkpoints/last is from before."
        )
    return loss


def softmax(logits: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Return probabilities (n, C) in double precision, so that rows sum to 1."""
    return np.asarray(logits.double().softmax(1).numpy(), dtype=np.float64)
