"""What Subspace is trained on: task, gene-guided consistency, coordination (spec 4, 5).

L = L_task + 0.5 L_cons(tumour) + 0.5 L_cons(micro). The coordination of the last
layer's gradient comes between backward and the optimiser's step, so it is a call of
its own.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gimp_models.bag import Batch
from gimp_models.consistency import ConsistencyKind, check_kind, consistency_loss
from gimp_models.coordination import (
    Coordination,
    CoordinationMode,
    Gather,
    check_mode,
    class_confidence,
    coordinate,
    survival_confidence,
)
from gimp_models.errors import BatchError, ConfigError
from gimp_models.objective.parts import LossParts
from gimp_models.precision import at_least_float32
from gimp_models.subspace import (
    BranchOutput,
    Subspace,
    SubspaceConfig,
    SubspaceOutput,
)
from gimp_models.survival import hazard_nll, intervals

__all__ = ["SubspaceFinetune", "subspace_parameter_groups"]


class SubspaceFinetune(nn.Module):
    """Classification or survival by both branches, guided by the genes (spec 4).

    The loop of a step::

        objective(batch, generator).total.backward()
        done = objective.coordinate()
        optimizer.step()

    Parts: `classify` (weighted cross-entropy) or `survive` (discrete-time likelihood)
    by the model's task, `consistency_tumour` and `consistency_micro`.

    Parameters
    ----------
    model
        The model to train.
    class_weights
        (C,) weights of the cross-entropy, None for equal ones; not for survival.
    consistency
        What of the sampled places is compared with the genes, see `consistency_loss`.
    lambda_consistency
        Weight of either branch's consistency.
    coordination
        What `coordinate` does: "project", "reflect" or "off".

    Raises
    ------
    ConfigError
        If `consistency` or `coordination` is unknown, or class weights are given for
        survival.
    """

    def __init__(
        self,
        model: Subspace,
        *,
        class_weights: Tensor | None = None,
        consistency: ConsistencyKind = "vgrid",
        lambda_consistency: float = 0.5,
        coordination: CoordinationMode = "project",
    ) -> None:
        super().__init__()
        check_kind(consistency)
        check_mode(coordination)
        self.model = model
        self.task = _task(model.config, class_weights)
        self.consistency: ConsistencyKind = consistency
        self.lambda_consistency = lambda_consistency
        self.coordination: CoordinationMode = coordination
        self._seen: tuple[Tensor, Tensor, Tensor] | None = None

    @property
    def choices(self) -> tuple[str, ...]:
        """What the paper leaves open about this stage, for the checkpoint's card."""
        return (
            f"Loss: {self.task.told} + {self.lambda_consistency:g} x consistency of "
            f"{self.consistency} for either branch, of patients with genes.",
            f"Gradient coordination: {self.coordination}; branches of equal or untold "
            "confidence are left alone.",
        )

    def forward(
        self,
        batch: Batch,
        generator: torch.Generator | None = None,
    ) -> LossParts:
        """Measure the loss on one batch.

        Parameters
        ----------
        batch
            Bags (B,N,P). Patients of unknown label or days add to the consistency
            only.
        generator
            Taken as by every objective; nothing is drawn here.

        Returns
        -------
        LossParts

        Raises
        ------
        BatchError
            If no patient of the batch has a label, or days for a survival task.
        """
        targets = self.task.targets(batch)
        output: SubspaceOutput = self.model(batch)
        tumour, micro = output.tumour, output.micro
        self._seen = tumour.feature.detach(), micro.feature.detach(), targets
        parts = {
            self.task.part: self.task(output.logits, targets),
            "consistency_tumour": self._consistency(tumour, batch.has_genes),
            "consistency_micro": self._consistency(micro, batch.has_genes),
        }
        weights = (1.0, self.lambda_consistency, self.lambda_consistency)
        pairs = zip(weights, parts.values(), strict=True)
        total = torch.stack([weight * part for weight, part in pairs]).sum()
        return LossParts(total, {name: part.detach() for name, part in parts.items()})

    def coordinate(self, gather: Gather | None = None) -> Coordination:
        """Coordinate the last layer's gradient (spec 5).

        Call it after backward and before the gradient is clipped and the optimiser
        steps; confidences are those of the batch of the last forward pass.

        Parameters
        ----------
        gather
            Collects rows over ranks, see `gimp_models.coordination.coordinate`.

        Returns
        -------
        Coordination
            What it saw and did; log its `conflicts`.

        Raises
        ------
        BatchError
            If there was no forward or no backward pass.
        """
        if self._seen is None:
            raise BatchError(
                "There is no batch to coordinate: call the objective on a batch, "
                "then backward() on its total, then coordinate()."
            )
        tumour, micro, targets = self._seen
        return coordinate(
            self.model.head,
            tumour,
            micro,
            targets,
            confidence=self.task.confidence,
            mode=self.coordination,
            gather=gather,
        )

    def _consistency(self, branch: BranchOutput, has_genes: Tensor) -> Tensor:
        """L_cons of one branch over patients with genes; the others all look alike."""
        heads = self.model.config.heads
        return consistency_loss(
            branch.genes[has_genes],
            branch.vgrid[has_genes.repeat_interleave(heads)],
            heads=heads,
            kind=self.consistency,
        )


