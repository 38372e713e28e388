"""A run from the dock is the run of the command line with the same options."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shown_slides import show_slide, square_annotations, stained_slide

from napari_gimp._qt.analyse import AnalyseDock
from napari_gimp.cli import main
from napari_gimp.commands import analysis
from napari_gimp.explain.inference import Request
from napari_gimp.explain.result import Result

OPTIONS = (
    *("--stride", "64", "--min-tissue", "0.3"),
    *("--include-class", "Tumor", "--exclude-class", "Vessel"),
)


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    monkeypatch.setenv("NAPARI_GIMP_CACHE", str(tmp_path / "cache"))
    return {
        "slide": stained_slide(tmp_path / "patient-7.tif"),
        "include": square_annotations(
            tmp_path / "in.geojson",
            Tumor=(512, 512, 1280, 2048),
            Stroma=(1280, 512, 1536, 2048),
        ),
        "exclude": square_annotations(
            tmp_path / "out.geojson",
            Vessel=(512, 512, 1280, 768),
            Nerve=(512, 768, 1280, 1024),
        ),
    }


@pytest.fixture
def dock(
    make_napari_viewer: Any,
    paths: dict[str, Path],
    settle: Callable[[AnalyseDock], None],
) -> AnalyseDock:
    """An Analyse dock, filled in as `OPTIONS` say, with the shipped model."""
    viewer = make_napari_viewer()
    dock = AnalyseDock(viewer)
    show_slide(viewer, paths["slide"])
    settle(dock)
    dock.patches.stride.setValue(64)
    dock.patches.least.setValue(30)
    dock.tissue.include.field.set_path(paths["include"])
    dock.tissue.exclude.field.set_path(paths["exclude"])
    settle(dock)
    for region in (dock.tissue.include, dock.tissue.exclude):
        region.classes.setCurrentIndex(1)
        region.classes.activated.emit(1)
    settle(dock)
    return dock


def by_command(
    monkeypatch: pytest.MonkeyPatch, paths: dict[str, Path], out: Path
) -> tuple[Request, Result]:
    """Run the command; return what it asked for and what came of it."""
    asked, results = [], []
    run = analysis._run_to_report

    def note(request: Request, *args: Any, **kwargs: Any) -> Result:
        asked.append(request)
        results.append(run(request, *args, **kwargs))
        return results[-1]

    monkeypatch.setattr(analysis, "_run_to_report", note)
    areas = ("--include", str(paths["include"]), "--exclude", str(paths["exclude"]))
    code = main(["run", str(paths["slide"]), *OPTIONS, *areas, "--out", str(out)])
    assert code == 0
    return asked[0], results[0]


@pytest.mark.slow
def test_a_run_from_the_dock_is_that_of_the_command_line(
    dock: AnalyseDock,
    paths: dict[str, Path],
    tmp_path: Path,
    deliver: Callable[[Any], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked, expected = by_command(monkeypatch, paths, tmp_path / "out")
    counted = dock.session.patches
    dock.run.click()
    deliver(dock.session.job)

    result = dock.session.result
    assert dock.session.error is None
    assert result is not None
    assert dock.request().plan == asked.plan
    own = replace(dock.request(), store=asked.store, model=asked.model)
    assert own == asked
    assert counted is not None
    np.testing.assert_array_equal(counted.index, result.patches.index)
    np.testing.assert_array_equal(result.probabilities, expected.probabilities)
    np.testing.assert_array_equal(result.patches.features, expected.patches.features)
    for name, patch_map in expected.maps.items():
        assert result.maps[name].grid == patch_map.grid
        np.testing.assert_array_equal(result.maps[name].values, patch_map.values)
