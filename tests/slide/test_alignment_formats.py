"""In every format a planted patch is where it was planted, within a level-0 pixel."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

import formats
from formats import Format
from napari_gimp.slide.pyramid import Pyramid
from napari_gimp.slide.resample import overview, read_at
from napari_gimp.slide.source import SlideSource, level_grid
from napari_gimp.slide.view import SlideView
from planted_formats import as_planted, planted_in
from planted_slides import Planted

WAIT_S = 20
SHAPE = (1103, 907)
EVEN = (1104, 912)
"""For an SCN picture amid empty glass: OpenSlide places it in whole px of a level."""
COARSEST = 12
"""Beyond this factor JPEG blurs the patch into what surrounds it."""
ALL = (
    *formats.CODECS[1:2],
    *formats.CODECS[9:10],
    *formats.LAYOUTS,
    *formats.BY_OPENSLIDE,
    *formats.VENDORS,
    *formats.PICTURES,
    *formats.DICOM,
    *formats.ZARR,
)
PYRAMIDS = [(form, factor) for form in ALL for factor in form.factors or ("1",)]


@pytest.fixture(scope="module", params=PYRAMIDS, ids=lambda p: f"{p[0].name} by {p[1]}")
def pyramid(request) -> tuple[Format, str]:
    """A format and the factor between its levels."""
    return request.param


@pytest.fixture(scope="module")
def planted(pyramid, tmp_path_factory: pytest.TempPathFactory) -> Planted:
    form, factor = pyramid
    shape = EVEN if form.left else SHAPE
    return planted_in(form, factor, tmp_path_factory.mktemp("planted"), shape)


@pytest.fixture(scope="module")
def source(pyramid, planted) -> Iterator[SlideSource]:
    with pyramid[0].open(planted.path) as slide:
        yield slide


def off_px(found: tuple[float, float], truth: tuple[float, float], mpp: float) -> float:
    """Return the larger distance along an axis, in level-0 pixels."""
    return max(abs(a - b) for a, b in zip(found, truth, strict=True)) / mpp


def test_factors_are_those_the_levels_were_made_by(pyramid, planted, source):
    made = [float(planted.factor**k) for k in range(len(planted.levels))]
    found = [level.downsample for level in source.levels]
    if pyramid[0].kept is not None:
        made = [made[number] for number in pyramid[0].kept]
    assert {(f, f) for f in made} <= set(found)
    if not pyramid[0].padded:
        assert len(found) == len(made)


def test_stored_levels_hold_the_patch(planted, source, find_center):
    for number, level in enumerate(source.levels):
        if level.downsample[0] > COARSEST:
            continue
        pixels = as_planted(source.read_region(number, 0, 0, *level.shape))
        cell = level_grid(source, number).cell_um
        for truth in planted.centers_um:
            assert off_px(find_center(pixels, cell, truth), truth, planted.mpp) < 1


@pytest.mark.parametrize("mpp", [0.5, 1.13, 2.0, 3.3])
def test_read_at_holds_the_patch(planted, source, find_center, mpp: float):
    side = round(72 / mpp)
    for y, x in planted.centers_um:
        y0, x0 = y - side * mpp / 2 + 0.137, x - side * mpp / 2 + 0.211
        pixels = as_planted(read_at(source, y0, x0, (side, side), mpp))
        fy, fx = find_center(pixels, (mpp, mpp), (y - y0, x - x0))
        assert off_px((fy + y0, fx + x0), (y, x), planted.mpp) < 1


def test_the_overview_holds_the_patch(planted, source, find_center):
    pixels, grid = overview(source, 4.0)
    pixels = as_planted(pixels)
    for truth in planted.centers_um:
        assert off_px(find_center(pixels, grid.cell_um, truth), truth, planted.mpp) < 1


def test_dask_levels_hold_the_patch(planted, source, find_center):
    pyramid = Pyramid(source)
    for level, grid in zip(pyramid.levels, pyramid.grids, strict=True):
        if grid.cell_um[0] > COARSEST * planted.mpp:
            continue
        pixels = as_planted(level.compute(scheduler="synchronous"))
        assert pixels.shape[:2] == grid.shape
        for truth in planted.centers_um:
            found = find_center(pixels, grid.cell_um, truth)
            assert off_px(found, truth, planted.mpp) < 1


def test_display_levels_hold_the_patch_where_napari_draws_them(
    planted, source, find_center
):
    view = SlideView(source)
    assert view.base.complete.wait(WAIT_S)
    shown = view.levels if source.rgb else view.channel_levels(source.channels - 1)
    for level in shown:
        cell = tuple(
            planted.mpp * a / b
            for a, b in zip(shown[0].shape[:2], level.shape[:2], strict=True)
        )
        pixels = as_planted(np.atleast_3d(np.asarray(level)))
        for truth in planted.centers_um:
            assert off_px(find_center(pixels, cell, truth), truth, planted.mpp) < 1
    view.close()
