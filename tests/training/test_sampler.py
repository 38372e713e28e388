from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_gimp.errors import RunError
from napari_gimp.training.sampler import balanced_batches

LABELS = [0] * 7 + [1] * 3 + [2] * 4


def epoch(labels: list[int], batch: int, seed: int) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    return list(balanced_batches(labels, batch, generator))


@settings(deadline=None)
@given(st.integers(6, 16), st.integers(0, 1000))
def test_every_batch_has_as_many_patients_of_each_class(batch: int, seed: int) -> None:
    for positions in epoch(LABELS, batch, seed):
        counts = Counter(LABELS[p] for p in positions)
        assert set(counts.values()) == {batch // 3}
        assert set(counts) == {0, 1, 2}


@settings(deadline=None)
@given(st.integers(6, 16), st.integers(0, 1000))
def test_an_epoch_shows_every_patient(batch: int, seed: int) -> None:
    shown = {p for positions in epoch(LABELS, batch, seed) for p in positions}
    assert shown == set(range(len(LABELS)))


def test_nobody_is_twice_in_a_batch_where_the_class_is_large_enough() -> None:
    for positions in epoch([0] * 8 + [1] * 8, 8, seed=3)[:2]:
        assert len(set(positions)) == 8


def test_the_same_generator_gives_the_same_epoch() -> None:
    assert epoch(LABELS, 6, seed=1) == epoch(LABELS, 6, seed=1)
    assert epoch(LABELS, 6, seed=1) != epoch(LABELS, 6, seed=2)


def test_a_batch_too_small_for_the_classes_is_refused() -> None:
    with pytest.raises(RunError, match="at least 6"):
        epoch(LABELS, 5, seed=0)
