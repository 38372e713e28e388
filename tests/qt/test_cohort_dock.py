"""The Cohort dock: checks before, states while, reasons after, and the command."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from napari.components import ViewerModel
from psygnal import emit_queued
from qtpy.QtCore import QEvent, QMimeData, QPointF, Qt, QUrl
from qtpy.QtGui import QDropEvent
from qtpy.QtWidgets import QApplication, QWidget

from napari_gimp._qt.cohort import CohortDock
from napari_gimp._qt.cohort_order import Order
from napari_gimp._qt.scene import scene_of
from napari_gimp.cohorts.states import SlideState, State
from napari_gimp.errors import ClusterError
from small_slides import entries_of, write_slide

Deliver = Callable[[Any], None]


@pytest.fixture
def dock(qtbot: Any, tmp_path: Path, deliver: Deliver) -> Iterator[CohortDock]:
    """A dock that knows the encoders and keeps features in `store`."""
    window, made = QWidget(), CohortDock(ViewerModel())
    qtbot.addWidget(window)
    made.setParent(window)
    deliver(made.encoder.listing)
    made.store.set_path(tmp_path / "store")
    yield made
    window.close()


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Two slides of 16 patches and one that is none."""
    for name in ("big-a", "big-b"):
        write_slide(tmp_path / f"{name}.tif", seed=len(name))
    write_slide(tmp_path / "big-b.tif", seed=2)
    (tmp_path / "bad.svs").write_text("no slide")
    path = tmp_path / "cohort.csv"
    rows = ("P1,big-a.tif,north", "P2,bad.svs,north", "P3,big-b.tif,south")
    path.write_text("\n".join(("patient,slide,site", *rows)))
    return path


@pytest.fixture
def ready(dock: CohortDock, manifest: Path, deliver: Deliver) -> CohortDock:
    """A dock that has looked into the manifest."""
    dock.slides.field.set_path(manifest)
    deliver(dock.slides.checking)
    return dock


def run_with(
    monkeypatch: pytest.MonkeyPatch, steps: Callable[[], Iterator[SlideState]]
) -> None:
    monkeypatch.setattr(
        "napari_gimp._qt.cohort.extract", lambda order, entries: steps()
    )


def test_an_empty_dock_says_what_is_missing(dock: CohortDock) -> None:
    assert not dock.start.isEnabled()
    assert "Choose a manifest or a folder" in dock.start.toolTip()
    assert not dock.copy.isEnabled()
    assert dock.cancel.toolTip() == "Nothing is running."


def test_slides_are_looked_into_before_anything_runs(ready: CohortDock) -> None:
    said = ready.slides.notice.text()
    assert said.startswith(
        "3 slides of 3 patients from 2 sites. 1 slide cannot be used"
    )
    assert [row[:2] for row in ready.table.texts()] == [
        ["big-a.tif", "waiting"],
        ["bad.svs", "failed"],
        ["big-b.tif", "waiting"],
    ]
    assert "bad.svs, patient P2: failed." in ready.detail.text()
    assert ready.start.isEnabled()


def test_a_manifest_that_cannot_be_used_is_told_and_bars_the_start(
    dock: CohortDock, tmp_path: Path, deliver: Deliver
) -> None:
    path = tmp_path / "wrong.csv"
    path.write_text("case,file\nP1,a.svs\n")

    dock.slides.field.set_path(path)
    deliver(dock.slides.checking)

    assert "lacks the columns patient, slide" in dock.slides.notice.text()
    assert dock.slides.notice.property("tone") == "error"
    assert not dock.start.isEnabled()


@pytest.mark.slow
def test_the_dock_makes_byte_for_byte_what_the_command_makes(
    ready: CohortDock, tmp_path: Path, deliver: Deliver
) -> None:
    import shlex

    from napari_gimp.cli import main

    ready.start.click()
    deliver(ready.job)

    assert [row[1] for row in ready.table.texts()] == ["done", "failed", "done"]
    assert "3 slides: 2 done, 1 failed. Mend the failed" in ready.notice.text()
    order = ready.order()
    assert order is not None
    words = shlex.split(order.command.replace("/store ", "/other "))
    assert main(words[1:]) == 2  # a slide failed
    made = entries_of(tmp_path / "store")
    assert made
    assert made == entries_of(tmp_path / "other")


