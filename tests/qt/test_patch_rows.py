"""Patches in the Analyse dock: counted, shown, estimated, and what to do if none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shown_slides import show_slide, square_annotations, stained_slide

from napari_gimp._qt.analyse import AnalyseDock
from napari_gimp._qt.patches import ELSEWHERE
from napari_gimp._qt.scene import scene_of
from napari_gimp._qt.tissue_layers import SQUARES
from napari_gimp.explain.result import Result
from napari_gimp.patches.estimate import remember_rate
from napari_gimp.patches.plan import PatchPlan

Settle = Callable[[AnalyseDock], None]


@pytest.fixture
def viewer(make_napari_viewer: Any) -> Any:
    return make_napari_viewer()


@pytest.fixture
def dock(
    viewer: Any, tmp_path: Path, seeing_model: Path, settle: Settle
) -> AnalyseDock:
    """A dock with a slide on which 6 x 6 patches lie."""
    dock = AnalyseDock(viewer)
    dock.model.choose(seeing_model)
    show_slide(viewer, stained_slide(tmp_path / "patient-7.tif"))
    settle(dock)
    return dock


def test_patches_are_counted_before_the_run_with_what_they_take(
    dock: AnalyseDock,
) -> None:
    assert dock.patches.side.text() == "128 µm: 128 px at 1 µm/px"
    assert dock.patches.line.text().startswith("36 patches · time unknown · ")
    assert "MB memory" in dock.patches.line.text()
    assert "28 kB on disk" in dock.patches.line.text()
    assert "unknown until the first run" in dock.patches.line.toolTip()
    assert dock.session.patches is not None
    assert len(dock.session.patches) == 36
    assert dock.obstacle() == ""


def test_the_encoder_of_the_model_is_told_with_its_licence(dock: AnalyseDock) -> None:
    text = dock.model.encoder.text()

    assert text.startswith("default: 192 features per patch, licence ")
    assert "included" in dock.model.encoder.toolTip()


def test_time_is_judged_from_the_last_run_of_this_encoder(
    dock: AnalyseDock, settle: Settle
) -> None:
    from napari_gimp.explain.setting import pick_device

    remember_rate("ab" * 32, pick_device("auto"), patches=100, seconds=50)
    dock.patches.least.setValue(45)
    settle(dock)

    assert "· about 18 s ·" in dock.patches.line.text()
    assert "2 patches/s" in dock.patches.line.toolTip()


def test_the_first_run_tells_how_long_the_next_will_take(
    dock: AnalyseDock, settle: Settle, result: Result
) -> None:
    from napari_gimp.explain.setting import pick_device

    remember_rate("ab" * 32, pick_device("auto"), patches=100, seconds=50)
    dock.session.result = result
    settle(dock)

    assert "· about 18 s ·" in dock.patches.line.text()


def test_a_shorter_distance_gives_more_patches_and_goes_into_the_request(
    dock: AnalyseDock, settle: Settle
) -> None:
    dock.patches.stride.setValue(64)
    dock.patches.least.setValue(90)
    settle(dock)

    assert dock.session.patches is not None
    assert len(dock.session.patches) == 11 * 11
    assert dock.request().plan == PatchPlan(stride_um=64.0, min_tissue=0.9)

    dock.patches.stride.setValue(0)
    settle(dock)

    assert dock.patches.stride.text() == "side by side"
    assert dock.request().plan.stride_um is None
    assert len(dock.session.patches) == 36


def test_the_preview_shows_a_square_where_each_patch_lies(
    viewer: Any, dock: AnalyseDock, settle: Settle
) -> None:
    layers = scene_of(viewer).plan_layers
    assert layers.layer(SQUARES) is None

    dock.patches.preview.click()
    settle(dock)
    layer = layers.layer(SQUARES)

    assert dock.session.patches is not None
    for center in dock.session.patches.coords_um:
        corner = np.asarray(center) - 64 + 0.6 - 0.25  # just within, in napari's world
        at = np.round(layer.world_to_data(corner)).astype(int)
        assert layer.data[0][tuple(at)] == 255
    assert (np.asarray(layer.data[0]) > 0).sum() == 36 * 64**2

    dock.patches.preview.click()
    settle(dock)
    assert not layer.visible


def test_without_a_patch_the_reason_is_told_and_one_click_relaxes_it(
    viewer: Any, dock: AnalyseDock, tmp_path: Path, settle: Settle
) -> None:
    corner = square_annotations(tmp_path / "a.geojson", Spot=(512, 512, 640, 640))
    dock.tissue.include.field.set_path(corner)
    dock.patches.least.setValue(60)
    settle(dock)

    assert "at least 60% tissue" in dock.patches.line.text()
    assert "outside the annotations" in dock.patches.line.text()
    assert dock.obstacle() == dock.patches.line.text()
    assert not dock.run.isEnabled()
    assert not dock.patches.relax.isHidden()
    assert dock.patches.relax.text() == "Accept patches with at least 20% tissue"

    dock.patches.relax.click()
    settle(dock)

    assert dock.patches.least.value() == 20
    assert dock.session.patches is not None
    assert len(dock.session.patches) == 1
    assert dock.patches.relax.isHidden()
    assert dock.run.isEnabled()


def test_annotations_that_leave_no_tissue_are_dropped_with_one_click(
    viewer: Any, dock: AnalyseDock, tmp_path: Path, settle: Settle
) -> None:
    glass = square_annotations(tmp_path / "a.geojson", Glass=(0, 0, 256, 256))
    dock.tissue.include.field.set_path(glass)
    settle(dock)
    assert dock.patches.relax.text() == "Do not limit to the annotations"

    dock.patches.relax.click()
    settle(dock)

    assert dock.tissue.include.field.path is None
    assert dock.session.patches is not None
    assert len(dock.session.patches) == 36


def test_a_slide_without_tissue_may_be_taken_as_a_whole(
    viewer: Any, seeing_model: Path, make_slide: Callable[..., Path], settle: Settle
) -> None:
    dock = AnalyseDock(viewer)
    dock.model.choose(seeing_model)
    show_slide(viewer, make_slide())
    settle(dock)
    assert "No patch is left" in dock.obstacle()
    assert dock.patches.relax.text() == "Take the whole slide as tissue"

    dock.patches.relax.click()
    settle(dock)

    assert dock.session.patches is not None
    assert len(dock.session.patches) == 36
    assert dock.tissue.is_editing
    assert dock.obstacle() == ""


def test_patches_of_imported_features_are_where_the_other_tool_has_cut_them(
    dock: AnalyseDock, tmp_path: Path, settle: Settle
) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "card.json").write_text(
        '{"classes": ["A", "B"], "patch_um": 256, "mpp": 0.5, "encoder": {"name": '
        '"imported:uni:1024@0.5", "fingerprint": "imported:uni:1024", "width": 1024}}'
    )
    dock.model.choose(tmp_path / "other")
    settle(dock)

    assert dock.patches.line.text() == ELSEWHERE
    assert dock.model.encoder.text() == (
        "uni: 1,024 features per patch, made by another tool"
    )
    assert dock.session.patches is None
    assert dock.obstacle() == ""


def test_a_model_whose_card_names_no_encoder_is_told(
    dock: AnalyseDock, model: Path, settle: Settle
) -> None:
    dock.model.choose(model)
    settle(dock)

    assert "whose card names its encoder" in dock.patches.line.text()
    assert not dock.patches.preview.isEnabled()
