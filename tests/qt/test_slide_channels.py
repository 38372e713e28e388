"""The channels of a fluorescence slide are one slide in every list."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from shown_slides import show_slide

from napari_gimp._qt.analyse import AnalyseDock
from napari_gimp._qt.scene import scene_of
from napari_gimp._qt.slide import SlideDock
from napari_gimp._qt.slide_choice import SlideChoice
from napari_gimp._qt.slide_layers import view_of

Deliver = Callable[[Any], None]
Make = Callable[..., Path]


SHAPE = (700, 900)


@pytest.fixture
def channels(tmp_path: Path) -> Path:
    """Write fluorescence: two channels of 16 bits with names."""
    path = tmp_path / "cells.ome.tif"
    pixels = np.zeros((2, *SHAPE), dtype=np.uint16)
    pixels[0, 100:200, 100:200], pixels[1, 300:400, 300:400] = 4000, 9000
    about = {
        "axes": "CYX",
        "Channel": {"Name": ["DAPI", "CD8"]},
        "PhysicalSizeX": 0.5,
        "PhysicalSizeY": 0.5,
    }
    tifffile.imwrite(
        path, pixels, tile=(256, 256), photometric="minisblack", metadata=about
    )
    return path


def test_channels_are_one_slide_in_every_list(
    viewer: Any, dock: SlideDock, channels: Path
) -> None:
    analyse = AnalyseDock(viewer)
    layers = show_slide(viewer, channels)
    choice: SlideChoice = analyse.slide

    assert len(layers) == 2
    assert choice.layers.count() == 1
    assert choice.layers.currentText() == "cells.ome.tif"
    assert dock.texts()["Channels"] == "DAPI, CD8 (16 bit)"
    assert "Fluorescence can be viewed, not analysed" in analyse.run.toolTip()
    assert "Fluorescence can be viewed, not analysed" in analyse.notice.text()
    assert "fluorescence" in dock.colours.box.toolTip()

    viewer.layers.remove(layers[1])

    assert scene_of(viewer).session.slide == channels
    assert choice.layers.count() == 1
    view = view_of(layers[0])
    assert view is not None
    assert view.source.read_region(0, 0, 0, 1, 1).shape == (1, 1, 2)

    viewer.layers.remove(layers[0])

    assert scene_of(viewer).session.slide is None
    assert choice.layers.count() == 0
    assert analyse.notice.text() == ""


def test_the_overview_of_channels_follows_their_colours(
    viewer: Any, channels: Path, deliver: Deliver, qtbot: Any
) -> None:
    layers = show_slide(viewer, channels)
    navigation = scene_of(viewer).navigation
    deliver(navigation.drawing)
    for layer, colour in zip(layers, ("red", "green"), strict=True):
        layer.colormap, layer.contrast_limits = colour, (0, 9000)
    before = navigation.drawing
    qtbot.waitUntil(lambda: navigation.drawing is not before, timeout=5_000)
    deliver(navigation.drawing)

    navigation.overview.show_viewed(np.zeros((7, 9), dtype=np.bool_))
    image = navigation.overview.grab().toImage()
    area = navigation.overview.picture_rect

    def at(y: int, x: int) -> tuple[int, ...]:
        px = area.left() + x / SHAPE[1] * area.width()
        py = area.top() + y / SHAPE[0] * area.height()
        return image.pixelColor(int(px), int(py)).getRgb()[:3]

    assert at(150, 150) == pytest.approx((113, 0, 0), abs=6)
    assert at(350, 350) == pytest.approx((0, 255, 0), abs=6)
    assert at(600, 100) == (0, 0, 0)
