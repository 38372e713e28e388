"""The menu entry opens every dock once, and leaves nothing of itself behind."""

from __future__ import annotations

from typing import Any

from napari_gimp._qt.workspace import FULL_NAME, TITLES

NAMES = {FULL_NAME.format(title) for title in TITLES}
ENTRY = "GIMP workspace"


def open_from_menu(viewer: Any, qtbot: Any) -> None:
    viewer.window.add_plugin_dock_widget("napari-gimp", ENTRY)
    entry = f"{ENTRY} (napari-gimp)"
    qtbot.waitUntil(lambda: entry not in viewer.window.dock_widgets)


def test_the_menu_entry_opens_all_docks(make_napari_viewer: Any, qtbot: Any) -> None:
    viewer = make_napari_viewer()
    open_from_menu(viewer, qtbot)
    assert set(viewer.window.dock_widgets) == NAMES


def test_the_menu_entry_opens_no_dock_twice(
    make_napari_viewer: Any, qtbot: Any
) -> None:
    viewer = make_napari_viewer()
    open_from_menu(viewer, qtbot)
    before = dict(viewer.window.dock_widgets)
    open_from_menu(viewer, qtbot)
    assert dict(viewer.window.dock_widgets) == before
