"""A planted bright patch is where it was planted, whichever way one looks.

At four corners and in the middle, in pyramids made with factors 2, 4 and 2.5; here
in a TIFF and in a MIRAX, whose canvas is larger than the picture. What every format
must get right is in `test_alignment_formats.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from formats import CODECS, VENDORS
from napari_gimp.geometry import Grid, world_to_um
from napari_gimp.slide.pyramid import Pyramid
from napari_gimp.slide.resample import overview, read_at
from napari_gimp.slide.source import SlideSource, level_grid, open_slide
from napari_gimp.slide.view import SlideView
from planted_formats import planted_in
from planted_slides import Planted

WAIT_S = 20
WINDOW_UM = 36.0
COARSEST = 20
"""Beyond this factor the patch is smaller than two pixels, or mixed with white."""
Find = Callable[..., tuple[float, float]]
FORMATS = {form.name: form for form in (*CODECS, *VENDORS)}
PYRAMIDS = [
    *((FORMATS["tiff-deflate"], factor) for factor in FORMATS["tiff-deflate"].factors),
    (FORMATS["mrxs-png"], "4"),
]


@pytest.fixture(scope="module", params=PYRAMIDS, ids=lambda p: f"{p[0].name} by {p[1]}")
def planted(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Planted:
    """A pyramid made with one factor; its sides are no multiple of anything."""
    form, factor = request.param
    return planted_in(form, factor, tmp_path_factory.mktemp("planted"), (2503, 1907))


@pytest.fixture
def source(planted) -> Iterator[SlideSource]:
    with open_slide(planted.path) as slide:
        yield slide


def off_px(found: tuple[float, float], truth: tuple[float, float], mpp: float) -> float:
    """Return the larger distance along an axis, in level-0 pixels."""
    return max(abs(a - b) for a, b in zip(found, truth, strict=True)) / mpp


def test_factors_are_those_the_levels_were_made_by(planted, source):
    made = [float(planted.factor**k) for k in range(len(planted.levels))]
    assert [level.downsample for level in source.levels] == [(f, f) for f in made]


def test_stored_levels_hold_the_patch_within_a_pixel(planted, source, find_center):
    for number, level in enumerate(source.levels):
        if level.downsample[0] > COARSEST:
            continue
        pixels = source.read_region(number, 0, 0, *level.shape)
        cell = level_grid(source, number).cell_um
        for truth in planted.centers_um:
            assert off_px(find_center(pixels, cell, truth), truth, planted.mpp) < 1


@pytest.mark.parametrize("mpp", [0.5, 0.51, 0.77, 1.0, 1.13, 1.25, 2.0, 3.3, 4.0])
def test_read_at_puts_the_patch_in_the_middle(planted, source, find_center, mpp: float):
    side = round(2 * WINDOW_UM / mpp)
    last = [n * planted.mpp - side * mpp - 8 for n in source.levels[0].shape]
    for y, x in planted.centers_um:
        # a window that is no multiple of anything, kept on the slide
        y0 = min(max(y - side * mpp / 2, 0) + 0.137, last[0])
        x0 = min(max(x - side * mpp / 2, 0) + 0.211, last[1])
        pixels = read_at(source, y0, x0, (side, side), mpp)
        fy, fx = find_center(pixels, (mpp, mpp), (y - y0, x - x0))
        assert off_px((fy + y0, fx + x0), (y, x), planted.mpp) < 0.5


def test_overview_and_its_grid_agree_with_the_slide(planted, source, find_center):
    pixels, grid = overview(source, 4.0)
    pixels = np.where(pixels > 241, 40, pixels)
    assert pixels.shape[:2] == grid.shape
    for truth in planted.centers_um:
        assert off_px(find_center(pixels, grid.cell_um, truth), truth, planted.mpp) < 1


def test_dask_levels_and_their_grids_agree_with_the_slide(planted, source, find_center):
    pyramid = Pyramid(source)
    for level, grid in zip(pyramid.levels[:4], pyramid.grids[:4], strict=True):
        pixels = level.compute(scheduler="synchronous")
        assert pixels.shape[:2] == grid.shape
        for truth in planted.centers_um:
            found = find_center(pixels, grid.cell_um, truth)
            assert off_px(found, truth, planted.mpp) < 1


def test_display_levels_hold_the_patch_where_napari_draws_them(
    planted, source, find_center
):
    view = SlideView(source)
    assert view.base.complete.wait(WAIT_S)
    for level in view.levels:
        # napari: one pixel of a level spans shape[0] / shape[level] level-0 pixels
        cell = tuple(
            planted.mpp * a / b
            for a, b in zip(view.levels[0].shape[:2], level.shape[:2], strict=True)
        )
        pixels = np.where((exact := np.asarray(level)) > 241, 40, exact)
        for truth in planted.centers_um:
            assert off_px(find_center(pixels, cell, truth), truth, planted.mpp) < 1
    view.close()


def test_napari_slices_every_display_level_into_the_right_place(
    planted, source, find_center
):
    from napari.layers import Image

    view = SlideView(source)
    assert view.base.complete.wait(WAIT_S)
    kwargs = level_grid(source, 0).layer_kwargs(source.mpp)
    exact = [np.asarray(level) for level in view.levels]
    layer = Image(exact, rgb=True, multiscale=True, **kwargs)
    rows, cols = exact[0].shape[:2]
    seen = set()
    for canvas in (1.5, 0.9, 0.45, 0.3, 0.2, 0.1):
        threshold = np.array([rows, cols]) * canvas
        layer._update_draw(1.0, np.array([[0, 0], [rows, cols]]), threshold)
        seen.add(layer.data_level)
        tile = layer._transforms["tile2data"]
        # vispy draws the tile from half a level-0 pixel before its first index on
        begin = [
            t * planted.mpp + o - planted.mpp / 2
            for t, o in zip(tile.translate, layer.translate, strict=True)
        ]
        cell = tuple(tile.scale * planted.mpp)
        raw = layer._slice.image.raw
        for truth in planted.centers_um:
            there = world = tuple(
                t - planted.mpp / 2 - b for t, b in zip(truth, begin, strict=True)
            )
            pixels = np.where(raw > 241, 40, raw)
            found = find_center(pixels, cell, there)
            assert off_px(found, world, planted.mpp) < 1
    assert len(seen) == len(exact)
    view.close()


def test_a_level_drawn_as_its_own_layer_lies_on_the_slide(planted, source, find_center):
    from napari.layers import Image

    for number in range(min(3, len(source.levels))):
        grid = level_grid(source, number)
        pixels = source.read_region(number, 0, 0, *grid.shape)
        layer = Image(pixels, rgb=True, **grid.layer_kwargs(source.mpp))
        for truth in planted.centers_um:
            y, x = find_center(pixels, grid.cell_um, truth)
            index = y / grid.cell_um[0] - 0.5, x / grid.cell_um[1] - 0.5
            found = world_to_um(tuple(layer.data_to_world(index)), source.mpp)
            assert off_px(found, truth, planted.mpp) < 1


def test_a_patch_map_layer_covers_the_patch_it_describes(planted, source):
    from napari.layers import Image

    grid = Grid((70, 55), (20.0, 20.0), (3.0, 5.0))
    layer = Image(np.zeros(grid.shape), **grid.layer_kwargs(source.mpp))
    for y, x in planted.centers_um:
        row, col = grid.cell_at(y, x)
        found = world_to_um(tuple(layer.data_to_world((row, col))), source.mpp)
        assert found == pytest.approx(grid.rect_of(row, col).center_um, abs=1e-9)
