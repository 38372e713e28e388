"""Maps, Results and Genes docks: what they show, allow and refuse."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_gimp._qt.analyse import AnalyseDock
from napari_gimp._qt.genes import GenesDock
from napari_gimp._qt.maps import MapsDock, decimals
from napari_gimp._qt.results import ResultsDock
from napari_gimp._qt.scene import scene_of
from napari_gimp.explain.result import Result

Deliver = Callable[[Any], None]
Make = Callable[..., Path]


@pytest.fixture
def viewer(make_napari_viewer: Any) -> Any:
    return make_napari_viewer()


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


def test_a_result_without_genes_has_one_column(viewer: Any, result: Result) -> None:

    results = ResultsDock(viewer)
    scene_of(viewer).session.result = replace(result, genes=None, share=None)

    assert results.classes.texts() == ["60.0 %", "40.0 %"]
    assert results.headline.text().startswith("B, 80.0 %, from the slide only")
