"""What the numbers of a table mean, and what that is judged from."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_gimp.errors import GeneError
from napari_gimp.genes.scale import detect_scale, to_log2

rng = np.random.default_rng(3)
LOG = rng.normal(6, 2, (20, 12)).clip(0, 15)


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        (rng.poisson(40, (20, 12)), "counts"),
        (rng.poisson(0.4, (20, 12)), "counts"),
        (np.exp2(LOG) * 5e4 + 0.25, "counts"),
        (np.exp2(LOG) - 1, "linear"),
        (LOG, "log2"),
        (LOG - 3.5, "log2"),
        ((LOG - LOG.mean(0)) / LOG.std(0), "zscore"),
        (((LOG - LOG.mean(0)) / LOG.std(0))[:1], "zscore"),
    ],
    ids=[
        *("counts", "few counts", "estimated counts", "linear", "log2"),
        *("log2 below 0", "zscore", "zscore of one sample"),
    ],
)
def test_the_scale_is_told_by_the_numbers(values: np.ndarray, scale: str) -> None:
    assert detect_scale(values.astype(np.float32)).scale == scale


@pytest.mark.parametrize(
    ("values", "judged_from"),
    [
        ([[0, 12345], [7, 3]], "whole numbers from 0 to 12,345"),
        (
            [[0, 12], [7, 3]],
            "whole numbers from 0 to 12; logarithms rounded to whole numbers would "
            "look alike",
        ),
        (
            [[0.5, 3e6], [7, 4e6]],
            "numbers from 0.50 to 4,000,000 that sum to 3.5 million per sample, where "
            "TPM sum to one million",
        ),
        (
            [[0.5, 54321], [7, 3]],
            "numbers from 0.50 to 54,321, where logarithms stay below 30",
        ),
        ([[0, 14.25], [7, 3]], "numbers from 0 to 14.25, none above 30"),
        (
            [[-1, 6], [7, 3]],
            "numbers from -1 to 7, not centred on 0 with unit spread (mean 3.75, "
            "standard deviation 3.11)",
        ),
        (
            [[-1, 1], [0.5, -0.5]],
            "numbers from -1 to 1, centred on 0 with unit spread (mean 0.00, standard "
            "deviation 0.79)",
        ),
    ],
)
def test_what_the_scale_was_judged_from_is_said_with_the_numbers_seen(
    values: list[list[float]], judged_from: str
) -> None:
    assert detect_scale(np.float32(values)).judged_from == judged_from


@given(st.floats(0.01, 100))
def test_estimated_counts_do_not_depend_on_the_depth_of_sequencing(
    depth: float,
) -> None:
    counts = np.exp2(LOG)

    np.testing.assert_allclose(
        to_log2((counts * depth).astype(np.float32), "counts"),
        to_log2(counts.astype(np.float32), "counts"),
        atol=1e-4,
    )


def test_missing_numbers_do_not_count() -> None:
    values = np.float32([[np.nan, 5, np.inf], [2, 40, 1]])

    assert detect_scale(values).judged_from == "whole numbers from 1 to 40"


def test_a_table_without_numbers_has_no_scale() -> None:
    with pytest.raises(GeneError, match="2 samples x 3 genes holds no number"):
        detect_scale(np.full((2, 3), np.nan, np.float32))
