"""Area averages against a plain reference."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_gimp.slide.averages import area_average, block_means
from napari_gimp.slide.resample import best_level, overview, read_at
from napari_gimp.slide.source import open_slide
from tiff_files import picture, write_ome_multichannel

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


@pytest.mark.parametrize("kind", [np.uint16, np.float32])
@pytest.mark.parametrize("mpp", [0.7, 1.5, 2.0])
def test_channels_of_any_kind_are_averaged_each_for_itself(tmp_path, kind, mpp):
    pixels = picture(150, 200, 5, kind)
    path = write_ome_multichannel(tmp_path / "a.ome.tif", [pixels], tile=(64, 64))
    edges = [
        np.round((start + np.arange(21) * mpp / 0.5) * 1024) / 1024 for start in (16, 8)
    ]
    expected = area_average(pixels.astype(np.float64), *edges)
    with open_slide(path) as slide:
        mean = read_at(slide, 8.0, 4.0, (20, 20), mpp)
        whole, grid = overview(slide, mpp)
    assert (mean.dtype, mean.shape) == (kind, (20, 20, 5))
    off = 0.51 if kind == np.uint16 else 1e-6
    assert np.abs(mean.astype(float) - expected).max() <= off
    assert whole.shape == (*grid.shape, 5)


def test_outside_a_fluorescence_slide_is_black(tmp_path):
    pixels = np.full((150, 200, 2), 900, np.uint16)
    path = write_ome_multichannel(tmp_path / "a.ome.tif", [pixels])
    with open_slide(path) as slide:
        assert (read_at(slide, -20.0, -20.0, (10, 10), 1.7) == 0).all()
        whole, _ = overview(slide, 30.0)  # 75 um x 100 um
    assert whole.shape == (3, 4, 2)
    assert (whole[:2, :3] == 900).all()
    assert (whole[2, 0] == 450).all()


def test_a_large_area_is_read_in_pieces_that_fit_into_memory(
    write, texture, monkeypatch
):
    with open_slide(write([texture])) as slide:
        at_once = read_at(slide, 3.3, 4.4, (90, 110), 3.7)
        monkeypatch.setattr("napari_gimp.slide.resample.BLOCK_PX", 64)
        read = slide.read_region
        sizes = []

        def watched(level: int, y: int, x: int, height: int, width: int):
            sizes.append(height * width)
            return read(level, y, x, height, width)

        monkeypatch.setattr(slide, "read_region", watched)
        in_pieces = read_at(slide, 3.3, 4.4, (90, 110), 3.7)
    np.testing.assert_array_equal(in_pieces, at_once)
    assert len(sizes) > 10
    assert max(sizes) <= 3 * 64**2


def test_pieces_of_many_channels_are_smaller(tmp_path):
    from napari_gimp.slide.resample import BLOCK_BYTES, _block_px

    pixels = np.zeros((20, 20, 40), np.uint16)
    path = write_ome_multichannel(tmp_path / "a.ome.tif", [pixels])
    with open_slide(path) as slide:
        assert _block_px(slide) ** 2 * 80 <= BLOCK_BYTES


@settings(deadline=None, max_examples=60)
@given(
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    step=st.sampled_from([1, 2, 3, 4, 8, 16, 64, 100]),
    kind=st.sampled_from([np.uint8, np.uint16, np.float32]),
)
def test_block_means_are_means_also_where_the_edge_cuts_them(shape, step, kind):
    rng = np.random.default_rng(step)
    pixels = (rng.random((*shape, 2)) * (200 if kind != np.uint16 else 6e4)).astype(
        kind
    )
    result = block_means(pixels, step)
    assert result.dtype == kind
    assert result.shape == (-(-shape[0] // step), -(-shape[1] // step), 2)
    for row, col in itertools.product(*map(range, result.shape[:2])):
        square = pixels[row * step : (row + 1) * step, col * step : (col + 1) * step]
        mean = square.astype(float).mean(axis=(0, 1))
        off = 0.5 + 1e-6 if kind != np.float32 else 1e-4
        assert np.abs(result[row, col] - mean).max() <= off


@pytest.mark.parametrize("kind", ["uint8", "uint16"])
@pytest.mark.parametrize("step", [2, 3, 4, 8, 16, 64])
def test_means_of_squares_are_rounded_as_numpy_rounds(step: int, kind: str) -> None:
    top = np.iinfo(kind).max
    rng = np.random.default_rng(step)
    pixels = rng.integers(0, 4, (4 * step, 60 * step, 3)).astype(kind)  # many ties
    pixels[step:] += np.array(top - 3, kind)
    pixels[2 * step :] = top
    squares = pixels.reshape(4, step, 60, step, 3).astype(float)

    means = block_means(pixels, step)

    np.testing.assert_array_equal(means, np.rint(squares.mean((1, 3))))
