"""Outline and preview: in their place, closed, as wide at every zoom."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from napari_gimp._qt.tissue_drawing import (
    LINE_PX,
    Drawing,
    outline,
    outline_colours,
    outline_layer,
    outline_limits,
    squares,
    squares_layer,
)
from napari_gimp.geometry import Grid
from napari_gimp.patches.grid import PatchGrid, lay_patches
from napari_gimp.patches.tissue import Tissue

CELL_UM = 8.0
MPP = (0.5, 0.5)


def a_mask(rows: int = 700, cols: int = 900) -> np.ndarray:
    mask = np.zeros((rows, cols), dtype=bool)
    mask[100:300, 200:500] = True
    return mask


def drawn(mask: np.ndarray) -> Drawing:
    return outline(mask, Grid(mask.shape, (CELL_UM, CELL_UM)))


def opacity(distance_um: float, um_per_px: float) -> float:
    low, high = outline_limits(um_per_px)
    place = (distance_um * 8 - low) / (high - low)
    return float(outline_colours().map(np.clip([place], 0, 1))[0, 3])


def test_levels_are_exact_halves_as_napari_needs_them() -> None:
    levels, grid = drawn(a_mask())

    assert grid.shape == levels[0].shape
    for fine, coarse in pairwise(levels):
        assert fine.shape == (2 * coarse.shape[0], 2 * coarse.shape[1])
    assert max(levels[-1].shape) <= 256


@settings(deadline=None, max_examples=30)
@given(row=st.integers(0, 699), col=st.integers(0, 899))
@example(row=100, col=200)
@example(row=99, col=199)
@example(row=299, col=499)
@example(row=300, col=500)
def test_a_cell_of_the_mask_is_inside_the_outline_where_it_lies(
    row: int, col: int
) -> None:
    mask = a_mask()
    levels, grid = drawn(mask)

    y, x = (row + 0.5) * CELL_UM, (col + 0.5) * CELL_UM
    cell = grid.cell_at(y, x)

    assert cell is not None
    assert (levels[0][cell] > 0) == mask[row, col]


def test_the_line_runs_between_the_last_cell_inside_and_the_first_outside() -> None:
    (finest, *_), _ = drawn(a_mask())
    row = finest[200 + 1]

    assert row[200] == -row[201] == -CELL_UM / 2 * 8
    assert row[202] == 1.5 * CELL_UM * 8


def test_a_mask_that_reaches_the_edge_is_closed_there() -> None:
    (finest, *_), _ = drawn(np.ones((50, 60), dtype=bool))

    assert finest[0, 30] < 0 < finest[1, 30]
    assert finest[51, 30] < 0 < finest[50, 30]


def test_a_thin_strand_is_still_drawn_from_afar() -> None:
    mask = np.zeros((2000, 2000), dtype=bool)
    mask[1000, 300:1700] = True

    for level in drawn(mask)[0]:
        assert (level > 0).any()


@pytest.mark.parametrize("um_per_px", [0.25, 2.0, 16.0])
def test_the_line_is_as_wide_on_the_screen_at_every_zoom(um_per_px: float) -> None:
    half_um = LINE_PX / 2 * um_per_px

    assert opacity(0, um_per_px) == pytest.approx(1)
    assert opacity(0.6 * half_um, um_per_px) == pytest.approx(1, abs=0.05)
    assert opacity(1.1 * half_um, um_per_px) == 0
    assert opacity(-1.1 * half_um, um_per_px) == 0


def some_patches(**wanted: float) -> PatchGrid:
    grid = Grid((320, 320), (CELL_UM, CELL_UM))
    mask = np.zeros(grid.shape, dtype=bool)
    mask[32:128, 32:128] = True
    return lay_patches(Tissue(mask, grid), **wanted)


def shares(drawing: Drawing, patches: PatchGrid) -> np.ndarray:
    """Return which part of each lattice cell is drawn at all."""
    (finest, *_), grid = drawing
    per = round(patches.stride_um / grid.cell_um[0])
    rows, cols = patches.grid.shape
    cells = finest[: rows * per, : cols * per].reshape(rows, per, cols, per) > 0
    return np.asarray(cells.mean(axis=(1, 3)))


@pytest.mark.parametrize("stride_um", [128.0, 64.0])
def test_the_preview_fills_the_cell_of_every_patch_and_no_other(
    stride_um: float,
) -> None:
    patches = some_patches(stride_um=stride_um)
    drawing = squares(patches)

    laid = np.zeros(patches.grid.shape)
    laid[tuple(patches.index.T)] = 1
    np.testing.assert_array_equal(shares(drawing, patches), laid)
    assert drawing[1].origin_um == patches.grid.origin_um


def test_patches_that_stand_apart_are_drawn_in_their_own_size() -> None:
    patches = some_patches(stride_um=256.0)

    covered = shares(squares(patches), patches)

    assert covered.max() == pytest.approx(0.25, abs=0.02)


def test_both_layers_lie_in_um_on_the_slide() -> None:
    patches = some_patches()
    for kwargs, cell_um in (
        (outline_layer(drawn(a_mask()), MPP), CELL_UM),
        (squares_layer(squares(patches), MPP), 2.0),
    ):
        assert kwargs["units"] == ("um", "um")
        assert kwargs["scale"] == (cell_um, cell_um)
    first = squares_layer(squares(patches), MPP)
    assert first["translate"] == ((2.0 - 0.5) / 2, (2.0 - 0.5) / 2)
