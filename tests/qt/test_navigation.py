"""Overview, magnification and their keys in a viewer without OpenGL."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from psygnal import emit_queued
from qtpy.QtCore import QPoint, Qt

from napari_gimp._qt.navigation import CHOICE, CHOICES_FILE, SCALE_BAR_PX
from napari_gimp._qt.overview import (
    FRAME_PX,
    LONGEST_PX,
    MOST_OF_CANVAS,
    SMALLEST_FIELD_PX,
    field_rect,
    overview_size,
)
from napari_gimp._qt.overview_picture import Tone, colours
from napari_gimp._qt.scene import scene_of
from napari_gimp._qt.slide_layers import give_mpp
from napari_gimp.reader import read_slides
from napari_gimp.slide.remembered import read_choices

Make = Callable[..., Path]
Press = Callable[[str], None]


@pytest.fixture
def viewer(make_napari_viewer: Any, make_slide: Make) -> Any:
    viewer = make_napari_viewer()
    scene_of(viewer)
    show_slide(viewer, make_slide())
    return viewer


def show_slide(viewer: Any, path: Path) -> Any:
    for levels, kwargs, _ in read_slides(str(path)):
        layer = viewer.add_image(levels, **kwargs)
    return layer


@pytest.fixture
def press(viewer: Any) -> Press:
    def press_and_let_go(key: str) -> None:
        handler = viewer.window._qt_viewer._key_map_handler
        handler.press_key(key)
        handler.release_key(key)

    return press_and_let_go


def picture_of_the_overview(viewer: Any, deliver: Callable[[Any], None]) -> Any:
    navigation = scene_of(viewer).navigation
    deliver(navigation.drawing)
    image = navigation.overview.grab().toImage()
    return navigation.overview, image


def test_the_overview_shows_the_slide_once_a_part_of_it_is_in_view(
    viewer: Any, deliver: Callable[[Any], None]
) -> None:
    viewer.scene.camera.zoom = 8.0
    overview, image = picture_of_the_overview(viewer, deliver)

    assert not overview.isHidden()
    inside = overview.picture_rect
    blue = 320 / 1536  # the middle of the blue square, as a share of the slide
    x, y = inside.left() + blue * inside.width(), inside.top() + blue * inside.height()
    assert image.pixelColor(round(x), round(y)).getRgb()[:3] == (0, 0, 255)
    assert image.pixelColor(round(x) + 40, round(y)).lightness() > 200


def test_the_overview_gives_way_to_the_whole_slide(viewer: Any, press: Press) -> None:
    overview = scene_of(viewer).navigation.overview
    viewer.scene.camera.zoom = 8.0
    assert not overview.isHidden()
    press("Alt-0")
    assert overview.isHidden()
    press("Q")
    press("Q")
    assert overview.isHidden()
    viewer.scene.camera.zoom = 8.0
    assert not overview.isHidden()


def test_the_field_is_drawn_where_the_camera_looks(viewer: Any) -> None:
    overview = scene_of(viewer).navigation.overview
    viewer.scene.camera.zoom = 8.0
    viewer.scene.camera.center = (0.0, 191.75, 575.75)  # um; a slide of 768 um

    assert overview.field.center == pytest.approx((0.25, 0.75))
    height, width = viewer.canvas.size
    assert overview.field.y1 - overview.field.y0 == pytest.approx(height / 8 / 768)
    assert overview.field.x1 - overview.field.x0 == pytest.approx(width / 8 / 768)


def test_a_click_in_the_overview_moves_the_camera_there(
    viewer: Any, qtbot: Any
) -> None:
    overview = scene_of(viewer).navigation.overview
    zoom = viewer.scene.camera.zoom
    inside = overview.picture_rect
    at = QPoint(
        round(inside.left() + inside.width() * 0.25),
        round(inside.top() + inside.height() * 0.5),
    )

    qtbot.mouseClick(overview, Qt.MouseButton.LeftButton, pos=at)

    y, x = viewer.scene.camera.center[-2:]
    assert (y, x) == pytest.approx((384, 192), abs=768 / inside.width())
    assert viewer.scene.camera.zoom == zoom


def test_q_hides_the_overview_and_it_stays_hidden_the_next_time(
    viewer: Any, press: Press, make_napari_viewer: Any, make_slide: Make
) -> None:
    overview = scene_of(viewer).navigation.overview
    viewer.scene.camera.zoom = 8.0
    press("Q")
    assert overview.isHidden()
    assert read_choices(CHOICES_FILE) == {CHOICE: False}

    another = make_napari_viewer()
    scene_of(another)
    show_slide(another, make_slide("patient-8"))
    another.scene.camera.zoom = 8.0

    assert scene_of(another).navigation.overview.isHidden()
    press("Q")
    assert not overview.isHidden()


@pytest.mark.parametrize(
    ("key", "magnification"),
    [("Alt-1", 1.25), ("Alt-2", 2.5), ("Alt-4", 10.0), ("Alt-6", 40.0)],
)
def test_keys_magnify_about_the_middle(
    viewer: Any, press: Press, key: str, magnification: float
) -> None:
    viewer.scene.camera.center = (0.0, 100.0, 600.0)

    press(key)

    badge = scene_of(viewer).navigation.badge
    assert badge.text().startswith(f"{magnification:g}×")
    assert viewer.scene.camera.zoom == pytest.approx(magnification / 10)
    assert viewer.scene.camera.center[-2:] == (100.0, 600.0)


def test_alt_0_shows_the_whole_slide(viewer: Any, press: Press) -> None:
    viewer.scene.camera.zoom = 50.0
    press("Alt-0")

    field = scene_of(viewer).navigation.overview.field
    assert field.y0 <= 0 <= 1 <= field.y1
    assert field.x0 <= 0 <= 1 <= field.x1


def test_without_um_per_px_the_keys_say_so_and_the_badge_tells_pixels(
    viewer: Any, press: Press, make_slide: Make
) -> None:
    with pytest.warns(UserWarning, match="Shown in pixels"):
        layer = show_slide(viewer, make_slide("patient-9", mpp=None))
    zoom, badge = viewer.scene.camera.zoom, scene_of(viewer).navigation.badge

    press("Alt-5")

    assert viewer.scene.camera.zoom == zoom
    assert "answer in the Slide dock" in viewer.status
    assert "slide px per screen px" in badge.text()

    scene_of(viewer).give_mpp((0.5, 0.5))
    press("Alt-5")

    assert layer.scale[0] == 0.5
    assert badge.text() == "20×  ·  0.50 µm/px"


def test_what_one_rests_on_is_tinted_and_the_watch_stops_at_rest(
    viewer: Any, qtbot: Any
) -> None:
    navigation = scene_of(viewer).navigation
    navigation.magnify(40)
    navigation.go_to(0.25, 0.25)
    qtbot.waitUntil(lambda: not navigation._timer.isActive(), timeout=5_000)

    (viewed,) = navigation.viewed.values()
    rows, cols = viewed.mask.shape
    assert viewed.mask[rows // 4, cols // 4]
    assert not viewed.mask[-1].any()
    tint = navigation.overview._tint
    assert tint.pixelColor(cols // 4, rows // 4).alpha() > 0
    assert tint.pixelColor(cols - 1, rows - 1).alpha() == 0


def test_the_overview_follows_the_chosen_slide(
    viewer: Any, make_slide: Make, deliver: Callable[[Any], None]
) -> None:
    scene = scene_of(viewer)
    first = scene.slide_layer
    second = show_slide(viewer, make_slide("patient-8"))
    give_mpp(second, (0.25, 0.25))
    scene.choose_slide(second)
    place = scene.navigation.place
    assert place is not None
    assert place.mpp == (0.25, 0.25)

    scene.choose_slide(first)

    place = scene.navigation.place
    assert place is not None
    assert place.mpp == (0.5, 0.5)
    deliver(scene.navigation.drawing)


def test_without_a_slide_neither_overview_nor_badge_is_there(
    viewer: Any, press: Press
) -> None:
    navigation = scene_of(viewer).navigation
    viewer.layers.clear()

    assert navigation.overview.isHidden()
    assert navigation.badge.isHidden()
    assert navigation.drawing is None, "it holds the pixels of the slide"
    press("Alt-3")
    press("Alt-0")
    assert navigation.place is None


def test_in_3d_no_field_is_drawn(viewer: Any) -> None:
    overview = scene_of(viewer).navigation.overview
    viewer.dims.ndisplay = 3

    assert overview.field is None


def test_after_the_viewer_closed_nothing_ticks_and_nothing_breaks(
    make_napari_viewer: Any, make_slide: Make, qtbot: Any
) -> None:
    viewer = make_napari_viewer()
    scene = scene_of(viewer)
    show_slide(viewer, make_slide())
    scene.navigation.magnify(20)
    job = scene.navigation.drawing
    gone: list[bool] = []
    scene.navigation.overview.destroyed.connect(lambda: gone.append(True))
    scene.navigation.overview.setParent(None)
    scene.navigation.overview.deleteLater()
    qtbot.waitUntil(lambda: bool(gone), timeout=5_000)

    assert job.wait(30)
    assert job.is_cancelling or job.is_done
    emit_queued()  # the picture arrives too late
    scene.session.slide = None
    viewer.scene.camera.zoom = 3.0
    viewer.close()


def test_closing_the_viewer_ends_timer_and_picture(
    make_napari_viewer: Any, make_slide: Make, qtbot: Any
) -> None:
    viewer = make_napari_viewer()
    navigation = scene_of(viewer).navigation
    show_slide(viewer, make_slide())
    navigation.magnify(20)
    ticks, job = navigation._timer, navigation.drawing
    gone: list[bool] = []
    ticks.destroyed.connect(lambda: gone.append(True))

    viewer.close()

    qtbot.waitUntil(lambda: bool(gone), timeout=5_000)
    assert job.wait(30)
    assert navigation.place is None


@pytest.mark.parametrize("width", [300, 900])
def test_the_magnification_never_lies_on_the_scale_bar(viewer: Any, width: int) -> None:
    navigation = scene_of(viewer).navigation
    navigation.magnify(123)  # "digital zoom" makes it long
    viewer.canvas.size = (600, width)

    badge = navigation.badge.geometry()
    beside = badge.right() < width - SCALE_BAR_PX[1]
    above = badge.bottom() < 600 - SCALE_BAR_PX[0]
    assert beside or above
    assert badge.top() > navigation.overview.geometry().bottom()


@pytest.mark.parametrize("shape", [(1000, 1000), (500, 90_000), (80_000, 400)])
@pytest.mark.parametrize("canvas", [(850, 950), (300, 400)])
def test_the_overview_keeps_the_slide_s_shape_and_leaves_room(
    shape: tuple[int, int], canvas: tuple[int, int]
) -> None:
    height, width = overview_size(shape, canvas)

    assert max(height, width) <= LONGEST_PX
    assert height <= MOST_OF_CANVAS * canvas[0] + 1
    assert width <= MOST_OF_CANVAS * canvas[1] + 1
    assert min(height, width) >= 1
    assert abs(width - height * shape[1] / shape[0]) <= max(1, shape[1] / shape[0])


def test_a_tiny_field_is_still_drawn_around_its_place(viewer: Any) -> None:
    navigation = scene_of(viewer).navigation
    navigation.magnify(4000)
    navigation.go_to(0.5, 0.25)
    overview = navigation.overview

    rect = field_rect(overview.field, overview.picture_rect)

    assert rect.width() == rect.height() == SMALLEST_FIELD_PX
    assert rect.center().x() == pytest.approx(
        FRAME_PX + 0.25 * overview.picture_rect.width()
    )


def test_channels_are_laid_over_each_other_in_their_colours() -> None:
    pixels = np.zeros((2, 2, 2), dtype=np.uint16)
    pixels[0, :, 0], pixels[:, 0, 1] = 1000, 4000
    tones = (Tone(0, (1.0, 0.0, 0.0), 0, 1000), Tone(1, (0.0, 0.0, 1.0), 2000, 4000))

    picture = colours(pixels, tones)

    assert picture.tolist() == [
        [[255, 0, 255], [255, 0, 0]],
        [[0, 0, 255], [0, 0, 0]],
    ]
