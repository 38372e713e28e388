"""Docks in a viewer without OpenGL: what they ask for, show, allow and refuse."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_gimp._qt.analyse import AnalyseDock
from napari_gimp._qt.genes import GenesDock
from napari_gimp._qt.maps import MapsDock, decimals
from napari_gimp._qt.results import ResultsDock
from napari_gimp._qt.scene import scene_of
from napari_gimp._qt.slide import SlideDock
from napari_gimp.errors import PatchError
from napari_gimp.explain.inference import Event, Progress, Warned
from napari_gimp.explain.result import Result
from napari_gimp.reader import read_slides

Deliver = Callable[[Any], None]
Make = Callable[..., Path]


@pytest.fixture
def viewer(make_napari_viewer: Any) -> Any:
    return make_napari_viewer()


def show_slide(viewer: Any, path: Path) -> None:
    for levels, kwargs, _ in read_slides(str(path)):
        viewer.add_image(levels, **kwargs)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A checkpoint folder as the picker sees one: it reads the card only."""
    folder = tmp_path / "fake"
    folder.mkdir()
    (folder / "card.json").write_text(
        '{"description": "A model.", "classes": ["A", "B"]}'
    )
    return folder


@pytest.fixture
def analyse(viewer: Any, make_slide: Make, model: Path, events: list[Event]) -> Any:
    """An Analyse dock that is ready to run and would find `events`."""
    dock = AnalyseDock(viewer, analyse=lambda request: iter(events))
    show_slide(viewer, make_slide())
    dock.model.choose(model)
    assert dock.obstacle() == ""
    return dock


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


def test_changes_in_the_maps_dock_act_on_the_layer_at_once(
    viewer: Any, analyse: AnalyseDock, deliver: Deliver
) -> None:
    maps = MapsDock(viewer)
    assert not maps.map.isEnabled()
    assert "Run an analysis" in maps.map.toolTip()
    analyse.run.click()
    deliver(analyse.session.job)
    layer = scene_of(viewer).maps.layer("attention")

    maps.opacity.setValue(30)
    maps.scale.setCurrentText("Raw value")
    maps.scale.textActivated.emit("Raw value")
    assert layer.opacity == pytest.approx(0.3)
    assert np.nanmax(layer.data) == np.float32(0.9)

    maps.threshold.setValue((0.5, 0.9))
    assert np.isfinite(layer.data).sum() == 1


def test_choosing_a_map_shows_it_and_hides_the_other(
    viewer: Any, analyse: AnalyseDock, deliver: Deliver
) -> None:
    maps = MapsDock(viewer)
    analyse.run.click()
    deliver(analyse.session.job)

    maps.map.setCurrentIndex(1)
    maps.map.activated.emit(1)

    layers = scene_of(viewer).maps
    assert layers.layer("contribution").visible
    assert not layers.layer("attention").visible
    assert maps.colours.currentText() == layers.layer("contribution").colormap.name[5:]
    assert viewer.canvas.overlays.text.text.startswith("Contribution")


@pytest.mark.parametrize(
    ("span", "digits"), [((0, 100), 0), ((-1, 1), 2), ((0.0, 0.0021), 5), ((0, 0), 9)]
)
def test_the_threshold_shows_as_many_digits_as_the_values_need(
    span: tuple[float, float], digits: int
) -> None:
    assert decimals(*span) == digits


def test_results_show_both_predictions_the_shares_and_the_warnings(
    viewer: Any, analyse: AnalyseDock, deliver: Deliver
) -> None:
    results = ResultsDock(viewer)
    assert "no result yet" in results.hint.text()
    analyse.run.click()
    deliver(analyse.session.job)

    assert results.classes.texts() == ["60.0 %", "20.0 %", "40.0 %", "80.0 %"]
    assert results.share.texts() == ["25.0 %", "75.0 %"]
    assert results.warnings.text() == "Only 2 of 3 genes are there."
    assert results.headline.text().startswith("B, 80.0 %, from slide and genes")


