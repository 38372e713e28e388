"""Tissue in the Analyse dock: found, told, painted, limited; the painting is kept."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shown_slides import show_slide, square_annotations, stained_slide

from napari_gimp._qt.analyse import AnalyseDock
from napari_gimp._qt.scene import scene_of
from napari_gimp._qt.tissue import BACK, DONE, EDIT, RESET
from napari_gimp._qt.tissue_brush import TISSUE
from napari_gimp._qt.tissue_layers import OUTLINE
from napari_gimp._qt.tissue_search import tissue_job
from napari_gimp.errors import PatchError
from napari_gimp.patches.plan import PatchPlan

Settle = Callable[[AnalyseDock], None]
AREA_MM2 = 0.768**2


@pytest.fixture
def viewer(make_napari_viewer: Any) -> Any:
    return make_napari_viewer()


@pytest.fixture
def slide(tmp_path: Path) -> Path:
    return stained_slide(tmp_path / "patient-7.tif")


@pytest.fixture
def dock(viewer: Any, slide: Path, seeing_model: Path, settle: Settle) -> AnalyseDock:
    """A dock with a slide whose tissue is found."""
    dock = AnalyseDock(viewer)
    dock.model.choose(seeing_model)
    show_slide(viewer, slide)
    settle(dock)
    return dock


def area_mm2(dock: AnalyseDock) -> float:
    assert dock.session.tissue is not None
    return dock.session.tissue.area_mm2


def erase(dock: AnalyseDock, *rows_um: int) -> Any:
    """Take tissue away with the brush's layer, as a stroke does; return the layer."""
    if not dock.tissue.is_editing:
        dock.tissue.edit.click()
    layer = dock.tissue.brush.layer(dock.session.slide)
    rows = slice(*(int(um / 8) for um in rows_um))
    at = np.nonzero(np.pad(layer.data[rows], ((rows.start, 0), (0, 0))))
    layer.data_setitem(at, 0)
    return layer


def test_tissue_is_found_outlined_and_told_with_what_was_left_out(
    viewer: Any, dock: AnalyseDock
) -> None:
    layer = scene_of(viewer).plan_layers.layer(OUTLINE)

    assert area_mm2(dock) == pytest.approx(AREA_MM2, rel=0.03)
    assert dock.tissue.line.text().startswith("0.5")
    assert "mm² tissue; left out: 0.0" in dock.tissue.line.text()
    assert "mm² blue or green ink" in dock.tissue.line.text()
    assert type(layer).__name__ == "Image"
    inside = layer.get_value((640.0, 640.0), world=True)
    outside = layer.get_value((100.0, 100.0), world=True)
    assert inside[1] > 0 > outside[1]
    assert viewer.layers.selection.active is scene_of(viewer).slide_layer


def test_the_outline_is_hidden_on_request_and_stays_so(
    viewer: Any, dock: AnalyseDock, settle: Settle
) -> None:
    dock.tissue.outline.click()
    assert not scene_of(viewer).plan_layers.layer(OUTLINE).visible

    erase(dock, 256, 512)
    settle(dock)

    assert not scene_of(viewer).plan_layers.layer(OUTLINE).visible


def test_without_a_slide_the_rows_say_what_they_wait_for(viewer: Any) -> None:
    dock = AnalyseDock(viewer)

    assert "when a slide is open" in dock.tissue.line.text()
    assert not dock.tissue.edit.isEnabled()
    assert "when a slide is open" in dock.tissue.edit.toolTip()
    assert not dock.tissue.include.field.isEnabled()
    assert "when a slide is open" in dock.tissue.include.field.toolTip()


