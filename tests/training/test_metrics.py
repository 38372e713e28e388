from __future__ import annotations

import numpy as np
import pytest

from napari_gimp.training.metrics import confusion, measure, measure_with_intervals


def test_perfect_predictions_score_one() -> None:
    labels = np.array([0, 1, 2, 0, 1, 2])
    scores = measure(labels, np.eye(3)[labels])
    assert set(scores.values()) == {1.0}


def test_a_binary_case_uses_the_second_class() -> None:
    labels = np.array([0, 0, 1, 1])
    second = np.array([0.1, 0.6, 0.4, 0.9])
    scores = measure(labels, np.stack([1 - second, second], axis=1))
    assert scores["auc"] == pytest.approx(0.75)
    assert scores["accuracy"] == pytest.approx(0.5)


def test_the_interval_holds_the_value_and_narrows_with_more_patients() -> None:
    rng = np.random.default_rng(0)

    def interval(n: int) -> float:
        labels = np.arange(n) % 3
        noisy = np.eye(3)[labels] + rng.uniform(0, 1.6, (n, 3))
        scores = measure_with_intervals(
            labels, noisy / noisy.sum(1, keepdims=True), resamples=60
        )
        assert all(s.low <= s.value <= s.high for s in scores.values())
        return scores["auc"].high - scores["auc"].low

    assert interval(240) < interval(24)


def test_rows_of_the_confusion_matrix_are_true_classes() -> None:
    said = np.eye(2)[[1, 1, 0]]
    assert confusion(np.array([0, 0, 0]), said) == ((1, 2), (0, 0))
