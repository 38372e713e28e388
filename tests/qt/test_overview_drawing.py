"""The overview over a canvas that really draws: needs OpenGL, so a display or Xvfb."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt

from napari_gimp._qt.scene import scene_of
from napari_gimp.reader import read_slides

pytestmark = [
    pytest.mark.draws,
    pytest.mark.skipif(
        os.environ.get("QT_QPA_PLATFORM") == "offscreen",
        reason="Qt's offscreen platform has no OpenGL; run under a display or Xvfb",
    ),
]
BLUE_UM = 160.0
"""The middle of the slide's blue square, y and x."""


@pytest.fixture
def viewer(make_napari_viewer: Any, make_slide: Callable[..., Path]) -> Any:
    viewer = make_napari_viewer(show=True)
    scene_of(viewer)
    for levels, kwargs, _ in read_slides(str(make_slide())):
        viewer.add_image(levels, **kwargs)
    viewer.canvas.overlays.scale_bar.visible = False
    return viewer


def blue(viewer: Any) -> Any:
    """Return the canvas as drawn, and where the blue square is on it."""
    shot = viewer.screenshot(canvas_only=True, flash=False)
    return shot, (shot[..., 2] > 150) & (shot[..., :2].max(axis=-1) < 90)


def test_a_click_on_the_square_in_the_overview_brings_it_to_the_middle(
    viewer: Any, qtbot: Any
) -> None:
    navigation = scene_of(viewer).navigation
    navigation.magnify(20)
    inside, share = navigation.overview.picture_rect, BLUE_UM / 768
    at = QPoint(
        round(inside.left() + share * inside.width()),
        round(inside.top() + share * inside.height()),
    )
    qtbot.mouseClick(navigation.overview, Qt.MouseButton.LeftButton, pos=at)

    def square_is_in_the_middle() -> None:
        shot, square = blue(viewer)
        assert square.any()
        middle = np.argwhere(square).mean(axis=0)
        one_px = 768 / inside.width() * viewer.scene.camera.zoom
        assert np.abs(middle - np.array(shot.shape[:2]) / 2).max() <= one_px

    qtbot.waitUntil(square_is_in_the_middle, timeout=20_000)


def test_the_magnification_is_that_of_the_drawn_square(viewer: Any, qtbot: Any) -> None:
    navigation = scene_of(viewer).navigation
    navigation.go_to(BLUE_UM / 768, BLUE_UM / 768)
    navigation.magnify(40)  # 0.25 um per screen px

    def square_is_as_large_as_it_should() -> None:
        shot, square = blue(viewer)
        rows = np.flatnonzero(square.any(axis=1))
        scale = shot.shape[0] / viewer.canvas.size[0]
        assert (rows[-1] + 1 - rows[0]) / scale == pytest.approx(64 / 0.25, abs=2)

    qtbot.waitUntil(square_is_as_large_as_it_should, timeout=20_000)
    assert navigation.badge.text().startswith("40×  ·  0.25 µm/px")


def test_a_picture_of_the_canvas_is_free_of_overview_and_badge(
    viewer: Any, qtbot: Any
) -> None:
    navigation = scene_of(viewer).navigation
    navigation.magnify(20)
    assert navigation.overview.isVisible()
    with_overview = viewer.screenshot(canvas_only=True, flash=False)
    navigation.toggle_overview()
    assert not navigation.overview.isVisible()

    without = viewer.screenshot(canvas_only=True, flash=False)

    height, width = navigation.overview.height(), navigation.overview.width()
    assert np.array_equal(with_overview[:height, :width], without[:height, :width])