def test_each_slide_has_its_state_and_the_chosen_one_its_reason(
    ready: CohortDock, monkeypatch: pytest.MonkeyPatch, deliver: Deliver
) -> None:
    damaged = SlideState(0, State.DAMAGED, 400, 400, 61.0, "3 tiles are damaged")
    steps = (
        SlideState(1, State.FAILED, text="it is no slide"),
        SlideState(0, State.RUNNING, 50, 400),
        damaged,
    )
    run_with(monkeypatch, lambda: iter(steps))
    ready.start.click()
    deliver(ready.job)

    assert ready.table.texts()[0] == ["big-a.tif", "damaged", "400", "1 min 1 s"]
    assert ready.table.texts()[1][1] == "failed"
    ready.table.selectRow(1)
    assert "it is no slide" in ready.detail.text()
    ready.table.selectRow(0)
    assert "3 tiles are damaged" in ready.detail.text()
    assert ready.table.texts()[2][1] == "cancelled"  # it never came to it
    assert ready.job is None
    assert ready.start.isEnabled()


def test_the_table_sorts_what_needs_a_look_to_the_top(ready: CohortDock) -> None:
    ready.table.sortByColumn(1, Qt.SortOrder.AscendingOrder)
    assert ready.table.texts()[0][0] == "bad.svs"

    ready.table.sortByColumn(0, Qt.SortOrder.DescendingOrder)
    assert [row[0] for row in ready.table.texts()] == [
        "big-b.tif",
        "big-a.tif",
        "bad.svs",
    ]


def test_cancel_closes_the_run_and_keeps_what_was_made(
    ready: CohortDock, monkeypatch: pytest.MonkeyPatch, deliver: Deliver
) -> None:
    begun, go_on, closed = (threading.Event() for _ in range(3))

    def steps() -> Iterator[SlideState]:
        try:
            yield SlideState(0, State.RUNNING, 1, 100)
            begun.set()
            assert go_on.wait(30)
            yield SlideState(0, State.RUNNING, 2, 100)
            raise AssertionError("it went on after it was cancelled")
        finally:
            closed.set()

    run_with(monkeypatch, steps)
    ready.start.click()
    job = ready.job
    assert begun.wait(30)
    assert not ready.slides.field.isEnabled()
    assert "being made" in ready.slides.field.toolTip()
    ready.dropEvent(drop(Path("other.csv")))
    assert len(ready.table.texts()) == 3
    scene_of(ready._scene.viewer).cancel()  # Esc
    assert not ready.cancel.isEnabled()
    go_on.set()
    deliver(job)

    assert closed.is_set()
    assert ready.table.texts()[0][1:3] == ["cancelled", "2 of 100"]
    assert ready.slides.field.isEnabled()
    assert "columns patient and slide" in ready.slides.field.toolTip()
    assert "go on from there" in ready.notice.text()
    assert ready.start.isEnabled()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ClusterError("no dask scheduler answers at x"), "No dask scheduler answers"),
        (RuntimeError("bad"), "unexpected error: RuntimeError: bad"),
    ],
)
def test_an_error_of_the_whole_run_is_told_in_place(
    ready: CohortDock,
    monkeypatch: pytest.MonkeyPatch,
    deliver: Deliver,
    error: Exception,
    words: str,
) -> None:
    def steps() -> Iterator[SlideState]:
        raise error
        yield

    run_with(monkeypatch, steps)
    ready.start.click()
    deliver(ready.job)

    assert words in ready.notice.text()
    assert ready.notice.property("tone") == "error"
    assert ready.start.isEnabled()


def test_what_is_set_in_the_dock_is_in_the_order_and_on_the_clipboard(
    ready: CohortDock, manifest: Path, tmp_path: Path
) -> None:
    ready.tissue.setValue(25)
    ready.stride.setValue(64)
    ready.srgb.setChecked(True)
    ready.scheduler.setText(" tcp://host:8786 ")
    ready.encoder.names.setEditText("uni")

    order = ready.order()
    ready.copy.click()

    plan = ready.plan
    assert order == Order(
        manifest, "uni", tmp_path / "store", plan, True, "tcp://host:8786"
    )
    assert (plan.min_tissue, plan.stride_um) == (0.25, 64.0)
    clipboard = QApplication.clipboard()
    assert clipboard is not None
    assert clipboard.text() == order.command


