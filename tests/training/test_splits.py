from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_gimp.training.splits import Split, patients_needed, split_patients


@st.composite
def cohorts(draw: st.DrawFn) -> tuple[list[str], list[str], int, int]:
    folds = draw(st.integers(2, 6))
    need = patients_needed(folds)
    counts = draw(st.lists(st.integers(need, 3 * need), min_size=2, max_size=4))
    labels = [f"class{c}" for c, n in enumerate(counts) for _ in range(n)]
    ids = draw(st.permutations([f"P{i:03d}" for i in range(len(labels))]))
    return ids, labels, folds, draw(st.integers(0, 2**16))


@settings(deadline=None)
@given(cohorts())
def test_no_patient_is_in_two_parts_and_none_is_lost(
    cohort: tuple[list[str], list[str], int, int],
) -> None:
    ids, labels, folds, seed = cohort
    tested: list[str] = []
    for fold in range(folds):
        split = split_patients(ids, labels, folds=folds, fold=fold, seed=seed)
        parts = [set(split.train), set(split.validation), set(split.test)]
        assert sum(map(len, parts)) == len(set.union(*parts)) == len(ids)
        tested += split.test
    assert sorted(tested) == sorted(ids)


@settings(deadline=None)
@given(cohorts())
def test_every_class_is_in_every_part(
    cohort: tuple[list[str], list[str], int, int],
) -> None:
    ids, labels, folds, seed = cohort
    label = dict(zip(ids, labels, strict=True))
    split = split_patients(ids, labels, folds=folds, fold=0, seed=seed)
    for part in (split.train, split.validation, split.test):
        assert {label[p] for p in part} == set(labels)


@settings(deadline=None)
@given(cohorts(), st.randoms(use_true_random=False))
def test_the_order_of_the_manifest_does_not_matter(
    cohort: tuple[list[str], list[str], int, int], random: object
) -> None:
    ids, labels, folds, seed = cohort
    rows = list(zip(ids, labels, strict=True))
    random.shuffle(rows)  # type: ignore[attr-defined]
    shuffled = split_patients(*zip(*rows, strict=True), folds=folds, fold=0, seed=seed)
    assert shuffled == split_patients(ids, labels, folds=folds, fold=0, seed=seed)


def test_a_split_with_a_patient_in_two_parts_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="P1"):
        Split(("P1", "P2"), ("P3",), ("P1",))
