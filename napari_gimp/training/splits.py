"""Patient-level splits: no patient is ever in two parts of one split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Split:
    """Patients by part.

    Raises
    ------
    ValueError
        If a patient is in two parts.
    """

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]

    def __post_init__(self) -> None:
        everyone = self.train + self.validation + self.test
        if len(set(everyone)) < len(everyone):
            twice = sorted({p for p in everyone if everyone.count(p) > 1})
            raise ValueError(f"patients in two parts of one split: {twice}")


def patients_needed(folds: int) -> int:
    """Return how many patients a class needs so that it is in all three parts."""
    return max(folds, 4) if folds == 2 else folds


def split_patients(
    patients: Sequence[str],
    labels: Sequence[str],
    *,
    folds: int,
    fold: int,
    seed: int,
) -> Split:
    """Split by patient, stratified by label; one fold is held out for testing.

    Validation is as large as one fold. The result depends on who is in the cohort,
    not on the order of the manifest; the test folds of one seed are disjoint and
    cover everybody.

    Parameters
    ----------
    patients, labels
        One each per patient.
    folds, fold
        Number of folds, and the one held out, from 0.
    seed
        Seed of the shuffles.
    """
    order = np.argsort(np.asarray(patients))
    ids, classes = np.asarray(patients)[order], np.asarray(labels)[order]
    rest, test = _hold_out(classes, folds, fold, seed)
    inner = max(2, folds - 1)
    train, validation = _hold_out(classes[rest], inner, fold % inner, seed + 1)
    return Split(
        _named(ids[rest][train]), _named(ids[rest][validation]), _named(ids[test])
    )


def _hold_out(
    labels: NDArray[np.str_], folds: int, fold: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    from sklearn.model_selection import StratifiedKFold

    parts = StratifiedKFold(folds, shuffle=True, random_state=seed)
    kept, held = list(parts.split(np.zeros(len(labels)), labels))[fold]
    return kept, held


def _named(ids: NDArray[np.str_]) -> tuple[str, ...]:
    return tuple(str(i) for i in ids)
