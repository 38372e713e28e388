"""Slides in a real viewer: never blank, the same async or not, closed at last."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.settings import get_settings

from made_source import MadeSource, pyramid_of
from napari_gimp._qt.scene import scene_of
from napari_gimp.reader import slide_layers

WAIT_MS = 20_000
Show = Callable[..., tuple[Any, MadeSource, list[Any]]]


@pytest.fixture
def show(make_napari_viewer, monkeypatch) -> Show:
    """Open a made slide in a viewer with our scene."""

    def shown(*, on_screen: bool = False, **made: Any) -> Any:
        source = MadeSource(pyramid_of(4096, 4096, made.pop("channels", 3)), **made)
        monkeypatch.setattr(
            "napari_gimp.slide.source.open_slide", lambda *args, **kwargs: source
        )
        viewer = make_napari_viewer(show=on_screen)
        scene_of(viewer)
        for levels, kwargs, _ in slide_layers(Path("made.tif")):
            viewer.add_image(levels, **kwargs)
        return viewer, source, list(viewer.layers)

    return shown


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def asynchronous(request) -> Iterator[bool]:
    """napari's setting, put back afterwards."""
    settings = get_settings().experimental
    before, settings.async_ = settings.async_, request.param
    yield request.param
    settings.async_ = before


def covers(viewer: Any, layer: Any) -> bool:
    """Whether what the canvas shows of a layer covers the field of view."""
    scale = np.asarray(layer.scale)
    half = np.array(viewer.canvas.size) / 2 / viewer.scene.camera.zoom / scale
    middle = np.array(viewer.scene.camera.center[-2:]) / scale
    low, high = np.clip([middle - half, middle + half], 0, 4096)
    tile = layer._slice.tile_to_data
    stop = tile.translate + tile.scale * layer._slice.image.raw.shape[:2]
    return bool((tile.translate <= low + 1).all() and (stop >= high - 1).all())


@pytest.mark.draws
@pytest.mark.slow
def test_async_or_not_the_final_picture_is_the_same(asynchronous, show, qtbot):
    viewer, source, (layer,) = show(on_screen=True)
    viewer.scene.camera.zoom = 2
    viewer.scene.camera.center = (700.0, 900.0)

    def is_sharp() -> None:
        shown = layer._slice.image.raw
        assert layer.data_level == 0
        y, x = layer.corner_pixels[0]
        truth = source.arrays[0][y : y + shown.shape[0], x : x + shown.shape[1]]
        np.testing.assert_array_equal(shown, truth)
        assert covers(viewer, layer)

    qtbot.waitUntil(is_sharp, timeout=WAIT_MS)
    viewer.layers.clear()


@pytest.mark.draws
@pytest.mark.slow
def test_no_frame_after_a_jump_lacks_a_part_of_the_field(asynchronous, show, qtbot):
    viewer, source, (layer,) = show(on_screen=True)
    frames: list[bool] = []
    canvas = viewer.window._qt_viewer.canvas
    qtbot.waitUntil(lambda: layer.data_level < 3, timeout=WAIT_MS)
    source.gate.clear()  # nothing is decoded: what is drawn comes from coarser tiles
    draw = canvas._scene_canvas._draw_scene

    def watched(*args: Any) -> None:
        frames.append(covers(viewer, layer))
        draw(*args)

    canvas._scene_canvas._draw_scene = watched
    for center, zoom in [((300, 400), 2.0), ((1700, 1500), 1.5), ((900, 900), 0.4)]:
        viewer.scene.camera.center, viewer.scene.camera.zoom = center, zoom
        seen = len(frames)
        qtbot.waitUntil(lambda seen=seen: len(frames) > seen, timeout=WAIT_MS)
    source.gate.set()
    assert all(frames)
    viewer.layers.clear()


def test_the_slide_is_closed_with_the_last_of_its_layers(show):
    viewer, source, layers = show(channels=2, rgb=False)
    view = layers[0].metadata["gimp_view"]
    assert layers[1].metadata["gimp_view"] is view
    viewer.layers.remove(layers[0])
    assert not view.tiles.closed
    source.tile(0, 0, 0)
    viewer.layers.remove(layers[1])
    assert view.tiles.closed
    with pytest.raises(Exception, match="is closed"):
        source.tile(0, 0, 0)


def test_nothing_of_ours_holds_a_layer_that_is_gone(show, qtbot):
    viewer, _, (layer,) = show()
    gone = weakref.ref(layer)
    viewer.layers.clear()
    del layer

    def is_gone() -> None:
        gc.collect()
        assert gone() is None

    qtbot.waitUntil(is_gone, timeout=WAIT_MS)


def test_channels_are_layers_that_add_up(show):
    viewer, _, layers = show(channels=3, rgb=False)
    view = layers[0].metadata["gimp_view"]
    assert [layer.metadata["gimp_channel"] for layer in layers] == [0, 1, 2]
    assert [str(layer.blending) for layer in layers] == ["additive"] * 3
    assert [layer.colormap.name for layer in layers] == ["cyan", "yellow", "magenta"]
    assert layers[1].name.endswith("channel 2")
    for channel, layer in enumerate(layers):
        contrast = view.channel_look(channel).contrast
        assert tuple(layer.contrast_limits) == pytest.approx(contrast)
    viewer.layers.clear()


@pytest.mark.draws
def test_tiles_that_arrive_refresh_every_channel(show, qtbot):
    viewer, source, layers = show(channels=2, rgb=False, on_screen=True)
    viewer.scene.camera.zoom = 2
    viewer.scene.camera.center = (700.0, 900.0)

    def are_sharp() -> None:
        for channel, layer in enumerate(layers):
            shown = layer._slice.image.raw
            assert layer.data_level == 0
            y, x = layer.corner_pixels[0]
            truth = source.arrays[0][..., channel]
            rows, cols = shown.shape
            np.testing.assert_array_equal(shown, truth[y : y + rows, x : x + cols])

    qtbot.waitUntil(are_sharp, timeout=WAIT_MS)
    viewer.layers.clear()


def test_contrast_chosen_too_early_is_made_up_for(show, qtbot, monkeypatch):
    monkeypatch.setattr("napari_gimp.slide.view.FIRST_PAINT_S", 0.0)
    monkeypatch.setattr("napari_gimp.slide.view_base.FIRST_PAINT_S", 0.0)
    made: list[MadeSource] = []
    closed = MadeSource.__init__

    def gated(self: MadeSource, *args: Any, **kwargs: Any) -> None:
        closed(self, *args, **kwargs)
        self.gate.clear()
        made.append(self)

    monkeypatch.setattr(MadeSource, "__init__", gated)
    viewer, source, (layer,) = show(channels=1, rgb=False)
    assert tuple(layer.contrast_limits) == (0.0, 1.0)
    source.gate.set()
    view = layer.metadata["gimp_view"]

    def is_made_up_for() -> None:
        expected = view.channel_look(0).contrast
        assert expected[1] > 1
        assert tuple(layer.contrast_limits) == pytest.approx(expected)

    qtbot.waitUntil(is_made_up_for, timeout=WAIT_MS)
    viewer.layers.clear()
