"""Slides of several channels, and of 16 bits: one layer each, one decode for all."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from made_source import MadeSource, pyramid_of
from napari_gimp.slide.decoding import decode_pool
from napari_gimp.slide.view import SlideView
from napari_gimp.slide.view_channels import contrast_of

WAIT_S = 20


@pytest.fixture(params=["u1", "u2", "f4"])
def source(request) -> Iterator[MadeSource]:
    arrays = pyramid_of(2048, 1496, 3, request.param)
    with MadeSource(arrays, rgb=False) as source:
        yield source


@pytest.fixture
def view(source) -> Iterator[SlideView]:
    view = SlideView(source)
    assert view.base.complete.wait(WAIT_S)
    yield view
    view.close()


def settle(view: SlideView) -> None:
    """Wait until nothing is decoded for a view any more."""
    import time

    end = time.monotonic() + WAIT_S
    while decode_pool().pending(view.tiles.token):
        assert time.monotonic() < end


def test_channels_are_what_the_slide_holds(view, source):
    for channel in range(3):
        level = view.channel_levels(channel)[0]
        assert level.shape == (*view.plan[0].shape,)
        assert level.dtype == source.dtype
        level[:2048, :1496]
        settle(view)
        truth = source.arrays[0][:, :, channel]
        np.testing.assert_array_equal(level[:2048, :1496], truth)
        np.testing.assert_array_equal(np.asarray(level)[:2048, :1496], truth)


def test_a_tile_is_decoded_once_for_all_channels(view, source):
    source.forget()
    for _ in range(2):
        for channel in range(3):
            view.channel_levels(channel)[0][0:256, 0:256]
        settle(view)
    assert len(source.decoded) == len(set(source.decoded))
    assert len(source.decoded) >= 16


def test_beyond_the_edge_a_channel_is_dark(view, source):
    rows, cols = view.plan[0].inner
    edge = view.channel_levels(1)[0][rows:, cols:]
    assert (edge == 0).all()


def test_contrast_is_by_percentiles_of_what_is_there(view):
    look, number = view.channel_look(1), view.base.number
    values = view.exact(number, 0, 0, *view.plan[number].inner)[:, :, 1]
    assert look.contrast == pytest.approx(
        tuple(np.percentile(values, (1.0, 99.8))), rel=1e-6
    )
    assert (look.name, look.colormap, look.visible) == ("channel 2", "yellow", True)


def test_names_and_colours_of_the_file_are_used(source):
    source.channel_names = ("DAPI", "", "CD8")
    source.channel_colors = ("#0000ff", "#00ff00", "#ff0000")
    view = SlideView(source)
    looks = [view.channel_look(channel) for channel in range(3)]
    assert [look.name for look in looks] == ["DAPI", "channel 2", "CD8"]
    assert [look.colormap for look in looks] == list(source.channel_colors)
    assert looks[0].layer_kwargs["blending"] == "additive"
    view.close()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.zeros((9, 9), np.uint16), (0.0, 1.0)),
        (np.full((9, 9), np.nan, np.float32), (0.0, 1.0)),
        (np.full((9, 9), 7, np.uint8), (7.0, 8.0)),
        (np.eye(100, dtype=np.uint16)[:1].repeat(99, 0) * 900, (0.0, 900.0)),
    ],
    ids=["empty", "nan", "flat", "rare"],
)
def test_contrast_has_a_width_whatever_the_pixels(values, expected):
    assert contrast_of(values) == expected


def test_colour_of_16_bits_is_shown_with_8():
    arrays = [a << 4 for a in pyramid_of(2048, 1496, 3, "u2")]
    with MadeSource(arrays) as source:
        view = SlideView(source)
        level = view.levels[0]
        level[:256, :256]
        settle(view)
        assert level.dtype == np.uint8
        assert level.shape[2] == 3
        np.testing.assert_array_equal(level[:256, :256], arrays[0][:256, :256] >> 8)
        assert (view.exact(0, 0, 0, 256, 256) == arrays[0][:256, :256]).all()
        assert (level[2048:, :] == 255).all()
        view.close()


def test_a_damaged_tile_of_a_channel_is_hatched_within_its_contrast(source):
    source.broken.add((0, 0, 0))
    view = SlideView(source)
    level = view.channel_levels(0)[0]
    level[:128, :128]
    settle(view)
    shown = level[:128, :128]
    low, high = view.channel_look(0).contrast
    ink = low + (high - low) / 3
    lines = np.isclose(shown[:64, :64].astype(float), ink, atol=0.51)
    assert 0.05 < lines.mean() < 0.3
    view.close()
