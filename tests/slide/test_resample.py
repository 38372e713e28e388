"""Area averages against a plain reference."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_gimp.slide.resample import area_average, best_level, overview, read_at
from napari_gimp.slide.source import open_slide

FINE = 8
"""The reference splits each pixel into 8 x 8, so edges are multiples of 1/8."""


def plain_average(pixels: np.ndarray, edges_y: np.ndarray, edges_x: np.ndarray):
    fine = pixels.repeat(FINE, axis=0).repeat(FINE, axis=1).astype(float)
    ys, xs = (np.rint(edges * FINE).astype(int) for edges in (edges_y, edges_x))
    return np.array(
        [
            [fine[a:b, c:d].mean(axis=(0, 1)) for c, d in itertools.pairwise(xs)]
            for a, b in itertools.pairwise(ys)
        ]
    )


@settings(deadline=None, max_examples=60)
@given(
    start=st.tuples(st.integers(0, 20), st.integers(0, 20)),
    step=st.tuples(st.integers(1, 30), st.integers(1, 30)),
    count=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    seed=st.integers(0, 2**31),
)
def test_area_average_is_the_mean_over_the_area(start, step, count, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 19, 3), np.uint8)
    edges = [(start[a] + step[a] * np.arange(count[a] + 1)) / FINE for a in (0, 1)]
    result = area_average(pixels, *edges)
    assert result.shape == (*count, 3)
    assert result.dtype == np.uint8
    assert np.abs(result - plain_average(pixels, *edges)).max() <= 0.51


def test_at_a_levels_own_resolution_pixels_are_returned_unchanged(write, texture):
    with open_slide(write([texture])) as slide:
        pixels = read_at(slide, 50.0, 100.0, (64, 80), 0.5)
    np.testing.assert_array_equal(pixels, texture[100:164, 200:280])


def test_the_coarsest_level_that_is_fine_enough_is_read(write, texture):
    levels = [texture, texture[::2, ::2], texture[::4, ::4]]
    with open_slide(write(levels)) as slide:
        found = [best_level(slide, mpp) for mpp in (0.1, 0.5, 0.9, 0.9999, 1, 1.9, 9)]
    assert found == [0, 0, 0, 1, 1, 1, 2]


def test_outside_the_slide_is_white(write, texture):
    with open_slide(write([texture])) as slide:
        pixels = read_at(slide, -20.0, -20.0, (10, 10), 1.7)
        far = read_at(slide, 9e4, 9e4, (5, 6), 1.0)
    assert (pixels == 255).all()
    assert (far == 255).all()
    assert far.shape == (5, 6, 3)


@pytest.mark.parametrize("mpp", [0.25, 0.7, 1.0, 3.7])
def test_an_overview_read_in_blocks_equals_one_read_at_once(
    write, texture, monkeypatch, mpp: float
):
    with open_slide(write([texture])) as slide:
        whole, grid = overview(slide, mpp)
        monkeypatch.setattr("napari_gimp.slide.resample.BLOCK_PX", 64)
        blocks, _ = overview(slide, mpp)
    assert whole.shape == (*grid.shape, 3)
    assert np.abs(whole.astype(int) - blocks).max() <= 1  # edges round differently
    assert grid.rect.y1 >= 350 > grid.rect.y1 - mpp


def test_an_overview_keeps_the_mean_brightness(write, texture):
    with open_slide(write([texture])) as slide:
        pixels, _ = overview(slide, 5.0)  # 350 um x 450 um: no white rim
    np.testing.assert_allclose(pixels.mean((0, 1)), texture.mean((0, 1)), atol=0.1)
