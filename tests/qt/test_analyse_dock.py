"""The Analyse dock: what it asks for, shows, allows and refuses."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_gimp._qt.analyse import AnalyseDock
from napari_gimp._qt.scene import scene_of
from napari_gimp.errors import PatchError
from napari_gimp.explain.inference import Event, Progress, Warned

Deliver = Callable[[Any], None]
Make = Callable[..., Path]


@pytest.fixture
def viewer(make_napari_viewer: Any) -> Any:
    return make_napari_viewer()


def test_without_a_slide_run_is_off_and_says_why(viewer: Any) -> None:
    dock = AnalyseDock(viewer)

    assert not dock.run.isEnabled()
    assert "No slide is chosen" in dock.run.toolTip()
    assert not dock.cancel.isEnabled()
    assert dock.cancel.toolTip() == "Nothing is running."


def test_a_run_from_the_dock_lays_the_map_where_it_was_planted(
    viewer: Any, analyse: AnalyseDock, deliver: Deliver
) -> None:
    analyse.run.click()
    deliver(analyse.session.job)

    layer = scene_of(viewer).maps.layer("attention")
    row, col = np.argwhere(layer.data == 100)[0]
    center_um = np.array([3.5 * 64, 8.5 * 64])
    assert (row, col) == (3, 8)
    assert np.allclose(layer.data_to_world((row, col)), center_um - 0.25)
    assert layer.visible
    assert not scene_of(viewer).maps.layer("contribution").visible
    assert "Done" in analyse.notice.text()


def test_the_request_holds_what_was_chosen(
    viewer: Any, analyse: AnalyseDock, make_table: Make, model: Path, deliver: Deliver
) -> None:
    table = make_table("patient-3", "patient-7")
    analyse.genes.choose(table)
    assert "still being read" in analyse.run.toolTip()
    deliver(analyse.genes.reading)

    request = analyse.request()

    assert request.slide.name == "patient-7.tif"
    assert request.genes == table
    assert request.sample == "patient-7"
    assert request.model == str(model)
    assert request.mpp is None


def test_no_sample_is_taken_where_none_fits_the_slide(
    analyse: AnalyseDock, make_table: Make, deliver: Deliver
) -> None:
    analyse.genes.choose(make_table("TCGA-A1", "TCGA-B2"))
    deliver(analyse.genes.reading)

    assert analyse.genes.sample is None
    assert "Choose the sample" in analyse.run.toolTip()

    analyse.genes.samples.setCurrentText("TCGA-B2")

    assert analyse.run.isEnabled()
    assert analyse.request().sample == "TCGA-B2"


def test_a_sample_that_was_asked_for_is_not_that_of_the_next_slide(
    viewer: Any, analyse: AnalyseDock, make_table: Make, deliver: Deliver
) -> None:
    analyse.genes.choose(make_table("patient-3", "patient-7"), "patient-3")
    deliver(analyse.genes.reading)
    assert analyse.genes.sample == "patient-3"

    scene_of(viewer).session.slide = Path("next") / "patient-7.tif"

    assert analyse.genes.sample == "patient-7"


def test_a_table_that_cannot_be_read_is_told_in_place_and_bars_the_run(
    analyse: AnalyseDock, tmp_path: Path, deliver: Deliver
) -> None:
    path = tmp_path / "genes.csv"
    path.write_text("this is no table")
    analyse.genes.choose(path)
    deliver(analyse.genes.reading)

    assert analyse.genes.report.property("tone") == "error"
    assert not analyse.run.isEnabled()
    assert "cannot be used" in analyse.run.toolTip()


def test_summing_rows_needs_counts_and_says_so(
    analyse: AnalyseDock, make_table: Make, deliver: Deliver
) -> None:
    analyse.genes.choose(make_table("patient-3", "patient-7"))
    deliver(analyse.genes.reading)

    assert not analyse.genes.sum.isEnabled()
    assert "Only counts can be summed" in analyse.genes.sum.toolTip()


def test_progress_is_shown_with_stage_and_count(viewer: Any, analyse: Any) -> None:
    go_on = threading.Event()

    def steps(request: object) -> Iterator[Event]:
        yield Progress("patch features", 40, 143)
        assert go_on.wait(30)

    analyse._analyse = steps
    heard = threading.Event()
    analyse.run.click()
    job = analyse.session.job
    job.event.connect(lambda: heard.set())
    analyse.session.progress = Progress("patch features", 40, 143)

    assert analyse.stage.text() == "Patch features · 40 of 143"
    assert (analyse.bar.value(), analyse.bar.maximum()) == (40, 143)
    assert not analyse.run.isEnabled()
    assert analyse.cancel.isEnabled()
    go_on.set()
    assert job.wait(30)


def test_a_doubt_that_is_known_early_is_told_in_the_dock(
    viewer: Any, analyse: Any, deliver: Deliver
) -> None:
    analyse._analyse = lambda request: iter([Warned("This looks like IHC.")])
    analyse.run.click()
    deliver(analyse.session.job)

    assert analyse.notice.text() == "This looks like IHC."
    assert analyse.notice.property("tone") == "warning"


def test_cancel_ends_the_job_and_frees_the_run_button(
    viewer: Any, analyse: Any, deliver: Deliver
) -> None:
    begun, closed = threading.Event(), threading.Event()

    def steps(request: object) -> Iterator[Event]:
        try:
            while True:
                begun.set()
                yield Progress("patch features", 1, 143)
        finally:
            closed.set()

    analyse._analyse = steps
    analyse.run.click()
    job = analyse.session.job
    assert begun.wait(30)
    analyse.cancel.click()
    assert not analyse.cancel.isEnabled()
    deliver(job)

    assert closed.is_set()
    assert analyse.session.job is None
    assert analyse.run.isEnabled()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (PatchError("No patch is left. Lower the tissue limit."), "Lower the tissue"),
        (RuntimeError("mat1 and mat2 shapes"), "unexpected error: RuntimeError: mat1"),
    ],
)
def test_an_error_is_told_in_place(
    analyse: Any, deliver: Deliver, error: Exception, words: str
) -> None:
    def steps(request: object) -> Iterator[Event]:
        raise error
        yield

    analyse._analyse = steps
    analyse.run.click()
    deliver(analyse.session.job)

    assert analyse.notice.property("tone") == "error"
    assert words in analyse.notice.text()
    assert analyse.run.isEnabled()


def test_removing_the_slide_forgets_its_maps(
    viewer: Any, analyse: AnalyseDock, deliver: Deliver
) -> None:
    analyse.run.click()
    deliver(analyse.session.job)
    viewer.layers.remove(viewer.layers[0])

    assert len(viewer.layers) == 0
    assert analyse.session.slide is None
    assert not analyse.run.isEnabled()
