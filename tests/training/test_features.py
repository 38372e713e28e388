"""Features of a cohort: several slides, plans, and imports of another tool."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
import torch
from gimp_models.bag import Bag
from gimp_models.checkpoint import load

from napari_gimp.cli import main
from napari_gimp.cohorts.manifest import Entry
from napari_gimp.errors import CohortError, StoreError
from napari_gimp.patches.encoders import load_encoder
from napari_gimp.patches.plan import PatchPlan
from napari_gimp.patches.store import FeatureStore
from napari_gimp.training.cohort import Patient, read_cohort
from napari_gimp.training.data import CohortBags, draw_thumbnails, plans_of
from napari_gimp.training.features import PatientFeatures, extract_cohort
from napari_gimp.training.plan import Plan
from napari_gimp.training.prepare import gather_bags
from napari_gimp.training.run import RunConfig
from napari_gimp.training.splits import Split

SIDE_PX, MPP, WIDTH = 512, 0.5, 6
LATTICE = np.stack(np.meshgrid(np.arange(4), np.arange(4)), -1).reshape(-1, 2) * 128
"""(x, y) corners of 16 patches of 64 um, level-0 px."""


def write_slide(path: Path, seed: int) -> Path:
    """Stain a slide all over, differently for each seed."""
    rng = np.random.default_rng(seed)
    stain = np.array([150, 90, 140]) + rng.integers(0, 50, 3)
    pixels = rng.normal(stain, 20, (SIDE_PX, SIDE_PX, 3)).clip(0, 230)
    pixels[:, -4:] = 244  # glass
    tifffile.imwrite(
        path,
        pixels.astype(np.uint8),
        photometric="rgb",
        tile=(256, 256),
        resolution=(1e4 / MPP, 1e4 / MPP),
        resolutionunit="CENTIMETER",
    )
    return path


@pytest.fixture
def two_slides(tmp_path: Path) -> Patient:
    slides = [write_slide(tmp_path / f"{k}.tif", k) for k in (1, 2)]
    return Patient("P1", tuple(map(Entry, slides)), None, "benign")


def extracted(
    patient: Patient, folder: Path, plan: PatchPlan | None = None
) -> PatientFeatures:
    encoder, store = load_encoder(), FeatureStore(folder / "features")
    steps = extract_cohort(
        [patient], encoder, plan or PatchPlan(), store=store, device="cpu"
    )
    ((_, found),) = steps
    return found


def test_slides_of_a_patient_lie_side_by_side_and_share_no_place(
    two_slides: Patient, tmp_path: Path
) -> None:
    alone = [
        extracted(Patient("P1", (one,), None, "benign"), tmp_path)
        for one in two_slides.slides
    ]

    found = extracted(two_slides, tmp_path)

    first, second = found.slides
    assert first.fingerprint != second.fingerprint
    np.testing.assert_array_equal(found.features[second.rows], alone[1].features)
    np.testing.assert_array_equal(found.coords_um[first.rows], alone[0].coords_um)
    moved = found.coords_um[second.rows] - alone[1].coords_um
    assert (moved == [0, second.right_um]).all()
    assert second.right_um % 128 == 0
    gap = moved[0, 1] + alone[1].coords_um[:, 1].min() - alone[0].coords_um[:, 1].max()
    assert gap >= 2 * 128


def test_pictures_of_patches_come_from_the_slide_they_are_on(
    two_slides: Patient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = extracted(two_slides, tmp_path)
    (tmp_path / "genes.csv").write_text("sample,A\nS1,1\nS2,2\n")
    rows = ["patient,slide,label", "P1,1.tif,benign", "P1,2.tif,benign"]
    (tmp_path / "manifest.csv").write_text("\n".join([*rows, "P2,3.tif,other"]))
    write_slide(tmp_path / "3.tif", 3)
    cohort = read_cohort(tmp_path / "manifest.csv", tmp_path / "genes.csv")
    bag = Bag(torch.from_numpy(found.features), torch.from_numpy(found.coords_um))
    split = Split(("P1",), (), ())
    bags = CohortBags(cohort, split, None, (bag,), (), (), {"P1": found.slides})  # type: ignore[arg-type]

    features, pictures = draw_thumbnails(
        bags, 128.0, torch.Generator().manual_seed(0), srgb=False
    )

    rows_of = {tuple(row.tolist()): k for k, row in enumerate(bag.features)}
    colours = [
        tifffile.imread(e.slide)[:, :500].mean((0, 1)) for e in two_slides.slides
    ]
    assert len(features) == len(bag.features)
    for feature, picture in zip(features, pictures, strict=True):
        slide = int(rows_of[tuple(feature.tolist())] >= found.slides[1].rows.start)
        mean = picture.mean((0, 1)).numpy() * 255
        away = [np.abs(mean - colour).max() for colour in colours]
        assert int(np.argmin(away)) == slide


def test_a_plan_and_the_manifests_areas_decide_which_patches_are_learned_from(
    two_slides: Patient, tmp_path: Path
) -> None:
    ring = [[0, 0], [256, 0], [256, 512], [0, 512], [0, 0]]
    area = {"type": "Polygon", "coordinates": [ring]}
    path = tmp_path / "left.geojson"
    path.write_text(json.dumps({"type": "Feature", "geometry": area}))
    one, other = two_slides.slides
    limited = Entry(other.slide, exclude=(path,))
    patient = Patient("P1", (one, limited), None, "benign")

    found = extracted(patient, tmp_path, PatchPlan(min_tissue=0.9, stride_um=64.0))

    first, second = found.slides
    assert second.rows.stop - second.rows.start < first.rows.stop
    assert first.plan == {"min_tissue": 0.9, "stride_um": 64.0}
    assert second.plan["exclude"][0]["file"] == "left.geojson"  # type: ignore[index]
    bags = CohortBags(None, None, None, (), (), (), {"P1": found.slides})  # type: ignore[arg-type]
    told = plans_of(bags)["by_slide"]
    assert told == {part.fingerprint: part.plan for part in found.slides}


def write_cohort(folder: Path, patients: int = 9) -> RunConfig:
    """Write slides, genes and TRIDENT's features that tell two classes apart."""
    rng = np.random.default_rng(0)
    rows, table = ["patient,slide,sample,label"], ["sample,A,B,C,D"]
    (folder / "h5").mkdir()
    for k in range(patients):
        write_slide(folder / f"P{k}.tif", k)
        label = ("benign", "tumour")[k % 2]
        rows.append(f"P{k},P{k}.tif,S{k},{label}")
        table.append(f"S{k}," + ",".join(f"{v:.3f}" for v in rng.normal(6, 1, 4)))
        with h5py.File(folder / "h5" / f"P{k}.h5", "w") as file:
            file["features"] = rng.normal(k % 2, 1, (16, WIDTH)).astype("f4")
            file["coords"] = LATTICE
            said = {"patch_size": 128, "patch_size_level0": 128, "overlap": 0}
            file["coords"].attrs.update(said)
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    (folder / "genes.csv").write_text("\n".join(table) + "\n")
    return RunConfig(
        stage="finetune",
        manifest=folder / "manifest.csv",
        genes=folder / "genes.csv",
        out=folder / "run",
        encoder=f"imported:uni2:{WIDTH}",
        plan=Plan(folds=3, device="cpu"),
    )


