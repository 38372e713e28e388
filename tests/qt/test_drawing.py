"""What is really drawn, pixel by pixel: needs OpenGL, so a display or Xvfb."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_gimp._qt.scene import scene_of
from napari_gimp.explain.maps import PatchMap
from napari_gimp.geometry import Grid
from napari_gimp.layers import Display
from napari_gimp.reader import read_slides

pytestmark = [
    pytest.mark.draws,
    pytest.mark.skipif(
        os.environ.get("QT_QPA_PLATFORM") == "offscreen",
        reason="Qt's offscreen platform has no OpenGL; run under a display or Xvfb",
    ),
]
Make = Callable[..., Path]


@pytest.fixture
def viewer(make_napari_viewer: Any, make_slide: Make) -> Any:
    """A viewer with the slide: white, a blue square from 128 to 192 um."""
    viewer = make_napari_viewer(show=True)
    scene = scene_of(viewer)
    for levels, kwargs, _ in read_slides(str(make_slide())):
        viewer.add_image(levels, **kwargs)
    assert scene.session.mpp == (0.5, 0.5)
    return viewer


def picture(viewer: Any) -> NDArray[np.uint8]:
    viewer.canvas.overlays.scale_bar.visible = False
    viewer.canvas.overlays.text.visible = False
    for layer in viewer.layers:
        layer.colorbar.visible = False
    shot: NDArray[np.uint8] = viewer.screenshot(canvas_only=True, flash=False)
    return shot


def colours_of_the_map(shot: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return where viridis is drawn: coloured, and not the slide's blue."""
    red, green, blue = np.moveaxis(shot[..., :3].astype(int), -1, 0)
    return np.asarray((green > red + 60) & (green > blue - 20))


def yellow_of_the_map(shot: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return where the top of viridis is drawn."""
    return np.asarray((shot[..., :2].min(axis=-1) > 180) & (shot[..., 2] < 90))


def blue_of_the_slide(shot: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return np.asarray((shot[..., 2] > 150) & (shot[..., :2].max(axis=-1) < 90))


def box(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the outer edges (y0, x0, y1, x1) of what is True, in screen px."""
    if not mask.any():
        return np.full(4, np.nan)
    rows, cols = np.nonzero(mask)
    return np.array([rows.min(), cols.min(), rows.max() + 1, cols.max() + 1], float)


def on_screen(viewer: Any, shot: NDArray[np.uint8], um: float) -> NDArray[np.float64]:
    """Return where (um, um) of the slide is drawn, (y, x) in screen px."""
    camera = viewer.scene.camera
    center = np.asarray(camera.center[-2:])
    world = np.array([um, um]) - 0.25  # napari's origin is the centre of a 0.5 um px
    scale = shot.shape[0] / viewer.canvas.size[0]
    at: NDArray[np.float64] = (world - center) * camera.zoom * scale
    return at + np.array(shot.shape[:2]) / 2


def edges(
    viewer: Any, shot: NDArray[np.uint8], um: tuple[float, float]
) -> NDArray[np.float64]:
    """Return where the square from um[0] to um[1] belongs, in screen px."""
    return np.concatenate([on_screen(viewer, shot, edge) for edge in um])


@pytest.mark.parametrize("um", [(0.0, 768.0), (128.0, 256.0), (300.0, 428.0)])
def test_a_planted_patch_is_drawn_where_the_slide_has_it(
    viewer: Any, um: tuple[float, float]
) -> None:
    session = scene_of(viewer).session
    values = np.array([[1.0]], dtype=np.float32)
    side = um[1] - um[0]
    grid = Grid((1, 1), (side, side), (um[0], um[0]))
    session.display = Display(opacity=1.0, scale="raw")
    session.maps = {"attention": PatchMap("attention", "Attention", values, grid)}
    session.shown = "attention"
    viewer.reset_view()

    shot = picture(viewer)

    assert np.abs(box(colours_of_the_map(shot)) - edges(viewer, shot, um)).max() <= 1


def test_the_map_covers_exactly_the_square_that_the_slide_shows(
    viewer: Any, qtbot: Any
) -> None:
    session, square = scene_of(viewer).session, (128.0, 192.0)
    viewer.reset_view()

    def slide_is_sharp() -> None:
        shot = picture(viewer)
        off = box(blue_of_the_slide(shot)) - edges(viewer, shot, square)
        assert np.abs(off).max() <= 1

    qtbot.waitUntil(slide_is_sharp, timeout=20_000)
    values = np.full((12, 12), np.nan, dtype=np.float32)
    values[2, 2], values[0, 0] = 1.0, 0.0  # the top of the scale is opaque
    grid = Grid(values.shape, (64.0, 64.0))
    session.display = Display(opacity=1.0, scale="raw")
    session.maps = {"attention": PatchMap("attention", "Attention", values, grid)}
    session.shown = "attention"
    shot = picture(viewer)

    assert blue_of_the_slide(shot).sum() <= 2 * 64 * viewer.scene.camera.zoom
    off = box(yellow_of_the_map(shot)) - edges(viewer, shot, square)
    assert np.abs(off).max() <= 1
