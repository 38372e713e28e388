"""The loop itself, on Lightning Fabric: epochs of steps, judged after each.

All randomness of an epoch follows from (seed, epoch), so a run that goes on from
the checkpoint of an epoch repeats exactly what it would have done without the
break, and no random state needs to be kept.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from gimp_models.bag import Bag, Batch, collate
from gimp_models.gimp import Gimp
from gimp_models.objective import LossParts, parameter_groups
from torch import Tensor, nn

from napari_gimp.errors import RunError
from napari_gimp.training.plan import Plan
from napari_gimp.training.sampler import balanced_batches, steps_per_epoch
from napari_gimp.training.schedule import (
    epoch_randomness,
    make_fabric,
    rate_factor,
)

CLIP_NORM = 1.0

Verdict = tuple[float, ...]
"""How good a model is; compared left to right, larger is better."""


Objective = nn.Module
"""A model with its loss: called with (Batch, Generator), returns LossParts."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What validation says.

    Parameters
    ----------
    verdict
        For choosing the best epoch.
    metrics
        For people.
    """

    verdict: Verdict
    metrics: Mapping[str, float]


Judge = Callable[[Sequence[Bag], torch.device], Judgement]


@dataclass(slots=True)
class Progress:
    """How far a training is; saved with every checkpoint.

    Parameters
    ----------
    epoch, step
        Finished epochs and optimiser steps.
    best
        Verdict of the best epoch so far; empty before the first.
    best_epoch
        Its number.
    """

    epoch: int = 0
    step: int = 0
    best: Verdict = ()
    best_epoch: int = 0

    @property
    def stale(self) -> int:
        """Epochs since the best one."""
        return self.epoch - self.best_epoch

    def judge(self, verdict: Verdict) -> bool:
        """Take note of an epoch's verdict; return whether it is the best."""
        better = not self.best or verdict > self.best
        if better:
            self.best, self.best_epoch = verdict, self.epoch
        return better


@dataclass(frozen=True, slots=True)
class EpochDone:
    """One finished epoch.

    Parameters
    ----------
    epoch, step
        Finished epochs and steps.
    parts
        Mean of each loss part over the epoch's steps.
    metrics
        Of the validation patients, with `lr` and `seconds` of the epoch.
    better
        Whether it is the best so far.
    """

    epoch: int
    step: int
    parts: Mapping[str, float]
    metrics: Mapping[str, float] = field(default_factory=dict)
    better: bool = False


