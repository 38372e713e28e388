"""The shared slides as one cohort, through the command line as a user would run it."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_gimp.cli import main
from napari_gimp.patches.encoders import load_encoder
from napari_gimp.patches.extract import extract_all
from napari_gimp.patches.grid import lay_patches
from napari_gimp.patches.h5 import LAYOUTS
from napari_gimp.patches.imported import entries
from napari_gimp.patches.store import FeatureStore, StoredFeatures
from napari_gimp.patches.tissue import find_tissue
from napari_gimp.slide.source import open_slide

pytestmark = [pytest.mark.real_data, pytest.mark.slow]

Floats = NDArray[np.float32]
MANIFEST = """\
patient,slide,mpp
HER2-C,slides/her2st-C2.tif,
HER2-C,st_her2st/imgs/C3_5714_HE_BT_D1.jpg,0.69
CMU-1,slides/CMU-1-Small-Region.svs,
CMU-1 by DICOM,slides/CMU-1-dicom,
CMU-1 by TIFF,slides/CMU-1-Small-Region.jpeg.tiff,0.499
OS-1,slides/OS-1-detail.ome.tif,
TCGA-06-0174,tiles_glioma_pathomic/imgs/TCGA-06-0174*.png,0.5
TCGA-26-1442,tiles_glioma_pathomic/imgs/TCGA-26-1442*.png,0.5
TCGA-HT-7470,tiles_glioma_pathomic/imgs/TCGA-HT-7470*.png,0.5
nobody,slides/unopenable.tiff,
nobody,slides/unreadable.svs,
nobody,slides/small.svs,
"""
"""The second CMU has a tag that is wrong by 100x; JPEG and PNG state no um/px."""
BAD = {
    "unopenable.tiff": "compressed by method 52479, which no reader knows",
    "unreadable.svs": "tile row 0, column 0 of level 0 cannot be decoded",
    "small.svs": "is smaller than one patch of 128 um",
}


@dataclass(frozen=True)
class Told:
    """What a command returned and printed."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Cohort:
    """A manifest of the shared slides, encoded into a store."""

    manifest: Path
    store: FeatureStore
    told: Told
    slides: dict[str, dict[str, Any]]

    def features(self, name: str) -> Floats:
        """Return (N, P) of a slide."""
        return StoredFeatures(self._group(name)).read()

    def centres_um(self, name: str) -> Floats:
        """Return (N, 2), (y, x) of a slide's patches."""
        return np.asarray(self._group(name)["coords_um"])

    def _group(self, name: str) -> Any:
        (key,) = [s["key"] for path, s in self.slides.items() if path.endswith(name)]
        found = {
            Path(str(g.store_path.store.root)).stem: g for g in entries(self.store)
        }
        return found[key]