def test_nothing_is_found_or_counted_on_the_main_thread(
    viewer: Any,
    slide: Path,
    seeing_model: Path,
    settle: Settle,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads = []
    for name in ("find_uncut", "narrow", "lay"):
        work = getattr(PatchPlan, name)

        def noted(*args: Any, work: Any = work) -> Any:
            threads.append(threading.current_thread())
            return work(*args)

        monkeypatch.setattr(PatchPlan, name, noted)
    dock = AnalyseDock(viewer)
    dock.model.choose(seeing_model)
    show_slide(viewer, slide)
    settle(dock)
    erase(dock, 256, 640)
    settle(dock)

    assert len(threads) >= 5
    assert threading.main_thread() not in threads


def test_a_stroke_is_kept_and_used_by_the_run(
    dock: AnalyseDock, settle: Settle
) -> None:
    layer = erase(dock, 256, 640)
    assert dock.tissue.edit.text() == DONE
    assert "being kept" in dock.obstacle()
    settle(dock)

    assert area_mm2(dock) == pytest.approx(AREA_MM2 / 2, rel=0.03)
    assert "painted by you" in dock.tissue.line.text()
    plan = dock.request().plan
    assert plan.tissue is not None
    assert plan.tissue.is_file()
    assert dock.obstacle() == ""
    np.testing.assert_array_equal(layer.data == TISSUE, dock.session.tissue.mask)


def test_opening_and_closing_the_brush_changes_nothing_and_frees_the_run(
    dock: AnalyseDock, settle: Settle
) -> None:
    dock.tissue.edit.click()
    settle(dock)
    assert dock.tissue.edit.text() == DONE
    assert dock.run.isEnabled()

    dock.tissue.edit.click()
    settle(dock)

    assert dock.tissue.edit.text() == EDIT
    assert dock.run.isEnabled()
    assert dock.request().plan == PatchPlan()


def test_undo_takes_a_stroke_back_from_the_run_too(
    dock: AnalyseDock, settle: Settle
) -> None:
    before = area_mm2(dock)
    layer = erase(dock, 256, 640)
    settle(dock)

    layer.undo()
    settle(dock)

    assert area_mm2(dock) == before


def test_what_the_run_reads_is_the_mask_that_was_painted(
    dock: AnalyseDock, slide: Path, settle: Settle
) -> None:
    from napari_gimp.slide.source import open_slide

    erase(dock, 256, 640)
    settle(dock)

    with open_slide(slide) as source:
        tissue = dock.request().plan.find_tissue(source)
    assert dock.session.tissue is not None
    np.testing.assert_array_equal(tissue.mask, dock.session.tissue.mask)


def test_the_painting_is_set_aside_by_automatic_and_comes_back_on_request(
    viewer: Any, dock: AnalyseDock, settle: Settle
) -> None:
    automatic = area_mm2(dock)
    erase(dock, 256, 640)
    settle(dock)
    painted = dock.session.plan.tissue

    dock.tissue.reset.click()
    settle(dock)
    assert area_mm2(dock) == automatic
    assert dock.session.plan == PatchPlan()
    assert dock.tissue.reset.text() == BACK
    assert dock.tissue.edit.text() == EDIT
    assert dock.tissue.brush.layer(dock.session.slide) is None

    dock.tissue.reset.click()
    settle(dock)
    assert area_mm2(dock) == pytest.approx(AREA_MM2 / 2, rel=0.03)
    assert dock.session.plan.tissue == painted
    assert dock.tissue.reset.text() == RESET


def test_no_other_slide_takes_the_painting_and_it_is_there_again_afterwards(
    viewer: Any, dock: AnalyseDock, tmp_path: Path, settle: Settle, qtbot: Any
) -> None:
    first = scene_of(viewer).slide_layer
    layer = erase(dock, 256, 640)
    dock.tissue.brush._pause.stop()  # the slide is left before the stroke was told
    busy = threading.Event()  # ... and what was painted waits to be written
    tissue_job(partial(busy.wait, 30)).start()
    show_slide(viewer, stained_slide(tmp_path / "patient-8.tif"))
    viewer.layers.remove(viewer.layers[-1])
    (second,) = show_slide(viewer, other_slide(tmp_path))
    qtbot.waitUntil(lambda: dock.tissue.searching is not None, timeout=30_000)
    busy.set()
    settle(dock)
    assert scene_of(viewer).slide_layer is second
    assert dock.session.plan.tissue is None
    assert not layer.visible

    scene_of(viewer).choose_slide(first)
    settle(dock)

    assert area_mm2(dock) == pytest.approx(AREA_MM2 / 2, rel=0.03)
    assert "painted by you" in dock.tissue.line.text()


def other_slide(folder: Path) -> Path:
    """Write a slide of other pixels."""
    import tifffile

    path = stained_slide(folder / "patient-9.tif")
    pixels = tifffile.imread(path)
    pixels[:64, :64] = 200
    um: dict[str, Any] = {"resolution": (2e4, 2e4), "resolutionunit": 3}
    tifffile.imwrite(path, pixels, tile=(256, 256), photometric="rgb", **um)
    return path


def test_a_painting_is_recalled_when_the_slide_is_opened_the_next_time(
    viewer: Any, dock: AnalyseDock, slide: Path, settle: Settle
) -> None:
    erase(dock, 256, 640)
    settle(dock)
    viewer.layers.clear()
    settle(dock)
    assert dock.session.tissue is None

    show_slide(viewer, slide)
    assert "still being looked for" in dock.obstacle()
    settle(dock)

    assert dock.run.isEnabled()
    assert area_mm2(dock) == pytest.approx(AREA_MM2 / 2, rel=0.03)
    assert dock.request().plan.tissue is not None


def test_a_painting_whose_file_is_gone_is_told_and_tissue_is_found_instead(
    viewer: Any, dock: AnalyseDock, slide: Path, settle: Settle
) -> None:
    erase(dock, 256, 640)
    settle(dock)
    assert dock.session.plan.tissue is not None
    dock.session.plan.tissue.unlink()
    viewer.layers.clear()
    show_slide(viewer, slide)
    settle(dock)

    assert area_mm2(dock) == pytest.approx(AREA_MM2, rel=0.03)
    assert "found automatically instead" in dock.tissue.line.text()
    assert dock.tissue.line.property("tone") == "warning"
    assert dock.session.plan.tissue is None


def test_a_painting_that_cannot_be_kept_bars_the_run_and_stays_in_its_layer(
    dock: AnalyseDock, settle: Settle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise PatchError("The mask cannot be written: the disk is full.")

    monkeypatch.setattr("napari_gimp._qt.tissue_search.write_mask", full)
    layer = erase(dock, 256, 640)
    settle(dock)

    assert dock.tissue.line.property("tone") == "error"
    assert "disk is full" in dock.obstacle()
    assert not layer.data[40].any()
    assert dock.session.plan.tissue is None


def test_annotations_limit_the_tissue_by_file_and_class(
    dock: AnalyseDock, tmp_path: Path, settle: Settle
) -> None:
    path = square_annotations(
        tmp_path / "marks.geojson",
        Tumor=(512, 512, 1280, 2048),
        Stroma=(1280, 512, 1536, 2048),
    )
    include = dock.tissue.include
    include.field.set_path(path)
    settle(dock)

    texts = [include.classes.itemText(i) for i in range(include.classes.count())]
    assert texts == ["all classes (2)", "Tumor (1)", "Stroma (1)"]
    assert area_mm2(dock) == pytest.approx(AREA_MM2 * 2 / 3, rel=0.03)
    assert "mm² outside the annotations" in dock.tissue.line.text()

    include.classes.setCurrentIndex(1)
    include.classes.activated.emit(1)
    settle(dock)

    assert area_mm2(dock) == pytest.approx(AREA_MM2 / 2, rel=0.03)
    plan = dock.request().plan
    assert (plan.include, plan.include_labels) == ((path,), ("Tumor",))

    dock.tissue.exclude.field.set_path(path)
    settle(dock)
    assert dock.request().plan.exclude == (path,)
    assert area_mm2(dock) == 0


def test_no_run_begins_before_the_annotations_count(
    dock: AnalyseDock, tmp_path: Path, settle: Settle
) -> None:
    path = square_annotations(tmp_path / "a.geojson", Tumor=(512, 512, 1280, 2048))

    dock.tissue.include.field.set_path(path)
    assert "still being looked for" in dock.obstacle()
    assert not dock.run.isEnabled()
    settle(dock)

    assert dock.run.isEnabled()
    assert dock.request().plan.include == (path,)


def test_a_file_that_is_no_annotation_is_told_and_not_used(
    dock: AnalyseDock, tmp_path: Path, settle: Settle
) -> None:
    path = tmp_path / "marks.geojson"
    path.write_text("no annotation")

    dock.tissue.include.field.set_path(path)
    settle(dock)

    assert "marks.geojson" in dock.tissue.line.text()
    assert dock.tissue.line.property("tone") == "error"
    assert dock.tissue.include.field.path is None
    assert dock.session.plan == PatchPlan()


def test_annotations_of_one_slide_are_not_laid_on_the_next(
    viewer: Any, dock: AnalyseDock, tmp_path: Path, settle: Settle
) -> None:
    path = square_annotations(tmp_path / "a.geojson", Tumor=(512, 512, 1280, 2048))
    dock.tissue.include.field.set_path(path)
    settle(dock)
    dock.patches.least.setValue(30)

    show_slide(viewer, other_slide(tmp_path))
    settle(dock)

    assert dock.session.plan == PatchPlan(min_tissue=0.3)
    assert dock.tissue.include.field.path is None
    assert area_mm2(dock) == pytest.approx(AREA_MM2, rel=0.03)


def test_nothing_is_left_in_the_viewer_once_the_slide_is_closed(
    viewer: Any, dock: AnalyseDock, settle: Settle
) -> None:
    viewer.layers.remove(scene_of(viewer).slide_layer)
    settle(dock)

    assert len(viewer.layers) == 0
    assert dock.session.tissue is None
    assert "when a slide is open" in dock.tissue.line.text()
