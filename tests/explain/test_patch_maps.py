import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_gimp.explain.maps import KINDS, PatchMap, lay_on_grid, percentile_ranks
from napari_gimp.geometry import Grid

GRID = Grid((4, 5), (128.0, 128.0), (64.0, 32.0))
INDEX = np.array([[0, 1], [2, 4], [3, 0]])


def test_values_land_on_their_cells_and_nowhere_else() -> None:
    laid = lay_on_grid("attention", np.array([0.2, 0.5, 0.3]), INDEX, GRID)

    assert laid.values[0, 1] == np.float32(0.2)
    assert laid.values[2, 4] == np.float32(0.5)
    assert laid.values[3, 0] == np.float32(0.3)
    assert np.isfinite(laid.values).sum() == 3


@given(
    st.integers(0, 3), st.integers(0, 4), st.floats(0.01, 0.99), st.floats(0.01, 0.99)
)
def test_a_point_of_a_patch_finds_the_value_of_that_patch(
    row: int, col: int, down: float, right: float
) -> None:
    every = np.argwhere(np.ones(GRID.shape, dtype=bool))
    laid = lay_on_grid("contribution", np.arange(20.0), every, GRID)

    y, x = GRID.centers_um(np.array([[row, col]]))[0] + 128 * (
        np.array([down, right]) - 0.5
    )

    assert laid.values[GRID.cell_at(y, x)] == row * 5 + col


def test_percentiles_run_from_0_to_100_and_ties_share() -> None:
    ranks = percentile_ranks(np.array([3.0, 1.0, np.nan, 1.0, 9.0]))

    np.testing.assert_allclose(ranks, [200 / 3, 50 / 3, np.nan, 50 / 3, 100], rtol=1e-6)


@given(st.lists(st.floats(-1e3, 1e3, width=32), min_size=2, unique=True, max_size=30))
def test_percentiles_keep_the_order_of_the_values(values: list[float]) -> None:
    ranks = percentile_ranks(np.array(values))

    assert (np.argsort(ranks) == np.argsort(values)).all()
    assert ranks.min() == 0
    assert ranks.max() == 100


def test_a_signed_map_is_strong_at_both_ends_and_its_scale_is_symmetric() -> None:
    laid = lay_on_grid("contribution", np.array([-4.0, 0.1, 2.0]), INDEX, GRID)

    low, high = laid.limits()

    assert laid.strength()[0, 1] == 100
    assert laid.strength()[2, 4] == 0
    assert low == -high
    assert high > 0


@pytest.mark.parametrize("name", KINDS)
def test_a_map_without_any_patch_still_has_a_scale(name: str) -> None:
    empty = lay_on_grid(name, np.zeros(0), np.zeros((0, 2), dtype=int), GRID)

    low, high = empty.limits()

    assert low < high


def test_values_and_grid_must_have_one_shape() -> None:
    with pytest.raises(ValueError, match=r"\(2, 2\) on a grid \(4, 5\)"):
        PatchMap("attention", "Attention", np.zeros((2, 2), dtype=np.float32), GRID)