def test_a_class_that_no_slide_has_is_told_before_the_start(
    ready: CohortDock, tmp_path: Path, deliver: Deliver
) -> None:
    corners = [[[0, 0], [200, 0], [200, 200], [0, 200], [0, 0]]]
    area = {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": corners},
        "properties": {"classification": {"name": "Ink"}},
    }
    path = tmp_path / "ink.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [area]}))
    ready.exclude.set_path(path)
    deliver(ready.slides.checking)
    assert ready.start.isEnabled()

    ready.outside_classes.setText("Inc")
    ready.outside_classes.editingFinished.emit()
    deliver(ready.slides.checking)

    assert "has the class Inc; there are Ink" in ready.slides.notice.text()
    assert not ready.start.isEnabled()

    ready.outside_classes.setText(" Ink ,")
    ready.outside_classes.editingFinished.emit()
    deliver(ready.slides.checking)

    assert ready.plan.exclude_labels == ("Ink",)
    assert ready.start.isEnabled()


def test_an_encoder_s_facts_say_what_it_takes_gives_and_asks_for(
    dock: CohortDock,
) -> None:
    assert "Included, nothing is fetched" in dock.encoder.facts.text()

    dock.encoder.names.setEditText("uni")

    facts = dock.encoder.facts.text()
    assert "1,024 features of a patch of 128 µm" in facts
    assert "Gated: ask for access at" in facts
    assert 'href="https://huggingface.co/MahmoodLab/UNI"' in facts

    dock.encoder.names.setEditText("timm:resnet18@0.5")

    assert "Loaded when you start" in dock.encoder.facts.text()


def test_the_list_of_encoders_is_searched_anywhere_in_a_name(dock: CohortDock) -> None:
    completer = dock.encoder.names.completer()
    assert completer is not None
    completer.setCompletionPrefix("GIGA")

    assert completer.currentCompletion() == "gigapath"


def drop(path: Path) -> QDropEvent:
    content = QMimeData()
    content.setUrls([QUrl.fromLocalFile(str(path))])
    drop.content = content  # type: ignore[attr-defined] # the event does not hold it
    left, none = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    return QDropEvent(QPointF(5, 5), Qt.DropAction.CopyAction, content, left, none)


def test_a_manifest_that_is_dropped_is_looked_into(
    dock: CohortDock, manifest: Path, deliver: Deliver
) -> None:
    dock.dropEvent(drop(manifest))
    deliver(dock.slides.checking)

    assert len(dock.table.texts()) == 3


def test_a_feature_file_that_is_dropped_opens_the_import(
    dock: CohortDock, tmp_path: Path
) -> None:
    dock.dropEvent(drop(tmp_path / "slide.h5"))

    assert not dock.importing.inside.isHidden()
    assert dock.imports.file.path == tmp_path / "slide.h5"


def test_a_folder_that_is_dropped_on_a_field_is_taken_by_it(
    dock: CohortDock, tmp_path: Path
) -> None:
    dock.store.dropEvent(drop(tmp_path / "elsewhere"))

    order = dock._order_of(tmp_path)
    assert order.store == tmp_path / "elsewhere"
    assert dock.slides.path is None


@pytest.mark.slow
def test_what_a_cluster_made_is_found_by_the_next_run_here(
    ready: CohortDock, tmp_path: Path, deliver: Deliver
) -> None:
    distributed = pytest.importorskip("distributed", reason="the extra [distributed]")
    with (
        mock.patch.dict(os.environ),  # dask leaves variables of its workers there
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
    ):
        ready.scheduler.setText(cluster.scheduler_address)
        ready.start.click()
        deliver(ready.job)
        assert [row[1] for row in ready.table.texts()] == ["done", "failed", "done"]

        ready.scheduler.clear()
        ready.start.click()
        deliver(ready.job)

    assert [row[1] for row in ready.table.texts()] == [
        "was there",
        "failed",
        "was there",
    ]


def test_closing_the_dock_ends_what_it_runs(
    ready: CohortDock, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def steps() -> Iterator[SlideState]:
        begun.set()
        assert go_on.wait(30)
        yield SlideState(0, State.RUNNING, 1, 2)
        raise AssertionError("it went on after its dock was closed")

    run_with(monkeypatch, steps)
    ready.start.click()
    job = ready.job
    assert begun.wait(30)
    assert job is not None

    ready.deleteLater()
    QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete.value)
    go_on.set()

    assert job.wait(30)
    assert job._cancel.is_set()
    emit_queued()  # what comes late meets no widget