def test_a_click_on_the_map_is_read_by_the_grid_and_shown(
    viewer: Any, analyse: AnalyseDock, deliver: Deliver
) -> None:
    results = ResultsDock(viewer)
    analyse.run.click()
    deliver(analyse.session.job)

    scene_of(viewer).pick_at((3 * 64 - 0.25 + 0.01, 8 * 64 - 0.25 + 0.01))

    assert "Patch attention: 0.9 share" in results.patch.text()
    assert "row 3, column 8" in results.patch.text()
    assert "100th percentile" in viewer.status


def test_the_gene_chart_is_made_in_the_background_and_shown(
    viewer: Any, analyse: AnalyseDock, deliver: Deliver
) -> None:
    genes = GenesDock(viewer)
    assert not genes.count.isEnabled()
    analyse.run.click()
    deliver(analyse.session.job)
    deliver(genes.order)

    assert genes.chart.figure is not None
    names = {x.get_text() for x in genes.chart.figure.axes[0].get_yticklabels()}
    assert names == {"ESR1", "TP53", "KRT5"}
    assert "2 of the model's 3 genes" in genes.summary.text()


def test_the_slide_dock_says_what_the_slide_is(viewer: Any, make_slide: Make) -> None:
    dock = SlideDock(viewer)
    show_slide(viewer, make_slide())

    facts = dock.texts()

    assert facts["Size"] == "1,536 × 1,536 px\n0.768 × 0.768 mm"
    assert facts["Resolution"].startswith("0.5 µm/px (TIFF")
    assert not dock.question.is_asking
    assert viewer.canvas.overlays.scale_bar.visible


@pytest.mark.filterwarnings("ignore:Shown in pixels")
@pytest.mark.parametrize(("stated", "guess"), [(None, 0.5), (0.00499, 0.499)])
def test_a_slide_without_believable_um_per_px_is_asked_about_in_place(
    viewer: Any, make_slide: Make, stated: float | None, guess: float
) -> None:
    dock, analyse = SlideDock(viewer), AnalyseDock(viewer)
    show_slide(viewer, make_slide(mpp=stated))

    assert dock.question.is_asking
    assert dock.question.mpp.value() == pytest.approx(guess, rel=1e-3)
    assert "Answer in the Slide dock" in analyse.run.toolTip()

    dock.question.mpp.setValue(0.25)
    dock.question.use.click()

    assert not dock.question.is_asking
    assert "0.25 µm/px (user, unverified)" in dock.texts()["Resolution"]
    assert tuple(viewer.layers[0].scale) == (0.25, 0.25)
    assert scene_of(viewer).asked_mpp == (0.25, 0.25)


def test_a_file_that_is_no_slide_is_told_in_place(
    viewer: Any, tmp_path: Path, deliver: Deliver
) -> None:
    path = tmp_path / "notes.svs"
    path.write_text("no slide")
    dock = SlideDock(viewer)

    deliver(dock.open_path(path))

    assert dock.notice.property("tone") == "error"
    assert "notes.svs" in dock.notice.text()
    assert len(viewer.layers) == 0


def test_opening_a_slide_from_the_dock_adds_it_in_um(
    viewer: Any, make_slide: Make, deliver: Deliver
) -> None:
    dock = SlideDock(viewer)

    deliver(dock.open_path(make_slide()))

    layer = viewer.layers[0]
    assert tuple(layer.scale) == (0.5, 0.5)
    assert [str(unit) for unit in layer.units] == ["micrometer", "micrometer"]
    assert dock.notice.text() == ""


def test_removing_the_slide_forgets_its_maps(
    viewer: Any, analyse: AnalyseDock, deliver: Deliver
) -> None:
    analyse.run.click()
    deliver(analyse.session.job)
    viewer.layers.remove(viewer.layers[0])

    assert len(viewer.layers) == 0
    assert analyse.session.slide is None
    assert not analyse.run.isEnabled()


def test_a_result_without_genes_has_one_column(viewer: Any, result: Result) -> None:
    from dataclasses import replace

    results = ResultsDock(viewer)
    scene_of(viewer).session.result = replace(result, genes=None, share=None)

    assert results.classes.texts() == ["60.0 %", "40.0 %"]
    assert results.headline.text().startswith("B, 80.0 %, from the slide only")
