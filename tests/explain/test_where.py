"""Where an analysis looks: as a plan says, or where imported patches are."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from gimp_models.checkpoint import Card, save
from gimp_models.gimp import Gimp, GimpConfig

from napari_gimp.cli import main
from napari_gimp.errors import GeneError, StoreError
from napari_gimp.explain.inference import Finished, Request, analyse
from napari_gimp.explain.maps import cells_of
from napari_gimp.explain.result import Result
from napari_gimp.patches.h5 import read_h5
from napari_gimp.patches.h5_units import interpret
from napari_gimp.patches.imported import find_imported, import_features
from napari_gimp.patches.plan import PatchPlan
from napari_gimp.patches.store import FeatureStore
from napari_gimp.report import render
from napari_gimp.slide.source import open_slide

MPP = 0.8  # of the painted slide of `case`
CLASSES = ("benign", "tumour")
WIDTH, SIDE_PX = 6, 100
"""Features of the other tool, and the side of its patches: 80 um."""


def analysed(request: Request) -> Result:
    *_, last = analyse(request)
    assert isinstance(last, Finished)
    return last.result


@pytest.fixture
def left_half(tmp_path: Path) -> Path:
    """QuPath's annotation of the left 600 px of the painted slide."""
    ring = [[0, 0], [600, 0], [600, 1000], [0, 1000], [0, 0]]
    place = {"type": "Polygon", "coordinates": [ring]}
    path = tmp_path / "left.geojson"
    path.write_text(json.dumps({"type": "Feature", "geometry": place}))
    return path


def test_an_analysis_leaves_out_what_the_plan_excludes_and_records_it(
    case, left_half: Path
) -> None:
    plan = PatchPlan(exclude=(left_half,), stride_um=64.0)

    result = analysed(Request(case.slide, case.model, plan=plan))

    assert result.patches.coords_um[:, 1].min() > 600 * MPP - 1
    assert result.patches.grid.cell_um == (64.0, 64.0)
    digest = hashlib.sha256(left_half.read_bytes()).hexdigest()
    expected = [{"file": "left.geojson", "sha256": digest}]
    assert result.patches.plan == {"exclude": expected, "stride_um": 64.0}


@pytest.mark.slow
def test_the_command_line_gives_what_the_plan_gives(
    case, left_half: Path, tmp_path: Path
) -> None:
    plan = PatchPlan(exclude=(left_half,), min_tissue=0.9)
    expected = analysed(Request(case.slide, case.model, plan=plan))

    out = tmp_path / "out"
    words = ["run", case.slide, "--model", case.model, "--out", out]
    words += ["--exclude", left_half, "--min-tissue", 0.9]
    assert main([str(word) for word in words]) == 0

    told = json.loads((out / "result.json").read_text())
    assert told["patches"]["count"] == len(expected.patches)
    assert told["patches"]["plan"] == expected.patches.plan


def corners_px(*, pieces: bool) -> np.ndarray:
    """Corners (x, y) of 6 x 8 patches, the right half of them off the lattice."""
    x, y = np.meshgrid(np.arange(8) * SIDE_PX, np.arange(6) * SIDE_PX)
    corners = np.stack([x.ravel(), y.ravel()], axis=1)
    if pieces:
        corners[corners[:, 0] >= 4 * SIDE_PX] += (137, 61)
    return corners


def brought(case, folder: Path, corners: np.ndarray) -> dict[tuple[int, int], float]:
    """Import CLAM's features of patches; return the first one by corner."""
    features = np.random.default_rng(4).normal(size=(len(corners), WIDTH)).astype("f4")
    order = np.lexsort((corners[:, 1], corners[:, 0]))  # CLAM goes down the columns
    with h5py.File(folder / "painted.h5", "w") as file:
        file["features"] = features[order]
        file["coords"] = corners[order].astype("i4")
    file_ = read_h5(folder / "painted.h5")
    with open_slide(case.slide) as source:
        meaning = interpret(
            file_, source.mpp, patch_um=SIDE_PX * MPP, encoder="resnet50"
        )
        import_features(file_, meaning, source, FeatureStore(folder))
    return dict(zip(map(tuple, corners), features[:, 0], strict=True))


