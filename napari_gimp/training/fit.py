"""The loop itself, on Lightning Fabric: epochs of steps, judged after each.

All randomness of an epoch follows from (seed, epoch), so a run that goes on from
the checkpoint of an epoch repeats exactly what it would have done without the
break, and no random state needs to be kept.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import torch
from gimp_models.bag import Bag, Batch, collate
from torch import nn

from napari_gimp.errors import RunError
from napari_gimp.training.plan import Plan
from napari_gimp.training.sampler import balanced_batches, steps_per_epoch
from napari_gimp.training.schedule import (
    draw_patches,
    epoch_randomness,
    make_fabric,
    rate_factor,
)

if TYPE_CHECKING:
    from gimp_models.objective import LossParts

CLIP_NORM = 1.0

Verdict = tuple[float, ...]
"""How good a model is; compared left to right, larger is better."""


class Objective(Protocol):
    """A model with its loss, for one stage."""

    model: nn.Module

    def __call__(self, batch: Batch, generator: torch.Generator) -> LossParts:
        """Return the loss of a batch and its named parts."""
        ...


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


Judge = Callable[[Objective, Sequence[Bag], torch.device], Judgement]


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
        Parameters with their share of the learning rate, [(parameters, share)].
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
        groups: Sequence[tuple[Iterable[nn.Parameter], float]],
        plan: Plan,
        *,
        judge: Judge,
        progress: Progress | None = None,
    ) -> None:
        self.objective = objective
        self.plan = plan
        self.progress = progress or Progress()
        self._judge = judge
        self._shares = [share for _, share in groups]
        self.optimizer = torch.optim.AdamW(
            [{"params": list(parameters)} for parameters, _ in groups],
            lr=plan.lr,
            weight_decay=plan.weight_decay,
        )
        self._fabric = make_fabric(plan)
        step = _Step(objective)
        self._module, self._optimizer = self._fabric.setup(step, self.optimizer)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        device: torch.device = self._fabric.device
        return device

    def epochs(
        self, train: Sequence[Bag], validation: Sequence[Bag], *, whole_bags: bool
    ) -> Iterator[EpochDone]:
        """Train on, yielding after each epoch; end with the plan or its patience.

        Parameters
        ----------
        train, validation
            Labelled bags.
        whole_bags
            False draws `max_patches` patches of larger bags at each step.
        """
        while self.progress.epoch < self.plan.epochs:
            if self.progress.stale >= self.plan.patience:
                return
            yield self._epoch(train, validation, whole_bags)

    def _epoch(
        self, train: Sequence[Bag], validation: Sequence[Bag], whole_bags: bool
    ) -> EpochDone:
        begin = time.perf_counter()
        with epoch_randomness(self.plan.seed, self.progress.epoch) as generator:
            parts = self._steps(train, generator, whole_bags)
        self.progress.epoch += 1
        judged = self._judge(self.objective, validation, self.device)
        better = self.progress.judge(judged.verdict)
        lr = self.optimizer.param_groups[0]["lr"]
        pace = {"lr": lr, "seconds": time.perf_counter() - begin}
        metrics = {**judged.metrics, **pace}
        return EpochDone(
            self.progress.epoch, self.progress.step, parts, metrics, better
        )

    def _steps(
        self, train: Sequence[Bag], generator: torch.Generator, whole_bags: bool
    ) -> dict[str, float]:
        self._module.train()
        labels = [int(bag.label or 0) for bag in train]
        total = self.plan.epochs * steps_per_epoch(labels, self.plan.batch)
        warmup = self.plan.warmup * total // self.plan.epochs
        sums: dict[str, float] = defaultdict(float)
        batches = list(balanced_batches(labels, self.plan.batch, generator))
        for positions in batches:
            bags = [train[p] for p in positions]
            if not whole_bags:
                bags = [draw_patches(b, self.plan.max_patches, generator) for b in bags]
            self._set_rate(rate_factor(self.progress.step, total, warmup))
            for name, value in self._step(collate(bags), generator).items():
                sums[name] += value / len(batches)
            self.progress.step += 1
        return dict(sums)

    def _step(self, batch: Batch, generator: torch.Generator) -> dict[str, float]:
        loss = self._module(batch.to(self.device), generator)
        self._optimizer.zero_grad(set_to_none=True)
        self._fabric.backward(loss.total)
        self._fabric.clip_gradients(
            self._module, self._optimizer, max_norm=CLIP_NORM, error_if_nonfinite=False
        )
        self._optimizer.step()
        named = {"total": loss.total, **loss.parts}
        values = {name: float(value.detach()) for name, value in named.items()}
        if not math.isfinite(values["total"]):
            raise RunError(
                f"The loss is {values['total']} at step {self.progress.step}. "
                "Lower lr, or look for broken features or genes; checkpoints/last is "
                "from before."
            )
        return values

    def _set_rate(self, factor: float) -> None:
        for group, share in zip(self.optimizer.param_groups, self._shares, strict=True):
            group["lr"] = self.plan.lr * share * factor


class _Step(nn.Module):
    """What Fabric wraps: its forward is the objective, so autocast covers it."""

    def __init__(self, objective: Objective) -> None:
        super().__init__()
        self.model = objective.model
        self._objective = [objective]  # hidden, or the model would be found twice

    def forward(self, batch: Batch, generator: torch.Generator) -> LossParts:
        return self._objective[0](batch, generator)
