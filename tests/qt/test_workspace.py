from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from napari_gimp._qt.queue import INTERVAL_MS, start_queue
from napari_gimp._qt.scene import scene_of
from napari_gimp._qt.workspace import FULL_NAME, TITLES, open_workspace
from napari_gimp.explain.inference import Event, MapReady
from napari_gimp.explain.maps import PatchMap

MANIFEST = Path(__file__).parents[2] / "napari.yaml"


def test_docks_carry_the_names_that_napari_s_menu_gives_them() -> None:
    manifest = yaml.safe_load(MANIFEST.read_text(encoding="utf-8"))
    titles = [w["display_name"] for w in manifest["contributions"]["widgets"]]

    assert list(TITLES) == [title for title in titles if title[0].isdigit()]
    assert "{} (" + manifest["display_name"] + ")" == FULL_NAME


def test_opening_the_workspace_twice_makes_no_second_docks(
    make_napari_viewer: Any,
) -> None:
    viewer = make_napari_viewer()

    first, second = open_workspace(viewer), open_workspace(viewer)

    assert second.analyse is first.analyse
    assert len(viewer.window.dock_widgets) == len(TITLES)
    assert first.analyse.session is first.maps.session


def test_a_prepared_workspace_runs_once_the_table_is_read(
    make_napari_viewer: Any,
    make_slide: Callable[..., Path],
    make_table: Callable[..., Path],
    deliver: Callable[[Any], None],
    tmp_path: Path,
    events: list[Event],
    settle: Callable[[Any], None],
) -> None:
    (tmp_path / "fake").mkdir()
    (tmp_path / "fake" / "card.json").write_text("{}")
    asked: list[Any] = []
    go_on = threading.Event()

    def steps(request: Any) -> Iterator[Event]:
        asked.append(request)
        assert go_on.wait(30)
        yield from events

    workspace = open_workspace(make_napari_viewer())
    analyse = workspace.analyse
    analyse._analyse = steps
    deliver(workspace.slide.open_path(make_slide()))
    analyse.model.choose(tmp_path / "fake")

    workspace.prepare(genes=make_table("A", "B"), sample="B", start=True)
    deliver(analyse.genes.reading)
    settle(analyse)
    job = analyse.session.job
    go_on.set()
    deliver(job)

    assert [request.sample for request in asked] == ["B"]
    assert analyse.session.result is not None


def test_a_proxy_of_the_viewer_has_the_scene_of_the_viewer(
    make_napari_viewer: Any,
) -> None:
    from napari.utils._proxies import PublicOnlyProxy

    viewer = make_napari_viewer()

    assert scene_of(PublicOnlyProxy(viewer)) is scene_of(viewer)


@pytest.mark.parametrize("held", [False, True])
def test_h_hides_the_map_until_the_next_tap_or_while_it_is_held(
    make_napari_viewer: Any,
    planted: PatchMap,
    deliver: Callable[[Any], None],
    monkeypatch: pytest.MonkeyPatch,
    held: bool,
) -> None:
    viewer = make_napari_viewer()
    scene = scene_of(viewer)
    scene.session.mpp = (0.5, 0.5)
    deliver(scene.session.analyse(lambda: iter([MapReady(planted, final=True)])))
    layer = scene.maps.layer("attention")
    now = [100.0]
    monkeypatch.setattr("napari_gimp._qt.scene.time.monotonic", lambda: now[0])

    keys = viewer.window._qt_viewer._key_map_handler
    keys.press_key("H")
    assert not layer.visible
    now[0] += 2.0 if held else 0.1
    keys.release_key("H")

    assert layer.visible is held


def test_signals_of_other_threads_are_delivered_without_burning_a_core(
    qtbot: Any,
) -> None:
    from threading import current_thread

    from psygnal import qt

    start_queue()

    timer = qt._TIMERS[current_thread()]
    assert timer.isActive()
    assert timer.interval() == INTERVAL_MS >= 10
