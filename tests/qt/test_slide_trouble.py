"""Damage and vanished files, told once and in place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from psygnal import emit_queued
from shown_slides import show_slide

from napari_gimp._qt.scene import scene_of
from napari_gimp._qt.slide import SlideDock
from napari_gimp._qt.slide_layers import view_of
from napari_gimp.errors import SlideError
from napari_gimp.slide.tiles import tile_cache

Deliver = Callable[[Any], None]
Make = Callable[..., Path]


def test_damaged_tiles_are_counted_in_the_dock_and_told_once(
    viewer: Any, dock: SlideDock, make_slide: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr("napari_gimp._qt.slide_trouble._notify", told.append)
    (layer,) = show_slide(viewer, make_slide())
    view = view_of(layer)
    assert view is not None
    assert dock.trouble.text() == ""

    for col in range(3):
        view.source.damage.note((0, 0, col), "bad bytes")
        view.updated.emit()
        emit_queued()

    assert "3 tiles could not be decoded" in dock.trouble.text()
    assert dock.trouble.property("tone") == "warning"
    assert len(told) == 1


def test_a_slide_that_vanishes_is_told_once_and_nothing_breaks(
    viewer: Any, dock: SlideDock, make_slide: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr("napari_gimp._qt.slide_trouble._notify", told.append)
    (layer,) = show_slide(viewer, make_slide())
    view = view_of(layer)
    assert view is not None

    view.error = SlideError("patient-7.tif cannot be read any more: plug it in.")
    for _ in range(5):
        view.updated.emit()
        emit_queued()

    assert dock.trouble.property("tone") == "error"
    assert "plug it in" in dock.trouble.text()

    for error in (None, SlideError("gone again")):
        view.error = error
        view.updated.emit()
        emit_queued()
        assert dock.trouble.text() == str(error or "")
    assert told == ["patient-7.tif cannot be read any more: plug it in."]


@pytest.mark.filterwarnings("ignore:patient-7.tif cannot be read")
def test_a_drive_that_is_unplugged_while_viewing_is_told_in_the_dock(
    viewer: Any, dock: SlideDock, make_slide: Make, qtbot: Any, monkeypatch: Any
) -> None:
    (layer,) = show_slide(viewer, make_slide())
    view = view_of(layer)
    assert view is not None

    def gone(level: int, row: int, col: int) -> Any:
        raise SlideError("patient-7.tif cannot be read: connect its drive again.")

    assert view.base.complete.wait(30)
    monkeypatch.setattr(view.source, "decode_tile", gone)
    tile_cache().clear()
    view.paint(0, None, 0, 0, 512, 512)

    def told() -> None:
        emit_queued()
        assert "connect its drive again" in dock.trouble.text()

    qtbot.waitUntil(told, timeout=20_000)
    assert scene_of(viewer).slide_layer is layer
