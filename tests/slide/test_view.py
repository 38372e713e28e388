"""Display levels: never blank, never decoding on the caller's thread, exact at last."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_gimp.slide.decoding import decode_pool
from napari_gimp.slide.display import display_levels
from napari_gimp.slide.ladder import COARSEST_PX
from napari_gimp.slide.source import Level, SlideSource, open_slide
from napari_gimp.slide.tiff import TiffSource
from napari_gimp.slide.tiles import tile_cache
from napari_gimp.slide.view import SlideView
from napari_gimp.slide.view_tiles import halve

WAIT_S = 20


@pytest.fixture
def source(planted) -> Iterator[SlideSource]:
    with open_slide(planted.path) as slide:
        tile_cache().drop(slide._token)
        yield slide


@pytest.fixture
def view(source: SlideSource) -> Iterator[SlideView]:
    view = SlideView(source)
    assert view.base.complete.wait(WAIT_S)
    yield view
    view.close()


def until(view: SlideView, ready: Callable[[], bool]) -> None:
    """Wait for `updated` until something is true; fail after WAIT_S."""
    arrived = threading.Semaphore(0)
    with_signal = view.updated.connect(lambda: arrived.release())
    while not ready():
        assert arrived.acquire(timeout=WAIT_S), "no `updated` came"
    view.updated.disconnect(with_signal)


@given(
    st.tuples(st.integers(1, 200_000), st.integers(1, 200_000)),
    st.lists(st.sampled_from([2, 2.5, 3, 4, 8]), max_size=6),
)
def test_display_levels_are_at_most_2x_apart_and_end_small(shape, steps):
    factors = np.cumprod([1.0, *steps])
    levels = tuple(
        Level(
            (max(1, int(shape[0] / f)), max(1, int(shape[1] / f))), (256, 256), (f, f)
        )
        for f in factors
    )
    plan = display_levels(levels)
    sides = [level.factor[0] for level in plan]
    assert all(1 < b / a <= 2.01 for a, b in itertools.pairwise(sides))
    assert max(plan[-1].inner) <= COARSEST_PX + 1
    assert all(
        i <= s for level in plan for i, s in zip(level.inner, level.shape, strict=True)
    )


@pytest.mark.parametrize("step", [2, 4, 2.5])
@pytest.mark.parametrize("shape", [(46_001, 32_917), (9_911, 9_274), (2_967, 2_220)])
def test_the_factors_napari_computes_from_display_shapes_are_exact(step, shape):
    factors = step ** np.arange(6)
    levels = tuple(
        Level((int(shape[0] / f), int(shape[1] / f)), (256, 256), (f, f))
        for f in factors
    )
    plan = display_levels(levels)
    for level in plan:
        quotients = [a / b for a, b in zip(plan[0].shape, level.shape, strict=True)]
        assert quotients == list(level.factor)


def test_levels_end_up_as_true_pixels(view, source):
    number = next(n for n, level in enumerate(view.plan) if level.stored == 1)
    rows, cols = source.levels[1].shape
    region = slice(0, min(rows, 400)), slice(0, min(cols, 400))
    truth = source.read_region(1, 0, 0, region[0].stop, region[1].stop)
    tile_cache().drop(source._token)
    until(view, lambda: bool((view.levels[number][region] == truth).all()))


def test_the_virtual_level_is_the_mean_of_the_level_before(view, source):
    virtual = [n for n, level in enumerate(view.plan) if level.stored is None]
    for number in virtual:
        finer = view.exact(number - 1, 0, 0, 600, 500)
        np.testing.assert_array_equal(view.exact(number, 0, 0, 300, 250), halve(finer))


@pytest.mark.parametrize(
    ("kind", "channels"), [("u1", 3), ("u1", 1), ("u2", 1), ("f4", 1)]
)
def test_halving_is_the_mean_of_four(kind, channels):
    rng = np.random.default_rng(5)
    pixels = rng.integers(0, 256, (40, 60, channels)).astype(kind)
    mean = pixels.astype(float).reshape(20, 2, 30, 2, channels).mean(axis=(1, 3))
    expected = np.floor(mean + 0.5) if kind[0] == "u" else mean
    np.testing.assert_array_equal(halve(pixels), expected.astype(kind))


def test_slicing_never_decodes_on_the_calling_thread(planted, monkeypatch):
    threads = set()
    decode = TiffSource.decode_tile

    def spy(self, level, row, col):
        threads.add(threading.current_thread().name)
        return decode(self, level, row, col)

    with open_slide(planted.path) as slide:
        tile_cache().drop(slide._token)
        monkeypatch.setattr(TiffSource, "decode_tile", spy)
        view = SlideView(slide)
        until(view, lambda: all((lv[:300, :300] == 40).any() for lv in view.levels))
        view.close()
    assert threads
    assert all(name.startswith("gimp-decode-") for name in threads)


def test_a_missing_tile_shows_coarser_pixels_of_the_same_place(view, planted):
    """Nothing of level 0 is decoded: what is seen comes from the coarsest level."""
    tile_cache().drop(view.source._token)
    tile_cache().drop(view.tiles.token)
    view.close()  # so that nothing arrives while we look
    y, x = (round(um / planted.mpp) for um in planted.centers_um[4])
    shown = view.levels[0][y - 100 : y + 100, x - 100 : x + 100, 0]
    if len(view.plan) == 1:
        pytest.skip("one level has nothing coarser")
    assert shown[100, 100] == 240
    assert shown[5, 5] == 40
    bright = np.argwhere(shown > 140)
    coarse = view.plan[-1].factor[0]
    assert np.abs(bright.mean(axis=0) + 0.5 - 100).max() <= coarse / 2


def test_padding_beyond_the_slide_is_white(view, source):
    rows, cols = source.levels[0].shape
    edge = view.levels[0][rows:, cols:]
    assert (edge == 255).all()


def test_numbers_steps_and_ellipses_index_a_level(view):
    level, exact = view.levels[-1], np.asarray(view.levels[-1])
    for key in [
        (slice(3, 90), slice(5, 70, 3)),
        (slice(None), slice(None), 0),
        (7, slice(2, 9)),
        (-1, -2, 1),
        (slice(4, 4), slice(None)),
        5,
        ...,
    ]:
        np.testing.assert_array_equal(level[key], exact[key])


def test_an_index_outside_a_level_is_an_error(view):
    with pytest.raises(IndexError, match="outside a level"):
        view.levels[0][10**6]


@pytest.fixture
def spoiled(write, texture) -> Iterator[SlideSource]:
    """A slide of one level whose first tile is damaged."""
    import tifffile

    path = write([texture.repeat(3, 0).repeat(3, 1)], compression="deflate")
    with tifffile.TiffFile(path) as tiff:
        offset = tiff.pages[0].dataoffsets[0]
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\xff" * 64)
    with open_slide(path) as slide:
        yield slide


def test_a_damaged_tile_is_noted_and_not_asked_for_again(spoiled):
    view = SlideView(spoiled)
    until(view, lambda: view.levels[0][:64, :64] is not None and bool(spoiled.damage))
    assert spoiled.damage.places == ((0, 0, 0),)
    view.levels[0][:64, :64]
    assert not decode_pool().pending(view.tiles.token)
    view.close()


def test_a_damaged_tile_is_white_in_the_true_pixels_of_virtual_levels(spoiled):
    view = SlideView(spoiled)
    tile, halved = 128, view.exact(1, 0, 0, 200, 200)
    assert (halved[: tile // 2, : tile // 2] == 255).all()
    finer = spoiled.read_region(0, tile, tile, 400 - tile, 400 - tile)
    np.testing.assert_array_equal(halved[tile // 2 :, tile // 2 :], halve(finer))
    assert (view.exact(0, 0, 0, 10, 10) == 255).all()
    view.close()


@pytest.mark.parametrize("number", [0, 1])
def test_a_damaged_tile_is_hatched_in_grey_and_nothing_else_is(spoiled, number):
    view, tile = SlideView(spoiled), 128 >> number
    region = np.s_[: 2 * tile, : 2 * tile]
    exact = view.exact(number, 0, 0, 2 * tile, 2 * tile)
    until(view, lambda: bool((view.levels[number][region] == 150).all(2).any()))
    until(
        view, lambda: bool((view.levels[number][region][tile:] == exact[tile:]).all())
    )
    shown = view.levels[number][region]
    lines = (shown[:tile, :tile] == 150).all(axis=2)
    assert 0.05 < lines.mean() < 0.3
    np.testing.assert_array_equal(shown[:, tile:], exact[:, tile:])
    view.close()


def test_a_closed_view_queues_nothing(view):
    view.close()
    tile_cache().drop(view.source._token)
    _ = view.levels[0][:500, :500]
    assert not decode_pool().pending(view.tiles.token)


def test_a_grey_slide_is_shown_in_two_dimensions(write):
    pixels = np.arange(300 * 200, dtype=np.uint16).reshape(300, 200)
    with open_slide(write([pixels], photometric="minisblack")) as slide:
        view = SlideView(slide)
        assert view.levels[0].shape == (300, 200)
        np.testing.assert_array_equal(np.asarray(view.levels[0]), pixels)
        view.close()
