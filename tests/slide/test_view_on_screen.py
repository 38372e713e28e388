"""What the canvas shows: the planted patch, under the mouse where it should be."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from napari_gimp.reader import slide_layers

WAIT_MS = 20_000


def seen_center(viewer, mpp: float) -> tuple[float, float]:
    """Return the slide um of the bright square's centre, from a screenshot."""
    shot = viewer.screenshot(canvas_only=True, flash=False)[..., :3].astype(int)
    bright = (np.abs(shot - 240) < 8).all(axis=2)  # padding beyond the slide is 255
    ys, xs = np.nonzero(bright)
    assert len(ys), "the bright square is not on the canvas"
    middle = np.array(shot.shape[:2]) / 2
    # canvas pixels lie 1 / zoom world units apart around the camera's centre
    offset = (np.array([ys.mean(), xs.mean()]) + 0.5 - middle) / viewer.camera.zoom
    center = np.array(viewer.camera.center[-2:])
    return tuple(center + offset + mpp / 2)


@pytest.fixture
def signals_on_main() -> Iterator[None]:
    """Deliver signals of other threads on the main one, as the plugin does."""
    from psygnal.qt import start_emitting_from_queue, stop_emitting_from_queue

    start_emitting_from_queue(msec=30)
    yield
    stop_emitting_from_queue()


@pytest.mark.draws
@pytest.mark.slow
def test_a_dropped_slide_gets_sharp_without_any_dock(
    write, texture, make_napari_viewer, qtbot
):
    path = write([texture.repeat(3, 0).repeat(3, 1)], compression="deflate")
    viewer = make_napari_viewer(show=True)
    (layer,) = viewer.open(str(path), plugin="napari-gimp")
    viewer.camera.zoom = 3
    viewer.camera.center = (500.0, 600.0)

    def is_sharp() -> None:
        shown = layer._slice.image.raw
        assert layer.data_level == 0
        y, x = layer.corner_pixels[0]
        exact = layer.metadata["gimp_view"].exact(0, y, x, *shown.shape[:2])
        np.testing.assert_array_equal(shown, exact)

    qtbot.waitUntil(is_sharp, timeout=WAIT_MS)


@pytest.mark.draws
@pytest.mark.slow
@pytest.mark.parametrize("zoom", [4.0, 0.9])
def test_the_canvas_shows_the_patch_where_it_lies(
    planted, make_napari_viewer, signals_on_main, qtbot, zoom: float
):
    viewer = make_napari_viewer(show=True)
    [(levels, kwargs, _)] = slide_layers(planted.path)
    layer = viewer.add_image(levels, **kwargs)
    view = kwargs["metadata"]["gimp_view"]
    view.updated.connect(layer.refresh, thread="main")
    canvas_px = 1 / (zoom * planted.mpp)  # level-0 px under a canvas px
    for truth in planted.centers_um:
        viewer.camera.center = [um - planted.mpp / 2 for um in truth]
        viewer.camera.zoom = zoom

        def is_there(truth=truth) -> None:
            y, x = seen_center(viewer, planted.mpp)
            off = max(abs(y - truth[0]), abs(x - truth[1])) / planted.mpp
            assert off < max(1.0, canvas_px), f"{off:.2f} level-0 px off"

        qtbot.waitUntil(is_there, timeout=WAIT_MS)
    view.close()