def run(*words: object) -> Told:
    """Run a command in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([*map(str, words)])
    return Told(code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def cohort(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    folder = tmp_path_factory.mktemp("cohort")
    head, *rows = MANIFEST.splitlines()
    parts = [row.split(",") for row in rows]
    placed = [f"{who},{shared_data / slide},{mpp}" for who, slide, mpp in parts]
    manifest = folder / "manifest.csv"
    manifest.write_text("\n".join([head, *placed]))
    told = run("features", manifest, "--out", folder / "store", "--json")
    slides = {one["slide"]: one for one in json.loads(told.out)}
    return Cohort(manifest, FeatureStore(folder / "store"), told, slides)


def test_every_good_slide_is_done_and_every_bad_one_says_why(cohort: Cohort) -> None:
    states = {Path(path).name: one["state"] for path, one in cohort.slides.items()}
    reasons = {Path(path).name: one["text"] for path, one in cohort.slides.items()}

    assert cohort.told.code == 2
    assert len(states) == 12
    assert {name for name, state in states.items() if state == "failed"} == set(BAD)
    assert {state for name, state in states.items() if name not in BAD} == {"done"}
    for name, said in BAD.items():
        assert said in reasons[name]
        assert said in cohort.told.err
    assert "3 of 12 slides have no whole features" in cohort.told.err


def test_a_second_run_finds_everything_and_writes_nothing(cohort: Cohort) -> None:
    before = written(cohort.store.root)

    again = json.loads(
        run("features", cohort.manifest, "--out", cohort.store.root, "--json").out
    )

    assert {one["state"] for one in again} == {"stored", "failed"}
    assert written(cohort.store.root) == before


def written(folder: Path) -> dict[Path, int]:
    files = (path for path in folder.glob("*.zarr/**/*") if path.is_file())
    return {path: path.stat().st_mtime_ns for path in files}


def test_the_command_makes_the_features_that_the_functions_make(
    cohort: Cohort, shared_data: Path
) -> None:
    encoder = load_encoder()
    with open_slide(shared_data / "slides" / "CMU-1-Small-Region.svs") as slide:
        patches = lay_patches(find_tissue(slide), patch_um=encoder.patch_um)
        expected = extract_all(slide, patches, encoder)

    found = cohort.features("CMU-1-Small-Region.svs")

    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", ["CMU-1-dicom", "CMU-1-Small-Region.jpeg.tiff"])
def test_the_formats_of_one_slide_give_features_that_are_near(
    cohort: Cohort, name: str
) -> None:
    """Each was compressed anew, so its pixels are 3 grey values off on average."""
    names = ("CMU-1-Small-Region.svs", name)

    alike = correlations(*map(cohort.features, names))

    np.testing.assert_array_equal(*map(cohort.centres_um, names))
    assert alike.diagonal().min() > 0.9
    assert (alike.argmax(axis=1) == np.arange(35)).all()


def correlations(one: Floats, other: Floats) -> NDArray[np.float64]:
    """Return (N, N): how alike each patch of one is to each of the other."""
    spread = one.std(axis=0)
    scaled = [(part - one.mean(axis=0)) / spread for part in (one, other)]
    both: NDArray[np.float64] = np.corrcoef(*scaled)
    return both[: len(one), len(one) :]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_real_features_come_back_from_the_files_of_other_tools(
    cohort: Cohort, shared_data: Path, tmp_path: Path, layout: str
) -> None:
    """Out of our store, into another tool's file, in again, and out again."""
    slides = shared_data / "slides"
    files = exported(cohort.store.root, tmp_path / "out", layout, slides)
    (file,) = [path for path in files if path.name == "her2st-C2.h5"]
    back = ("--slides", slides, "--store", tmp_path / "store", "--yes")
    said = run("import-features", file, *back, "--encoder", "gimp", "--json")

    (again,) = exported(tmp_path / "store", tmp_path / "again", layout, slides)

    assert said.code == 0, said.err
    np.testing.assert_array_equal(features_of(again), features_of(file))
    np.testing.assert_array_equal(coords_of(again), coords_of(file))
    np.testing.assert_array_equal(features_of(file), cohort.features("her2st-C2.tif"))
    (theirs,) = entries(FeatureStore(tmp_path / "store"))
    away = np.asarray(theirs["coords_um"]) - cohort.centres_um("her2st-C2.tif")
    assert np.abs(away).max() < 0.69, "whole pixels: less than one off"


def exported(store: Path, out: Path, layout: str, slides: Path) -> list[Path]:
    words = ("--layout", layout, "--out", out, "--slides", slides, "--json")
    told = run("export-features", store, *words)
    assert told.code == 0, told.err
    return [Path(path) for path in json.loads(told.out)]


def features_of(path: Path) -> Floats:
    return array_of(path, "features", "feats")


def coords_of(path: Path) -> Floats:
    return array_of(path, "coords")


def array_of(path: Path, *names: str) -> Floats:
    import h5py

    with h5py.File(path) as file:
        (name,) = [name for name in names if name in file]
        return np.asarray(file[name])


