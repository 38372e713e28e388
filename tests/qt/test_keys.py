"""Keys are napari's actions: they act, are listed as bound, and can be changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from napari.utils.action_manager import action_manager
from qtpy.QtCore import Qt
from qtpy.QtGui import QShortcut

from napari_gimp._qt.analyse import AnalyseDock
from napari_gimp._qt.key_list import KeyList
from napari_gimp._qt.keys import ACTION, KEYS, bound_keys, listed_keys
from napari_gimp._qt.maps import MapsDock
from napari_gimp._qt.scene import scene_of
from napari_gimp.explain.inference import Event, MapReady
from napari_gimp.explain.maps import PatchMap

Deliver = Callable[[Any], None]


@pytest.fixture
def viewer(make_napari_viewer: Any) -> Any:
    viewer = make_napari_viewer()
    scene_of(viewer)
    return viewer


def press(viewer: Any, key: str) -> None:
    viewer.window._qt_viewer._key_map_handler.press_key(key)


def test_every_key_of_the_table_is_bound_and_listed(viewer: Any) -> None:
    listed = {keys: what for _, keys, what in listed_keys()}

    assert len(listed) == len(KEYS)
    assert listed["Q"] == "Show or hide the overview"
    assert listed["? or Alt+K"] == "Show this list of keys"
    bound = viewer.window._qt_viewer._key_map_handler.active_keymap
    assert {str(one) for one in bound} >= {"Q", "H", ",", ".", "Alt+6", "Escape"}


def test_no_two_actions_share_a_default_and_none_takes_napari_s_own() -> None:
    from napari.utils.key_bindings import coerce_keybinding
    from napari.utils.shortcuts import default_shortcuts

    ours = [str(coerce_keybinding(key.default)) for key in KEYS]
    viewers = [
        str(one)
        for name, keys in default_shortcuts.items()
        for one in keys
        if action_manager._actions[name].keymapprovider.__name__ == "ViewerModel"
    ]

    assert len(set(ours)) == len(ours)
    assert not set(ours) & set(viewers)


@pytest.fixture
def _default_keys() -> Iterator[None]:
    yield
    action_manager.unbind_shortcut(ACTION.format("overview"))
    action_manager.bind_shortcut(ACTION.format("overview"), "Q")


@pytest.mark.usefixtures("_default_keys")
def test_a_key_that_the_user_changed_acts_and_is_listed(viewer: Any) -> None:
    navigation = scene_of(viewer).navigation
    action_manager.unbind_shortcut(ACTION.format("overview"))
    action_manager.bind_shortcut(ACTION.format("overview"), "Shift-W")

    press(viewer, "Q")
    assert navigation.wanted
    press(viewer, "Shift-W")
    assert not navigation.wanted

    (key,) = (key for key in KEYS if key.name == "overview")
    assert bound_keys(key) == "Shift+W"


def test_a_key_in_a_viewer_that_is_not_ours_does_nothing(
    viewer: Any, make_napari_viewer: Any
) -> None:
    other = make_napari_viewer()
    wanted = scene_of(viewer).navigation.wanted

    press(other, "Q")

    assert scene_of(viewer).navigation.wanted is wanted


def test_comma_and_dot_change_the_opacity_and_the_maps_dock_follows(
    viewer: Any, planted: PatchMap, deliver: Deliver
) -> None:
    dock, session = MapsDock(viewer), scene_of(viewer).session
    press(viewer, ",")
    assert "There is no map" in viewer.status

    session.mpp = (0.5, 0.5)
    deliver(session.analyse(lambda: iter([MapReady(planted, final=True)])))
    session.display = replace(session.display, opacity=0.5)
    press(viewer, ".")
    assert session.display.opacity == 0.6
    assert dock.opacity.value() == 60

    for _ in range(10):
        press(viewer, ",")
    assert session.display.opacity == 0.0
    assert dock.opacity.value() == 0


def test_escape_cancels_the_running_analysis(viewer: Any, deliver: Deliver) -> None:
    dock, session = AnalyseDock(viewer), scene_of(viewer).session
    press(viewer, "Escape")  # nothing runs: nothing happens

    def endless() -> Iterator[Event]:
        from napari_gimp.explain.inference import Progress

        while True:
            yield Progress("patch features", 1, 2)

    job = session.analyse(endless)
    press(viewer, "Escape")
    assert dock.stage.text() == "Cancelling…"
    deliver(job)

    assert session.job is None


def test_the_run_key_runs_or_says_what_is_missing(viewer: Any) -> None:
    press(viewer, "Control-Shift-R")
    assert "Open the Analyse dock" in viewer.status

    dock = AnalyseDock(viewer)
    press(viewer, "Control-Shift-R")

    assert "No slide is chosen" in dock.notice.text()
    assert dock.session.job is None


def test_the_list_opens_in_the_window_and_any_key_closes_it(
    viewer: Any, qtbot: Any
) -> None:
    scene = scene_of(viewer)
    press(viewer, "Alt-K")

    (panel,) = scene._window.findChildren(KeyList)
    texts = panel.texts()
    for key in KEYS:
        assert key.what in texts
        assert bound_keys(key) in texts

    with qtbot.waitSignal(panel.destroyed):
        qtbot.keyClick(panel, Qt.Key.Key_Space)


def test_the_question_mark_opens_the_list_once_per_window(viewer: Any) -> None:
    shortcuts = [
        one
        for one in scene_of(viewer)._window.findChildren(QShortcut)
        if one.key().toString() == "?"
    ]

    assert len(shortcuts) == 1
    shortcuts[0].activated.emit()
    (panel,) = scene_of(viewer)._window.findChildren(KeyList)
    panel.close()