RUN = """
stage = "finetune"
manifest = "manifest.csv"
genes = "genes.csv"
out = "run"
encoder = "imported:uni2:6"
[plan]
epochs = 1
batch = 4
folds = 3
warmup = 0
device = "cpu"
[patches]
min_tissue = 0.5
"""


def bring(folder: Path) -> None:
    files = sorted(map(str, (folder / "h5").glob("*.h5")))
    words = ["--slides", str(folder), "--store", str(folder / "features")]
    more = ["--encoder", "uni2", "--yes"]
    assert main(["import-features", *files, *words, *more]) == 0


def test_an_import_says_under_which_name_its_features_are_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_cohort(tmp_path, patients=2)

    bring(tmp_path)

    last = capsys.readouterr().out.splitlines()[-1]
    assert (
        last == f"Train on them with `encoder` in the run file: imported:uni2:{WIDTH}"
    )


@pytest.mark.slow
def test_imported_features_train_a_model_that_is_measured_and_run_on_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_cohort(tmp_path)
    bring(tmp_path)
    (tmp_path / "run.toml").write_text(RUN)

    assert main(["train", str(tmp_path / "run.toml")]) == 0
    capsys.readouterr()
    assert main(["evaluate", str(tmp_path / "run"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["patches"] == {}

    best = tmp_path / "run" / "checkpoints" / "best"
    card = load(best).card
    assert card.encoder["fingerprint"] == f"imported:uni2:{WIDTH}"
    assert (card.patch_um, card.mpp) == (64.0, 0.5)
    assert card.metrics["test_patients"] == 3

    run = ["run", str(tmp_path / "P0.tif"), "--model", str(best)]
    run += ["--store", str(tmp_path / "features"), "--out", str(tmp_path / "out")]
    run += ["--genes", str(tmp_path / "genes.csv"), "--sample", "S0"]
    assert main(run) == 0

    told = json.loads((tmp_path / "out" / "result.json").read_text())
    assert told["patches"]["count"] == 16
    assert told["model"]["encoder"] == f"imported:uni2:{WIDTH}@0.5"
    table = np.genfromtxt(tmp_path / "out" / "patches.csv", delimiter=",", names=True)
    corners = np.stack([table["x_um"], table["y_um"]], 1) / MPP - 64
    np.testing.assert_allclose(corners, LATTICE, atol=0.01)


def test_a_cohort_whose_features_were_not_imported_says_whose_are_missing(
    tmp_path: Path,
) -> None:
    run = write_cohort(tmp_path)
    with pytest.raises(StoreError, match="import-features"):
        gather_bags(run)

    (tmp_path / "h5" / "P3.h5").unlink()
    bring(tmp_path)
    with pytest.raises(CohortError, match=r"P3\.tif of patient P3 .*import-features"):
        gather_bags(run)
