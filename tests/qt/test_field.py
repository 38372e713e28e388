"""Magnification, field of view and viewed area: no Qt, no napari."""

from __future__ import annotations

from math import isclose

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_gimp._qt.field import (
    Field,
    Lens,
    Place,
    field_of,
    magnification_text,
    share_of,
    um_per_screen_px,
    world_of,
    zoom_for,
)
from napari_gimp._qt.viewed import CELLS, Viewed

SLIDE = Place((1000, 2000), (0.5, 0.5), (0.0, 0.0), (0.5, 0.5))
CANVAS = (400, 600)


def lens(zoom: float, center: tuple[float, float] = (250.0, 500.0)) -> Lens:
    return Lens(center, zoom, CANVAS)


def test_the_whole_slide_is_the_field_from_its_outer_corners() -> None:
    # 500 um high: 0.8 screen px per um shows just that; the first pixel's centre is 0
    field = field_of(lens(0.8, (249.75, 499.75)), SLIDE)

    assert (field.y0, field.y1) == pytest.approx((0.0, 1.0))
    assert field.center == pytest.approx((0.5, 0.5))
    assert field.x1 - field.x0 == pytest.approx(600 / 0.8 / 1000)


def test_a_field_at_native_pixels_is_as_many_slide_pixels_as_the_canvas_has() -> None:
    field = field_of(lens(2.0), SLIDE)

    assert (field.y1 - field.y0) * 1000 == pytest.approx(400)
    assert (field.x1 - field.x0) * 2000 == pytest.approx(600)


@given(
    share=st.tuples(st.floats(-1, 2), st.floats(-1, 2)),
    scale=st.tuples(st.floats(0.01, 100), st.floats(0.01, 100)),
    translate=st.tuples(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4)),
)
def test_a_share_of_the_slide_becomes_a_world_position_and_back(
    share: tuple[float, float],
    scale: tuple[float, float],
    translate: tuple[float, float],
) -> None:
    place = Place((3000, 4000), scale, translate, None)

    assert share_of(world_of(share, place), place) == pytest.approx(share, abs=1e-6)


@pytest.mark.parametrize("magnification", [1.25, 2.5, 5, 10, 20, 40])
@pytest.mark.parametrize("mpp", [0.25, 0.5, 2.0])
def test_a_magnification_is_ten_um_per_screen_pixel_divided(
    magnification: float, mpp: float
) -> None:
    place = Place((1000, 1000), (mpp, mpp), (0.0, 0.0), (mpp, mpp))

    zoom = zoom_for(magnification, place)

    assert zoom is not None
    um = um_per_screen_px(lens(zoom), place)
    assert um is not None
    assert isclose(um, 10 / magnification)


def test_the_unit_of_the_world_does_not_change_the_magnification() -> None:
    in_mm = Place((1000, 2000), (0.0005, 0.0005), (0.0, 0.0), (0.5, 0.5))

    assert magnification_text(lens(2.0), SLIDE) == "20×  ·  0.50 µm/px"
    assert magnification_text(lens(2000.0), in_mm) == "20×  ·  0.50 µm/px"


@pytest.mark.parametrize(
    ("zoom", "text"),
    [
        (0.08, "0.8×  ·  12.5 µm/px"),
        (1.25, "12.5×  ·  0.80 µm/px"),
        (4.0, "40×  ·  0.25 µm/px  ·  digital zoom 2×"),
        (40.0, "400×  ·  0.025 µm/px  ·  digital zoom 20×"),
    ],
)
def test_the_badge_tells_digital_zoom_only_beyond_the_scan(
    zoom: float, text: str
) -> None:
    assert magnification_text(lens(zoom), SLIDE) == text


def test_without_um_per_px_no_magnification_is_invented() -> None:
    unknown = Place((1000, 2000), (1.0, 1.0), (0.0, 0.0), None)

    assert zoom_for(20, unknown) is None
    assert magnification_text(lens(0.25), unknown) == "4 slide px per screen px"
    assert "×  ·" not in magnification_text(lens(2.0), unknown)


def test_what_stayed_on_the_screen_at_five_times_is_viewed() -> None:
    viewed = Viewed((1000, 2000))
    assert viewed.mask.shape == (CELLS // 2, CELLS)

    assert not viewed.look(Field(0.0, 0.0, 0.5, 0.5), 2.0)
    assert viewed.look(Field(0.25, 0.0, 0.75, 0.5), 2.0)

    expected = np.zeros_like(viewed.mask)
    expected[CELLS // 8 : CELLS // 4, : CELLS // 2] = True
    assert np.array_equal(viewed.mask, expected)
    assert not viewed.look(Field(0.25, 0.0, 0.5, 0.5), 2.0), "nothing new"


@pytest.mark.parametrize("um", [2.01, None])
def test_what_was_seen_from_afar_or_at_unknown_size_is_not_viewed(
    um: float | None,
) -> None:
    viewed = Viewed((1000, 1000))
    for _ in range(3):
        assert not viewed.look(Field(0.1, 0.1, 0.9, 0.9), um)

    assert not viewed.mask.any()


def test_what_flew_past_is_not_viewed() -> None:
    viewed = Viewed((1000, 1000))
    for step in range(5):
        assert not viewed.look(Field(0.0, 0.2 * step, 0.2, 0.2 * step + 0.2), 0.5)

    assert not viewed.mask.any()


def test_beside_the_slide_nothing_is_viewed() -> None:
    viewed = Viewed((1000, 1000))
    for _ in range(2):
        assert not viewed.look(Field(1.5, 0.0, 2.0, 0.5), 0.5)

    assert not viewed.mask.any()


@given(y=st.floats(0, 0.999), x=st.floats(0, 0.999), side=st.floats(1e-6, 0.5))
def test_every_close_look_marks_at_least_one_cell_at_its_place(
    y: float, x: float, side: float
) -> None:
    viewed = Viewed((5000, 3000))
    field = Field(y, x, y + side, x + side)
    viewed.look(field, 0.25)
    viewed.look(field, 0.25)

    rows, cols = np.nonzero(viewed.mask)
    assert rows.size
    height, width = viewed.mask.shape
    assert rows.min() >= y * height - 1
    assert rows.max() <= (y + side) * height + 1
    assert cols.min() >= x * width - 1
    assert cols.max() <= (x + side) * width + 1
