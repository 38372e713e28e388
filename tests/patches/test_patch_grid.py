from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_gimp.errors import PatchError
from napari_gimp.geometry import Grid
from napari_gimp.patches.grid import PatchGrid, lay_patches
from napari_gimp.patches.tissue import Tissue

masks = st.tuples(st.integers(2, 9), st.integers(2, 9)).flatmap(
    lambda shape: arrays(bool, shape)
)


def tissue_of(mask: np.ndarray, cell_um: float = 8.0) -> Tissue:
    return Tissue(mask, Grid(mask.shape, (cell_um, cell_um)))


def lay_or_none(tissue: Tissue, **kwargs: float) -> PatchGrid | None:
    try:
        return lay_patches(tissue, **kwargs)
    except PatchError:
        return None


def brute_fraction(mask: np.ndarray, y: float, x: float, side: float) -> float:
    """Tissue in a square, by painting the mask 20 times finer (8 um -> 0.4 um)."""
    fine = mask.repeat(20, 0).repeat(20, 1)
    at = [round(v / 0.4) for v in (y, x, side)]
    part = fine[at[0] : at[0] + at[2], at[1] : at[1] + at[2]]
    return float(part.sum()) / at[2] ** 2


@settings(max_examples=60, deadline=None)
@given(
    masks, st.sampled_from([8.0, 10.0, 13.2, 16.0]), st.sampled_from([4.0, 8.8, 16.0])
)
def test_tissue_fractions_are_exact(
    mask: np.ndarray, patch_um: float, stride_um: float
) -> None:
    patches = lay_or_none(
        tissue_of(mask), patch_um=patch_um, stride_um=stride_um, min_tissue=0
    )

    if patches is None:
        return
    for (y, x), fraction in zip(patches.corners_um, patches.tissue, strict=True):
        assert fraction == pytest.approx(brute_fraction(mask, y, x, patch_um), abs=1e-5)


@settings(max_examples=60, deadline=None)
@given(masks, st.floats(5, 30), st.floats(3, 30), st.floats(0, 1))
def test_patches_are_whole_inside_the_slide_and_in_raster_order(
    mask: np.ndarray, patch_um: float, stride_um: float, least: float
) -> None:
    tissue = tissue_of(mask)
    patches = lay_or_none(
        tissue, patch_um=patch_um, stride_um=stride_um, min_tissue=least
    )

    if patches is None:
        return
    extent = np.asarray(tissue.grid.rect.size_um)
    assert (patches.corners_um >= -1e-6).all()
    assert (patches.corners_um + patch_um <= extent + 1e-6).all()
    order = patches.index[:, 0] * patches.grid.shape[1] + patches.index[:, 1]
    assert (np.diff(order) > 0).all()
    assert (patches.tissue >= min(least, 1) - 1e-6).all()


def test_neighbouring_patches_touch_and_centres_are_half_a_patch_in() -> None:
    patches = lay_patches(tissue_of(np.ones((64, 48), bool)))

    assert patches.grid.shape == (4, 3)
    assert len(patches) == 12
    np.testing.assert_allclose(patches.coords_um[0], (64, 64))
    np.testing.assert_allclose(patches.coords_um[-1], (448, 320))
    assert patches.grid.rect_of(0, 1).x0 == 128


def test_a_stride_below_the_side_keeps_patches_centred_on_cells() -> None:
    patches = lay_patches(
        tissue_of(np.ones((64, 48), bool)), patch_um=128, stride_um=32
    )

    np.testing.assert_allclose(patches.corners_um[0], (0, 0))
    np.testing.assert_allclose(patches.corners_um[1], (0, 32))
    cell = patches.grid.rect_of(0, 0)
    np.testing.assert_allclose(cell.center_um, patches.coords_um[0])


def test_no_tissue_gives_a_sentence_that_says_what_to_do() -> None:
    with pytest.raises(PatchError, match="stained section"):
        lay_patches(tissue_of(np.zeros((64, 64), bool)))


def test_a_slide_smaller_than_a_patch_is_told_from_one_without_tissue() -> None:
    with pytest.raises(PatchError, match="smaller than one patch of 128 um"):
        lay_patches(tissue_of(np.ones((64, 12), bool)))


def test_the_filter_that_took_the_tissue_is_named() -> None:
    empty = tissue_of(np.zeros((64, 64), bool))
    with pytest.raises(PatchError, match=r"left out: 0\.2 mm2 pen\)"):
        lay_patches(replace(empty, excluded={"pen": 0.2, "fold": 0.0}))


@pytest.mark.parametrize(
    ("reason", "advice"),
    [
        ("outside the annotations", r"\(--include\) lies beside the tissue"),
        ("annotated to be left out", r"\(--exclude\) covers the tissue"),
        ("red ink", r"Most of it was taken for red ink: .* \(--tissue\)"),
    ],
)
def test_it_is_said_how_to_relax_what_took_most(reason: str, advice: str) -> None:
    empty = replace(
        tissue_of(np.zeros((64, 64), bool)), excluded={"folds": 0.1, reason: 0.2}
    )

    with pytest.raises(PatchError, match=advice):
        lay_patches(empty)


def test_where_no_square_is_full_enough_it_is_said_which_least_tissue_is() -> None:
    mask = np.zeros((64, 64), bool)
    mask[4:13, 16:27] = mask[36:40, 4:8] = True  # 99 and 16 of 256 cells

    with pytest.raises(
        PatchError,
        match=r"at least 50% tissue, the fullest is 38%: .*\(--min-tissue 0\.38\) "
        "there is 1 patch",
    ):
        lay_patches(tissue_of(mask))

    assert len(lay_patches(tissue_of(mask), min_tissue=0.38)) == 1


@pytest.mark.parametrize("part", [0.999, 0.58, 0.43, 0.29, 0.07, 0.011])
def test_the_least_tissue_that_is_named_leaves_patches(part: float) -> None:
    mask = np.zeros((100, 100), bool)
    mask.flat[: round(part * mask.size)] = True
    with pytest.raises(PatchError) as refused:
        lay_patches(tissue_of(mask), patch_um=800, min_tissue=1)

    named = re.search(r"--min-tissue (\S+)\)", str(refused.value))

    assert named
    least = float(named[1])
    assert part - 0.01 < least <= part
    assert len(lay_patches(tissue_of(mask), patch_um=800, min_tissue=least)) == 1


def test_a_stride_in_another_unit_is_refused_before_memory_is_taken() -> None:
    with pytest.raises(PatchError, match=r"stride of 0\.001 um lays .* is it in um"):
        lay_patches(tissue_of(np.ones((640, 480), bool)), stride_um=0.001)


@pytest.mark.parametrize(
    "bad", [{"patch_um": 0.0}, {"stride_um": -1.0}, {"min_tissue": 1.5}]
)
def test_values_out_of_range_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(PatchError, match="usual"):
        lay_patches(tissue_of(np.ones((64, 64), bool)), **bad)