class Trainer:
    """A model in training: objective, optimiser, progress.

    Parameters
    ----------
    objective
        Model and loss.
    groups
        Parameter groups of the optimiser, each with its peak `lr`.
    plan
        The schedule.
    judge
        Validation.
    progress
        Where to go on; from the beginning if None.
    """

    def __init__(
        self,
        objective: Objective,
        groups: Sequence[dict[str, Any]],
        plan: Plan,
        *,
        judge: Judge,
        progress: Progress | None = None,
    ) -> None:
        self.objective = objective
        self.plan = plan
        self.progress = progress or Progress()
        self._judge = judge
        self._peaks = [float(group["lr"]) for group in groups]
        self.optimizer = torch.optim.AdamW(groups, weight_decay=plan.weight_decay)
        self._fabric = make_fabric(plan)
        self._module, self._optimizer = self._fabric.setup(
            _Step(objective), self.optimizer
        )

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        device: torch.device = self._fabric.device
        return device

    def epochs(
        self, train: Sequence[Bag], validation: Sequence[Bag]
    ) -> Iterator[EpochDone]:
        """Train on, yielding after each epoch; end with the plan or its patience."""
        while self.progress.epoch < self.plan.epochs:
            if self.progress.stale >= self.plan.patience:
                return
            yield self._epoch(train, validation)

    def _epoch(self, train: Sequence[Bag], validation: Sequence[Bag]) -> EpochDone:
        begin = time.perf_counter()
        with epoch_randomness(self.plan.seed, self.progress.epoch) as generator:
            parts = self._steps(train, generator)
        self.progress.epoch += 1
        self._module.eval()
        judged = self._judge(validation, self.device)
        better = self.progress.judge(judged.verdict)
        lr = self.optimizer.param_groups[0]["lr"]
        pace = {"lr": lr, "seconds": time.perf_counter() - begin}
        return EpochDone(
            epoch=self.progress.epoch,
            step=self.progress.step,
            parts=parts,
            metrics={**judged.metrics, **pace},
            better=better,
        )

    def _steps(
        self, train: Sequence[Bag], generator: torch.Generator
    ) -> dict[str, float]:
        self._module.train()
        labels = labels_of(train)
        per_epoch = steps_per_epoch(labels, self.plan.batch)
        total, warmup = self.plan.epochs * per_epoch, self.plan.warmup * per_epoch
        sums: dict[str, float] = defaultdict(float)
        for positions in balanced_batches(labels, self.plan.batch, generator):
            self._set_rate(rate_factor(self.progress.step, total, warmup))
            batch = collate([train[p] for p in positions])
            batch = noisy(batch, self.plan.gene_noise, generator)
            for name, value in self._step(batch, generator).items():
                sums[name] += value / per_epoch
            self.progress.step += 1
        return dict(sums)

    def _step(self, batch: Batch, generator: torch.Generator) -> dict[str, float]:
        total, parts = self._module(_Opaque(batch.to(self.device), generator))
        if not bool(total.isfinite()):
            raise RunError(
                f"The loss is {float(total.detach())} at step {self.progress.step}. "
                "Lower lr, or look for broken features or genes; checkpoints/last is "
                "from before."
            )
        self._optimizer.zero_grad(set_to_none=True)
        self._fabric.backward(total)
        self._fabric.clip_gradients(self._module, self._optimizer, max_norm=CLIP_NORM)
        self._optimizer.step()
        return {
            name: float(v.detach()) for name, v in {"total": total, **parts}.items()
        }

    def _set_rate(self, factor: float) -> None:
        for group, peak in zip(self.optimizer.param_groups, self._peaks, strict=True):
            group["lr"] = peak * factor


def noisy(batch: Batch, sd: float, generator: torch.Generator) -> Batch:
    """Return the batch with Gaussian noise on the z-scores of those who have genes.

    Like a ridge penalty it spreads the weight over genes that move together: with
    tens of patients and thousands of genes, single genes are learned by heart.
    """
    if batch.genes is None or sd == 0:
        return batch
    noise = sd * torch.randn(batch.genes.shape, generator=generator)
    return replace(batch, genes=batch.genes + noise * batch.has_genes[:, None])


def rate_groups(
    model: Gimp, plan: Plan, *, slow_encoders: bool
) -> list[dict[str, Any]]:
    """Return the optimiser's groups: encoders that know something learn slowly."""
    return parameter_groups(
        model,
        lr=plan.lr,
        encoder_scale=plan.encoder_share if slow_encoders else 1.0,
        weight_decay=plan.weight_decay,
    )


def labels_of(bags: Sequence[Bag]) -> list[int]:
    """Return the class index of each bag; every bag of a cohort has one."""
    return [bag.label for bag in bags if bag.label is not None]


class _Opaque:
    """Handed through by Fabric untouched: it refuses frozen dataclasses as inputs."""

    def __init__(self, batch: Batch, generator: torch.Generator) -> None:
        self.batch = batch
        self.generator = generator


class _Step(nn.Module):
    """What Fabric wraps: its forward is the objective, so autocast covers it."""

    def __init__(self, objective: Objective) -> None:
        super().__init__()
        self.objective = objective

    def forward(self, given: _Opaque) -> tuple[Tensor, dict[str, Tensor]]:
        loss: LossParts = self.objective(given.batch, given.generator)
        return loss.total, dict(loss.parts)