def subspace_parameter_groups(
    model: Subspace, *, lr: float = 2e-4, weight_decay: float | None = None
) -> list[dict[str, Any]]:
    """Group the parameters for `torch.optim.Adam` (spec 6).

    The public code trains 10 to 20 epochs of batches of 8, the rate falling along a
    cosine per epoch.

    Parameters
    ----------
    model
        The model to train.
    lr
        Peak learning rate.
    weight_decay
        Adam's; None for the public code's: 0.1 for survival, else 0.01.

    Returns
    -------
    list of dict
        One group.
    """
    if weight_decay is None:
        weight_decay = 0.1 if model.config.task == "survival" else 0.01
    parameters = list(model.parameters())
    return [{"params": parameters, "lr": lr, "weight_decay": weight_decay}]


class _Classification(nn.Module):
    """Weighted cross-entropy over patients of known label (spec 4)."""

    part = "classify"
    confidence = staticmethod(class_confidence)

    def __init__(self, class_weights: Tensor | None) -> None:
        super().__init__()
        self.class_weights: Tensor | None
        self.register_buffer("class_weights", class_weights, persistent=False)
        self.told = f"cross-entropy, {_named(class_weights)} class weights,"

    def targets(self, batch: Batch) -> Tensor:
        """Labels (B,), -1 where unknown."""
        if not bool((batch.labels >= 0).any()):
            raise BatchError(
                f"None of the {len(batch)} patients of the batch has a label: "
                "fine-tuning needs labels from 0 to C - 1; complete the manifest."
            )
        return batch.labels

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        logits = at_least_float32(logits)
        weights = self.class_weights
        weights = None if weights is None else weights.to(logits)
        return F.cross_entropy(logits, labels, weight=weights, ignore_index=-1)


class _Survival(nn.Module):
    """Discrete-time likelihood over patients of known days (spec 4)."""

    part, told = "survive", "discrete-time likelihood"
    confidence = staticmethod(survival_confidence)

    def __init__(self, edges_days: tuple[float, ...]) -> None:
        super().__init__()
        self.edges_days = edges_days

    def targets(self, batch: Batch) -> Tensor:
        """Days and event (B,2) float64, days NaN where unknown."""
        days, event = batch.days, batch.event
        if days is None or event is None or not bool(days.isfinite().any()):
            raise BatchError(
                f"None of the {len(batch)} patients of the batch has days of "
                "follow-up: survival needs days and event; complete the manifest."
            )
        return torch.stack([days, event.to(days.dtype)], dim=1)

    def forward(self, logits: Tensor, outcome: Tensor) -> Tensor:
        days, event = outcome.unbind(1)
        return hazard_nll(logits, intervals(days, self.edges_days), event == 0)


def _task(
    config: SubspaceConfig, class_weights: Tensor | None
) -> _Classification | _Survival:
    if config.task == "classification":
        return _Classification(class_weights)
    if class_weights is not None:
        raise ConfigError(
            f"There are class weights for {config.endpoint}, a survival task: they "
            "belong to a classification; leave them out."
        )
    return _Survival(config.edges_days)


def _named(class_weights: Tensor | None) -> str:
    return "equal" if class_weights is None else "given"
