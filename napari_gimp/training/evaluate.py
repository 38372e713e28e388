"""Measure a fine-tuned run on the patients it never saw, beside its baselines."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_gimp.errors import RunError
from napari_gimp.training.metrics import (
    METRICS,
    RESAMPLES,
    Probabilities,
    Score,
    as_dict,
    confusion,
    measure_with_intervals,
)
from napari_gimp.training.run import RunConfig, RunFolder, write_text

if TYPE_CHECKING:
    from gimp_models.checkpoint import Checkpoint
    from gimp_models.gimp import Gimp

    from napari_gimp.training.data import CohortBags

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Row:
    """One predictor.

    Parameters
    ----------
    name
        What it sees and what it is.
    how
        How it was trained, in a sentence.
    scores
        Metric to value and interval.
    """

    name: str
    how: str
    scores: dict[str, Score]


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the model says of one held-out patient."""

    patient: str
    label: str
    probabilities: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Results on held-out patients.

    Parameters
    ----------
    run
        The run folder.
    classes
        Class names.
    rows
        The model first, then what it must beat.
    confusion
        Of the model: rows are true classes, columns predicted ones.
    predictions
        Of the model, one per patient.
    patches
        Where patches were asked for, see `PatchPlan.record`.
    """

    run: Path
    classes: tuple[str, ...]
    rows: tuple[Row, ...]
    confusion: tuple[tuple[int, ...], ...]
    predictions: tuple[Prediction, ...]
    patches: Mapping[str, object]

    def table(self) -> str:
        """Return the results as text in columns of equal width."""
        return "\n".join([*self._scores(), "", *self._confusion(), "", *self._notes()])

    def to_json(self) -> str:
        """Return the results as JSON."""
        content = asdict(self) | {"run": str(self.run)}
        return json.dumps(content, indent=1, ensure_ascii=False)

    def _scores(self) -> Iterator[str]:
        width = max(len(row.name) for row in self.rows)
        yield " " * width + "".join(f"  {m.replace('_', ' '):<20}" for m in METRICS)
        for row in self.rows:
            cells = "".join(f"  {row.scores[m]!s:<20}" for m in METRICS)
            yield f"{row.name:<{width}}{cells}".rstrip()

    def _confusion(self) -> Iterator[str]:
        width = max(len(c) for c in (*self.classes, "true \\ predicted"))
        yield "  ".join(f"{c:>{width}}" for c in ("true \\ predicted", *self.classes))
        for name, counts in zip(self.classes, self.confusion, strict=True):
            yield "  ".join(f"{c:>{width}}" for c in (name, *counts))

    def _notes(self) -> Iterator[str]:
        yield f"{len(self.predictions)} held-out patients; [95 % bootstrap interval]."
        for row in self.rows:
            yield f"{row.name}: {row.how}"


def evaluate(
    folder: Path | str,
    *,
    resamples: int = RESAMPLES,
    report: Report | None = None,
) -> Evaluation:
    """Measure a run's best checkpoint, train its baselines, and write the results.

    Writes `evaluation.json` into the run folder and the metrics into the card of
    `checkpoints/best`.

    Parameters
    ----------
    folder
        Folder of a fine-tuned run.
    resamples
        Bootstrap samples of each interval.
    report
        Called with a line before each baseline.

    Raises
    ------
    RunError
        If it is no fine-tuned run, is still in training, or its cohort is no longer
        the same.
    """
    from gimp_models.checkpoint import load_as
    from gimp_models.gimp import Gimp

    from napari_gimp.training.launch import check_free

    run, tell = read_run(Path(folder)), report or (lambda _: None)
    check_free(run.folder)  # or the card of one epoch meets the weights of another
    checkpoint = load_as(run.folder.best, Gimp)
    bags = held_out_bags(run, checkpoint)
    tell("the model")
    predicted = [(_NAME, _HOW, model_probabilities(checkpoint, bags))]
    predicted += list(baseline_probabilities(run, bags, tell))
    evaluation = _evaluation(run, bags, predicted, resamples)
    write_text(run.out / "evaluation.json", evaluation.to_json() + "\n")
    _complete_card(run.folder.best, checkpoint, evaluation)
    return evaluation


def read_run(folder: Path) -> RunConfig:
    """Return the configuration of a fine-tuned run's folder.

    Raises
    ------
    RunError
        If the folder holds no fine-tuned checkpoint.
    """
    files = RunFolder(folder)
    run = replace(RunConfig.read(files.config), out=folder.resolve())
    if run.stage != "finetune":
        raise RunError(
            f"{folder} is a {run.stage} run, which does not classify. Fine-tune from "
            "it (start = this folder) and evaluate that run."
        )
    if not files.best.is_dir():
        raise RunError(f"{folder} has no checkpoint yet. Train first.")
    return run


def held_out_bags(run: RunConfig, checkpoint: Checkpoint[Gimp]) -> CohortBags:
    """Return the run's bags, aligned to the checkpoint's panel.

    Raises
    ------
    RunError
        If the split is no longer the one the run was trained with.
    """
    from napari_gimp.training.prepare import gather_bags
    from napari_gimp.training.state import TrainingState

    bags = gather_bags(run, checkpoint.card)
    if bags.split != TrainingState.read(run.folder.best).split:
        raise RunError(
            f"The manifest {run.manifest} has changed since the run was trained, so "
            "its held-out patients are no longer the same. Put the old one back, or "
            "train anew."
        )
    return bags


_NAME = "slide + genes: GiMP"
_HOW = "the run's best epoch by validation cross-entropy."
_Predicted = tuple[str, str, Probabilities]


def model_probabilities(
    checkpoint: Checkpoint[Gimp], bags: CohortBags
) -> Probabilities:
    """Return the model's probabilities (n, C) for the test patients."""
    import torch

    from napari_gimp.training.judge import pair_logits, softmax
    from napari_gimp.training.predict import predict

    logits = pair_logits(checkpoint.model)
    return softmax(predict(logits, bags.test, torch.device("cpu")))