def model_of_imports(folder: Path, *, patch_um: float = SIDE_PX * MPP) -> Path:
    torch.manual_seed(0)
    config = GimpConfig.preset("tiny", patch_features=WIDTH, genes=4, classes=2)
    fingerprint = f"imported:resnet50:{WIDTH}"
    card = Card(
        stage="finetune",
        classes=CLASSES,
        genes=("TP53", "EGFR", "MKI67", "GFAP"),
        gene_mean=(5.0,) * 4,
        gene_sd=(1.0,) * 4,
        encoder={"name": fingerprint, "fingerprint": fingerprint, "width": WIDTH},
        patch_um=patch_um,
        mpp=MPP,
    )
    save(folder / "model", Gimp(config).eval(), card)
    return folder / "model"


@pytest.mark.parametrize("pieces", [False, True])
def test_maps_of_imported_features_lie_where_the_other_tools_patches_are(
    pieces: bool, case, tmp_path: Path
) -> None:
    corners = corners_px(pieces=pieces)
    first = brought(case, tmp_path, corners)
    request = Request(case.slide, model_of_imports(tmp_path), store=tmp_path)

    result = analysed(request)

    table = result.patches
    places = np.rint((table.coords_um - table.patch_um / 2) / MPP).astype(int)
    assert {tuple(place) for place in places[:, ::-1]} == set(first)
    given = [first[x, y] for y, x in places]
    np.testing.assert_array_equal(table.features[:, 0], given)
    for name, found in result.maps.items():
        for (y, x), value in zip(table.coords_um, table.columns[name], strict=True):
            cell = found.grid.cell_at(float(y), float(x))
            assert cell is not None
            assert found.values[cell] == value
        height, width = found.grid.rect.size_um
        assert (height, width) == pytest.approx(
            np.ptp(places, axis=0) * MPP + table.patch_um, abs=table.patch_um / 8
        )
    assert "where another tool has laid them" in render(result)
    assert result.model.encoder == f"imported:resnet50:{WIDTH}@{MPP}"


def test_cells_of_pieces_show_the_nearer_patch_within_a_sixteenth_of_its_place(
    case, tmp_path: Path
) -> None:
    brought(case, tmp_path, corners_px(pieces=True))
    with open_slide(case.slide) as source:
        (found,) = find_imported(FeatureStore(tmp_path), source.fingerprint)
    patches, side = found.patches, SIDE_PX * MPP

    cells = cells_of(patches, side)
    shown = cells.lay("attention", np.arange(len(patches), dtype=np.float32))

    assert shown.values.size < 100 * len(patches)
    for k, corner in enumerate(patches.corners_um):
        mine = cells.grid.centers_um(np.argwhere(shown.values == k))
        inside = np.abs(mine - corner - side / 2).max() <= side / 2 + side / 16
        assert len(mine) > 50
        assert inside


def test_imported_features_of_other_patches_than_the_models_are_refused(
    case, tmp_path: Path
) -> None:
    brought(case, tmp_path, corners_px(pieces=False))
    other = model_of_imports(tmp_path, patch_um=256.0)

    with pytest.raises(StoreError, match=r"80 um every 80 um.*must be of 256 um"):
        analysed(Request(case.slide, other, store=tmp_path))
    with pytest.raises(StoreError, match="--store"):
        analysed(Request(case.slide, other))


def test_a_profile_with_little_of_the_panel_runs_only_when_asked_for(
    case, tmp_path: Path
) -> None:
    path = tmp_path / "few.csv"
    path.write_text("sample," + ",".join(f"GENE{k}" for k in range(40)) + "\n")
    with path.open("a") as file:
        file.write("P1," + ",".join(f"{5 + k / 9:.3f}" for k in range(40)) + "\n")
    few = Request(case.slide, case.model, path)

    with pytest.raises(GeneError, match=r"only 40 of the model's 70.*--allow-missing"):
        analysed(few)
    asked = Request(case.slide, case.model, path, allow_missing=True)
    assert any("40 of the model's 70" in text for text in analysed(asked).warnings)


def test_the_report_says_where_was_looked(result: Result) -> None:
    assert "all tissue that was found" in render(result)

    areas = [{"file": "left.geojson", "sha256": "ab"}]
    plan = {"exclude": areas, "exclude_labels": ["Necrosis"], "stride_um": 64.0}
    told = render(replace(result, patches=replace(result.patches, plan=plan)))
    assert "not in left.geojson; of that only Necrosis; every 64 µm" in told
