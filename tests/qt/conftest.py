"""A small slide on disk, planted maps, and events of an analysis without a model."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from psygnal import emit_queued
from shown_slides import show_slide

from napari_gimp._qt.analyse import AnalyseDock
from napari_gimp._qt.scene import scene_of
from napari_gimp._qt.slide import SlideDock
from napari_gimp.explain.inference import (
    Event,
    Finished,
    GenesReady,
    MapReady,
    Progress,
)
from napari_gimp.explain.maps import PatchMap
from napari_gimp.explain.result import (
    GeneAttribution,
    ModalityShare,
    ModelSummary,
    Overview,
    PatchTable,
    Result,
)
from napari_gimp.geometry import Grid

MPP = 0.5
SIDE_PX = 1536
CELL_UM = 64.0
BLUE = (0, 0, 255)
GRID = Grid((12, 12), (CELL_UM, CELL_UM))


@pytest.fixture
def make_slide(tmp_path: Path) -> Callable[..., Path]:
    """Write a white tiled TIFF; a blue square marks pixels 256 to 384."""

    def make(name: str = "patient-7", mpp: float | None = MPP) -> Path:
        pixels = np.full((SIDE_PX, SIDE_PX, 3), 245, dtype=np.uint8)
        pixels[256:384, 256:384] = BLUE
        tags: dict[str, Any] = {}
        if mpp is not None:
            tags = {"resolution": (1e4 / mpp, 1e4 / mpp), "resolutionunit": 3}
        path = tmp_path / f"{name}.tif"
        tifffile.imwrite(path, pixels, tile=(256, 256), photometric="rgb", **tags)
        return path

    return make


@pytest.fixture
def make_table(tmp_path: Path) -> Callable[..., Path]:
    """Write a gene table on log2 scale."""

    def make(*samples: str) -> Path:
        path = tmp_path / "genes.csv"
        rows = [f"{name},{1.5 + i},8.25,11.75" for i, name in enumerate(samples)]
        path.write_text("\n".join(["sample,ESR1,TP53,KRT5", *rows]))
        return path

    return make


@pytest.fixture
def planted() -> PatchMap:
    """One bright patch, row 3, column 8, in a dull map with a hole."""
    values = np.full(GRID.shape, 0.1, dtype=np.float32)
    values[0, 0] = np.nan
    values[3, 8] = 0.9
    return PatchMap("attention", "Patch attention", values, GRID, unit="share")


@pytest.fixture
def genes() -> GeneAttribution:
    values = np.array([0.5, -0.2, 0.1], dtype=np.float32)
    present = np.array([True, True, False])
    return GeneAttribution(("ESR1", "TP53", "KRT5"), values, values, present, "B", 0.01)


@pytest.fixture
def result(planted: PatchMap, genes: GeneAttribution) -> Result:
    signed = PatchMap("contribution", "Contribution", planted.values - 0.3, GRID, True)
    index = np.argwhere(np.isfinite(planted.values))
    return Result(
        slide=Path("patient-7.tif"),
        sample="patient-7",
        mpp=(MPP, MPP),
        mpp_origin="TIFF resolution tags",
        mpp_verified=True,
        size_px=(SIDE_PX, SIDE_PX),
        model=ModelSummary(
            "fake", "gimp", "A model.", "finetune", "default", 3, "BSD", "", {}, {}, ()
        ),
        classes=("A", "B"),
        probabilities=np.array([0.2, 0.8], dtype=np.float32),
        slide_only=np.array([0.6, 0.4], dtype=np.float32),
        target=1,
        share=ModalityShare(slide=1.0, genes=3.0, total=4.0),
        maps={"attention": planted, "contribution": signed},
        genes=genes,
        patches=PatchTable(
            GRID,
            index,
            GRID.centers_um(index),
            CELL_UM,
            np.zeros((len(index), 4), np.float32),
            {},
        ),
        hot=(),
        examples=(),
        decoder="none",
        warnings=("Only 2 of 3 genes are there.",),
        gaps={},
        overview=Overview(np.zeros((8, 8, 3), np.uint8), Grid((8, 8), (96.0, 96.0))),
        seconds={"features": 2.0},
        versions={},
    )


@pytest.fixture
def events(planted: PatchMap, genes: GeneAttribution, result: Result) -> list[Event]:
    """What an analysis says, in its order."""
    return [
        Progress("patch features", 0, 143),
        Progress("patch features", 143, 143),
        MapReady(planted, final=True),
        GenesReady(genes),
        Finished(result),
    ]


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
def analyse(
    viewer: Any,
    make_slide: Callable[..., Path],
    model: Path,
    events: list[Event],
    settle: Callable[[AnalyseDock], None],
) -> Any:
    """An Analyse dock that is ready to run and would find `events`."""
    dock = AnalyseDock(viewer, analyse=lambda request: iter(events))
    show_slide(viewer, make_slide())
    dock.model.choose(model)
    settle(dock)
    assert dock.obstacle() == ""
    return dock


@pytest.fixture
def seeing_model(tmp_path: Path) -> Path:
    """A checkpoint folder whose card names the default encoder and its patches."""
    folder = tmp_path / "seeing"
    folder.mkdir()
    card = {
        "description": "A model.",
        "classes": ["A", "B"],
        "encoder": {"name": "default", "fingerprint": "ab" * 32, "width": 192},
        "patch_um": 128.0,
        "mpp": 1.0,
    }
    (folder / "card.json").write_text(json.dumps(card))
    return folder


@pytest.fixture
def settle(qtbot: Any) -> Callable[[AnalyseDock], None]:
    """Wait until a dock has found tissue and counted patches, or knows why not."""

    def wait_for(dock: AnalyseDock) -> None:
        def settled() -> bool:
            emit_queued()
            tissue, patches = dock.tissue, dock.patches
            busy = (
                *(tissue.searching, patches.counting, dock.model.looking),
                *(tissue.include.reading, tissue.exclude.reading),
            )
            waiting = tissue.is_about_to_look or patches.is_about_to_count
            return not (waiting or tissue.brush.is_waiting or any(busy))

        qtbot.waitUntil(settled, timeout=60_000)

    return wait_for


@pytest.fixture
def viewer(make_napari_viewer: Any) -> Any:
    """A viewer with a scene; tests of other docks may have their own."""
    viewer = make_napari_viewer()
    scene_of(viewer)
    return viewer


@pytest.fixture
def dock(viewer: Any, qtbot: Any) -> Any:
    """The Slide dock; tests of other docks have their own."""
    dock = SlideDock(viewer)
    qtbot.addWidget(dock)
    return dock


@pytest.fixture
def deliver() -> Iterator[Callable[[Any], None]]:
    """Wait for a job and deliver what it said to the main thread."""

    def wait_for(job: Any) -> None:
        assert job is not None
        assert job.wait(30)
        emit_queued()

    yield wait_for
    emit_queued()
