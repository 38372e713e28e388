"""How good predictions are, with bootstrap intervals over patients.

Every number comes from scikit-learn; `auc` is macro-averaged, one class against
the rest, and `f1` macro-averaged over classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

METRICS = ("accuracy", "balanced_accuracy", "auc", "f1")
RESAMPLES = 500

Labels = NDArray[np.int64]
Probabilities = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Score:
    """A metric with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def measure(labels: Labels, probabilities: Probabilities) -> dict[str, float]:
    """Return the metrics of predictions.

    Parameters
    ----------
    labels
        (n,) class indices; every class is there.
    probabilities
        (n, C), rows sum to 1.
    """
    from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score

    said = probabilities.argmax(1)
    return {
        "accuracy": float(accuracy_score(labels, said)),
        "balanced_accuracy": float(balanced_accuracy_score(labels, said)),
        "auc": macro_auc(labels, probabilities),
        "f1": float(f1_score(labels, said, average="macro", zero_division=0)),
    }


def macro_auc(labels: Labels, probabilities: Probabilities) -> float:
    """Return the area under the ROC curve, macro-averaged one against the rest."""
    from sklearn.metrics import roc_auc_score

    if probabilities.shape[1] == 2:
        return float(roc_auc_score(labels, probabilities[:, 1]))
    # Rows must sum to 1 more exactly than a float32 softmax does.
    exact = probabilities / probabilities.sum(1, keepdims=True)
    return float(roc_auc_score(labels, exact, multi_class="ovr", average="macro"))


def measure_with_intervals(
    labels: Labels,
    probabilities: Probabilities,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Score]:
    """Return the metrics with 95 % percentile intervals.

    Patients are drawn with replacement within each class, so that every resample
    has every class and the macro averages stay defined.
    """
    from sklearn.utils import resample

    rows, draws = np.arange(len(labels)), np.random.RandomState(seed)
    found = []
    for _ in range(resamples):
        drawn = resample(rows, stratify=labels, random_state=draws)
        found.append(measure(labels[drawn], probabilities[drawn]))
    exact = measure(labels, probabilities)
    return {name: _score(exact[name], [f[name] for f in found]) for name in METRICS}


def mean_with_interval(values: Sequence[float], *, seed: int = 0) -> Score:
    """Return the mean of one value per patient, with its 95 % percentile interval."""
    from scipy.stats import bootstrap

    mean = float(np.mean(values))
    if len(values) < 2:
        return Score(mean, mean, mean)
    drawn = bootstrap(
        (values,), np.mean, n_resamples=RESAMPLES, method="percentile", rng=seed
    ).confidence_interval
    return Score(mean, float(drawn.low), float(drawn.high))


def confusion(
    labels: Labels, probabilities: Probabilities
) -> tuple[tuple[int, ...], ...]:
    """Return the confusion matrix: rows are true classes, columns predicted ones."""
    from sklearn.metrics import confusion_matrix

    classes = range(probabilities.shape[1])
    table = confusion_matrix(labels, probabilities.argmax(1), labels=list(classes))
    return tuple(tuple(int(n) for n in row) for row in table)


def as_dict(scores: Mapping[str, Score]) -> dict[str, dict[str, float]]:
    """Return scores as plain numbers, for JSON."""
    return {
        name: {"value": s.value, "low": s.low, "high": s.high}
        for name, s in scores.items()
    }


def _score(value: float, resampled: list[float]) -> Score:
    low, high = np.percentile(resampled, (2.5, 97.5))
    return Score(value, float(low), float(high))