def baseline_probabilities(
    run: RunConfig, bags: CohortBags, tell: Report
) -> Iterator[_Predicted]:
    """Yield name, explanation and test probabilities (n, C) of each baseline."""
    from napari_gimp.training import baselines
    from napari_gimp.training.prepare import starting_model

    linear = "penalty chosen on the validation patients."
    alone = (
        "trained alone from the same start with the same plan; the other modality "
        "withheld."
    )
    name = "genes: logistic regression"
    tell(name)
    yield name, f"on z-scores; {linear}", baselines.predict_from_genes(bags)
    for branch in ("genes", "slide"):
        name = f"{branch}: branch alone"
        tell(name)
        model, slow = starting_model(run, bags)
        probabilities = baselines.predict_from_branch(
            model, bags, run.plan, branch, pretrained=slow
        )
        yield name, alone, probabilities
    name = "slide: logistic regression"
    tell(name)
    mean = baselines.predict_from_mean_features(bags)
    yield name, f"on the mean patch feature; {linear}", mean


def _evaluation(
    run: RunConfig,
    bags: CohortBags,
    predicted: Sequence[_Predicted],
    resamples: int,
) -> Evaluation:
    from napari_gimp.training.data import plans_of

    labels = np.array([bag.label for bag in bags.test], dtype=np.int64)
    rows = [
        Row(name, how, measure_with_intervals(labels, found, resamples=resamples))
        for name, how, found in predicted
    ]
    model = predicted[0][2]
    return Evaluation(
        run=run.out,
        classes=bags.classes,
        rows=tuple(rows),
        confusion=confusion(labels, model),
        predictions=tuple(
            Prediction(bag.patient, bags.classes[label], tuple(map(float, p)))
            for bag, label, p in zip(bags.test, labels, model, strict=True)
        ),
        patches=plans_of(bags),
    )


def _complete_card(
    folder: Path, checkpoint: Checkpoint[Gimp], evaluation: Evaluation
) -> None:
    test = {row.name: as_dict(row.scores) for row in evaluation.rows}
    patients = len(evaluation.predictions)
    metrics = {**checkpoint.card.metrics, "test": test, "test_patients": patients}
    card = replace(checkpoint.card, metrics=metrics).as_dict()
    text = json.dumps(card, indent=1, ensure_ascii=False, allow_nan=False)
    write_text(folder / "card.json", text + "\n")
