from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_gimp.explain.maps import PatchMap
from napari_gimp.geometry import Grid, world_to_um
from napari_gimp.layers import (
    Display,
    colormaps,
    contrast_limits,
    map_layer,
    patch_at,
    shown_values,
    value_range,
)

GRID = Grid((3, 4), (100.0, 100.0), (40.0, 60.0))
MPP = (0.5, 0.5)


def a_map(*, signed: bool = False) -> PatchMap:
    values = np.arange(12, dtype=np.float32).reshape(3, 4) - (4 if signed else 0)
    values[0, 0] = np.nan
    return PatchMap("test", "Test map", values, GRID, signed, "share")


def test_a_map_becomes_an_image_layer_in_um_at_its_grid() -> None:
    values, kwargs, kind = map_layer(a_map(), MPP)

    assert kind == "image"
    assert values.shape == GRID.shape
    assert kwargs["scale"] == (100.0, 100.0)
    assert kwargs["translate"] == (40 + (100 - 0.5) / 2, 60 + (100 - 0.5) / 2)
    assert kwargs["units"] == ("um", "um")
    assert kwargs["interpolation2d"] == "nearest"
    assert kwargs["metadata"] == {"gimp_map": "test"}


@settings(deadline=None)  # the first example imports napari
@given(
    row=st.integers(0, 2),
    col=st.integers(0, 3),
    inside=st.tuples(st.floats(0.01, 0.99), st.floats(0.01, 0.99)),
)
def test_napari_finds_the_same_cell_under_a_point_as_we_do(
    row: int, col: int, inside: tuple[float, float]
) -> None:
    from napari.layers import Image

    values, kwargs, _ = map_layer(a_map(), MPP)
    rect = GRID.rect_of(row, col)
    point_um = (rect.y0 + inside[0] * 100, rect.x0 + inside[1] * 100)
    world = (point_um[0] - MPP[0] / 2, point_um[1] - MPP[1] / 2)

    pixel = np.round(Image(values, **kwargs).world_to_data(world)).astype(int)

    assert tuple(pixel) == (row, col) == GRID.cell_at(*world_to_um(world, MPP))


def test_percentiles_rank_the_patches_and_keep_the_gaps() -> None:
    shown = shown_values(a_map(), "percentile")

    assert np.isnan(shown[0, 0])
    assert np.nanmin(shown) == 0
    assert np.nanmax(shown) == 100


def test_signed_maps_keep_their_sign_in_percentiles_and_are_symmetric() -> None:
    patch_map = a_map(signed=True)
    shown = shown_values(patch_map, "percentile")

    known = np.isfinite(patch_map.values)
    assert np.array_equal(np.sign(shown[known]), np.sign(patch_map.values[known]))
    assert value_range(patch_map, "percentile") == (-100, 100)
    low, high = contrast_limits(patch_map, "raw")
    assert low == -high


@pytest.mark.parametrize("scale", ["raw", "percentile"])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("fill", [np.nan, 0.0, 3.5, -2e9])
def test_maps_without_contrast_still_make_a_layer(
    scale: str, signed: bool, fill: float
) -> None:
    from napari.layers import Image

    values = np.full(GRID.shape, fill, dtype=np.float32)
    patch_map = PatchMap("test", "Test", values, GRID, signed)

    data, kwargs, _ = map_layer(patch_map, MPP, Display(scale=scale))

    low, high = Image(data, **kwargs).contrast_limits
    assert low < high


def test_patches_outside_the_threshold_are_transparent() -> None:
    values, _, _ = map_layer(a_map(), MPP, Display(scale="raw", threshold=(3, 5)))

    assert np.array_equal(np.unique(values[np.isfinite(values)]), [3, 4, 5])


def test_signed_colours_fade_to_nothing_at_zero_and_differ_at_the_ends() -> None:
    _, kwargs, _ = map_layer(a_map(signed=True), MPP)

    low, zero, high = kwargs["colormap"].map(np.array([0.0, 0.5, 1.0]))

    assert zero[3] == 0
    assert low[3] == high[3] == 1
    assert low[2] > low[0]  # teal
    assert high[0] > high[2]  # orange


def test_missing_patches_are_transparent() -> None:
    _, kwargs, _ = map_layer(a_map(), MPP)

    assert kwargs["colormap"].map(np.array([np.nan]))[0, 3] == 0


def test_a_colour_map_of_the_other_kind_falls_back_to_the_map_s_own() -> None:
    _, kwargs, _ = map_layer(a_map(), MPP, Display(colormap="PRGn"))

    assert kwargs["colormap"].name == f"gimp {colormaps(a_map())[0]}"


def test_a_click_reads_the_patch_under_it() -> None:
    patch = patch_at(a_map(), 40 + 250, 60 + 350)

    assert patch is not None
    assert (patch.row, patch.col) == (2, 3)
    assert patch.value == 11
    assert patch.percentile == 100
    assert (patch.rank, patch.count) == (1, 11)
    assert patch.center_um == (290, 410)


@pytest.mark.parametrize("point", [(50.0, 70.0), (0.0, 0.0), (1e6, 100.0)])
def test_a_click_beside_the_patches_reads_nothing(point: tuple[float, float]) -> None:
    assert patch_at(a_map(), *point) is None


@pytest.mark.parametrize(
    "wrong", [{"opacity": 1.5}, {"scale": "log"}, {"threshold": (2.0, 1.0)}]
)
def test_a_display_refuses_what_cannot_be_shown(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="must be"):
        Display(**wrong)  # type: ignore[arg-type] # wrong on purpose