@pytest.fixture(scope="module")
def moved(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """QuPath's brush stroke, drawn on another slide, ten times as large on C2."""
    folder = shared_data / "annotations" / "qupath_geojson"
    stroke = json.loads((folder / "qupath-brush.json").read_text())
    ring = np.array(stroke["geometry"]["coordinates"][0], float)
    ring = (ring - ring.mean(axis=0)) * 10 + (4500, 4500)
    stroke["geometry"]["coordinates"] = [ring.tolist()]
    stroke["properties"]["classification"] = {"name": "Tumor"}
    path = tmp_path_factory.mktemp("annotations") / "her2st-C2.geojson"
    path.write_text(json.dumps(stroke))
    return path


def test_an_annotation_of_qupath_parts_the_patches_of_a_section(
    cohort: Cohort, shared_data: Path, moved: Path, tmp_path: Path
) -> None:
    slide = shared_data / "slides" / "her2st-C2.tif"

    def places(*more: object) -> set[tuple[float, float]]:
        words = ("features", slide, "--out", tmp_path / str(len(more)), "--json")
        told = run(*words, *more)
        assert told.code == 0, told.err
        (one,) = json.loads(told.out)
        (group,) = entries(FeatureStore(tmp_path / str(len(more))))
        assert one["total"] == group["coords_um"].shape[0]
        return {tuple(at) for at in np.asarray(group["coords_um"]).tolist()}

    inside = places("--include", moved, "--include-class", "Tumor")
    outside = places("--exclude", moved)

    all_of_it = {tuple(at) for at in cohort.centres_um("her2st-C2.tif").tolist()}
    assert inside
    assert not inside & outside
    assert inside | outside <= all_of_it
    assert len(inside | outside) > 0.9 * len(all_of_it)


def test_an_annotation_of_another_slide_is_refused(
    shared_data: Path, tmp_path: Path
) -> None:
    folder = shared_data / "annotations" / "qupath_geojson"
    words = ("features", shared_data / "slides" / "her2st-C2.tif")

    told = run(*words, "--include", folder / "qupath-brush.json", "--out", tmp_path)

    assert told.code == 2
    assert "qupath-brush.json' lie outside the slide 'her2st-C2.tif'" in told.err


def test_pictures_are_encoded_where_their_names_say_tissue(
    shared_data: Path, tmp_path: Path
) -> None:
    """Thumbnails at 8 um/px: 16 px a patch, too coarse for more than a count."""
    pictures = shared_data / "qc_tissue"
    words = ("features", pictures / "*.png", "--mpp", 8, "--out", tmp_path, "--json")

    told = json.loads(run(*words).out)

    patches = {Path(one["slide"]).stem: one["total"] for one in told}
    assert {name for name, count in patches.items() if not count} == {
        "almost-white-1",
        "no-tissue",
    }
    assert patches["wsi-blue-pen"] > 10
    texts = [one["text"] for one in told if not one["total"]]
    assert all("no patch is left" in text for text in texts)


@pytest.mark.parametrize(
    ("tiles", "mpp", "least"),
    [
        ("tiles_lc25000_lung/dev/*/*.jpeg", 1, 116),
        ("tiles_dsb2018_stained/images/*.png", 0.625, 26),
    ],
)
def test_tiles_are_slides_of_one_patch_where_they_show_enough_tissue(
    shared_data: Path, tmp_path: Path, tiles: str, mpp: float, least: int
) -> None:
    words = ("features", shared_data / tiles, "--mpp", mpp, "--out", tmp_path, "--json")

    told = json.loads(run(*words).out)

    assert len(told) in (120, 40)
    assert sum(one["state"] == "done" and one["total"] == 1 for one in told) >= least
    others = [one["text"] for one in told if one["state"] != "done"]
    assert all("no patch is left" in text for text in others)


@pytest.fixture
def glioma_model(shared_data: Path, tmp_path: Path) -> Iterator[Path]:
    """An untrained GiMP that knows 500 genes of the other patients' z-scores."""
    import torch
    from gimp_models.checkpoint import Card, save
    from gimp_models.gimp import Gimp, GimpConfig

    from napari_gimp.genes.panel import Panel
    from napari_gimp.genes.table import read_table

    table = read_table(shared_data / "omics" / "tcga_gbmlgg_dev.csv.gz")
    others = ~np.isin(table.samples, [row.split(",")[0] for row in MANIFEST.split()])
    panel = Panel.fit(table.values[others], table.genes, top=500, scale="zscore")
    encoder = load_encoder()
    torch.manual_seed(0)
    sizes = {"patch_features": encoder.width, "genes": 500, "classes": 3}
    known = {name: getattr(encoder, name) for name in ("name", "fingerprint", "width")}
    card = Card(
        stage="finetune",
        classes=("astrocytoma", "glioblastoma", "oligodendroglioma"),
        genes=panel.genes,
        gene_mean=tuple(panel.mean.tolist()),
        gene_sd=tuple(panel.sd.tolist()),
        gene_scale="zscore",
        encoder=known,
        patch_um=encoder.patch_um,
        mpp=encoder.mpp,
        description="Untrained weights.",
    )
    save(tmp_path / "model", Gimp(GimpConfig.preset("tiny", **sizes)), card)
    return tmp_path / "model"


def test_glioma_tiles_run_with_their_patients_rows_of_the_table(
    cohort: Cohort, shared_data: Path, glioma_model: Path, tmp_path: Path
) -> None:
    table = shared_data / "omics" / "tcga_gbmlgg_dev.csv.gz"
    tiles = {Path(path).name[:12]: path for path in cohort.slides if "TCGA" in path}
    results = {}
    for patient, tile in tiles.items():
        out = tmp_path / patient
        words = ("--model", glioma_model, "--genes", table, "--sample", patient)
        where = ("--mpp", 0.5, "--store", cohort.store.root, "--out", out)
        told = run("run", tile, *words, *where)
        assert told.code == 0, told.err
        results[patient] = json.loads((out / "result.json").read_text())

    assert sorted(results) == ["TCGA-06-0174", "TCGA-26-1442", "TCGA-HT-7470"]
    assert {one["sample"] for one in results.values()} == set(results)
    told = [tuple(one["probabilities"].values()) for one in results.values()]
    assert len(set(told)) == 3
    assert all(one["slide_only_probabilities"] for one in results.values())
    assert not any("out of range" in " ".join(r["warnings"]) for r in results.values())


def test_a_section_runs_with_the_sum_of_its_spots(
    cohort: Cohort, shared_data: Path, tmp_path: Path
) -> None:
    slide = shared_data / "slides" / "her2st-C2.tif"
    counts = shared_data / "st_her2st" / "cnts" / "C2.tsv.gz"
    words = ("--genes", counts, "--pseudobulk", "--store", cohort.store.root)
    before = written(cohort.store.root)

    told = run("run", slide, *words, "--out", tmp_path / "result", "--json")

    result = json.loads(told.out)
    assert result["sample"] == "pseudobulk"
    assert sum(result["probabilities"].values()) == pytest.approx(1, abs=1e-4)
    assert "mean nothing for a real patient" in " ".join(result["warnings"])
    assert written(cohort.store.root) == before, "the features were there"


@pytest.mark.parametrize("name", ["tcga_luad_all_clean", "tcga_kirc_all_clean"])
def test_z_scores_of_a_cohort_are_refused_by_a_model_of_log2(
    shared_data: Path, tmp_path: Path, name: str
) -> None:
    from napari_gimp.genes.table import read_table

    table = shared_data / "omics" / f"{name}.csv.zip"
    sample = read_table(table).samples[0]
    slide = shared_data / "slides" / "CMU-1-Small-Region.svs"
    words = ("--genes", table, "--sample", sample, "--out", tmp_path / "result")

    told = run("run", slide, *words)

    assert told.code == 2
    assert "z-scores" in told.err
    assert "log2" in told.err
    assert not (tmp_path / "result").exists()
