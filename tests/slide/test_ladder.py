"""Which virtual levels lie between and beyond the stored ones."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_gimp.slide.ladder import COARSEST_PX, SAME, Rung, ladder, shape_at
from napari_gimp.slide.source import Level


def levels_of(rows: int, cols: int, *factors: float) -> tuple[Level, ...]:
    return tuple(
        Level((math.ceil(rows / f), math.ceil(cols / f)), (256, 256), (f, f))
        for f in (1.0, *factors)
    )


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        ((), [(1, 0, 1), (2, 0, 2), (4, 0, 4)]),
        ((2, 4), [(1, 0, 1), (2, 1, 1), (4, 2, 1)]),
        ((4,), [(1, 0, 1), (2, 0, 2), (4, 1, 1)]),
        ((2.5,), [(1, 0, 1), (2, 0, 2), (2.5, 1, 1), (5, 1, 2)]),
        ((3,), [(1, 0, 1), (2, 0, 2), (3, 1, 1)]),
        ((2, 4, 8, 16), [(2**k, k, 1) for k in range(5)]),
        ((2.001,), [(1, 0, 1), (2.001, 1, 1), (4.002, 1, 2)]),
    ],
)
def test_a_slide_of_3000_px_gets_these_levels(stored, expected):
    rungs = ladder(levels_of(3000, 2000, *stored))
    assert [(r.factor[0], r.stored, r.step) for r in rungs] == expected


def test_a_small_picture_has_its_one_level():
    assert ladder(levels_of(1024, 900)) == (Rung((1.0, 1.0), 0),)


def test_what_the_last_row_of_a_virtual_level_cuts_is_not_left_out():
    levels = levels_of(2503, 1907)
    assert shape_at(levels, Rung((4.0, 4.0), 0, 4)) == (626, 477)


@given(
    rows=st.integers(1, 300_000),
    cols=st.integers(1, 300_000),
    steps=st.lists(st.sampled_from([1.5, 2, 2.5, 3, 4, 8, 64]), max_size=5),
)
def test_neighbours_are_at_most_2x_apart_and_the_coarsest_is_small(rows, cols, steps):
    factors = list(itertools.accumulate(steps, lambda a, b: a * b))
    levels = levels_of(rows, cols, *factors)
    rungs = ladder(levels)
    for finer, coarser in itertools.pairwise(rungs):
        for a, b in zip(finer.factor, coarser.factor, strict=True):
            assert 1 < b / a <= 2 * SAME
    assert max(shape_at(levels, rungs[-1])) <= COARSEST_PX
    stored = [rung.stored for rung in rungs if rung.step == 1]
    assert stored == list(range(len(levels)))
    for rung in rungs:
        own = levels[rung.stored].downsample[0]
        assert rung.factor[0] == own * rung.step
        assert math.log2(rung.step).is_integer()
