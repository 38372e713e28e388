"""The whole of the shared data goes through, from pixels and counts to a model.

What is asserted is what only a right answer gives: features learned on one section
tell the expression of another if, and only if, spots lie where they should; a place
of a slide is recognised in the slide's other formats; known biology comes out.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_gimp.cli import main
from napari_gimp.errors import GimpError, ResolutionError
from napari_gimp.genes.panel import Panel
from napari_gimp.genes.sets import hallmarks
from napari_gimp.genes.signatures import ssgsea
from napari_gimp.genes.table import GeneTable, read_table
from napari_gimp.patches.encoders import load_encoder
from napari_gimp.patches.extract import extract_all
from napari_gimp.patches.grid import PatchGrid, lay_patches
from napari_gimp.patches.store import FeatureStore
from napari_gimp.patches.tissue import Tissue, find_tissue
from napari_gimp.slide.source import open_slide

pytestmark = pytest.mark.real_data

Floats = NDArray[np.float32]
SECTION_MPP, TILE_MPP = 0.69, 0.5
GLIOMA = "tcga_gbmlgg_dev.csv.gz"
CMU = {
    "svs": ("CMU-1-Small-Region.svs", None),
    "dicom": ("CMU-1-dicom", None),
    "tiff": ("CMU-1-Small-Region.jpeg.tiff", 0.499),  # its own tag is wrong by 100x
}


@dataclass(frozen=True)
class Encoded:
    """A picture after tissue, patches and features."""

    tissue: Tissue
    patches: PatchGrid
    features: Floats


@dataclass(frozen=True)
class Section:
    """A section whose spots were sequenced; spots in rows, centres in um (y, x)."""

    encoded: Encoded
    table: GeneTable
    spots_um: NDArray[np.float64]
    log_counts: NDArray[np.float64]

    def features_at(self, places_um: NDArray[np.float64]) -> Floats:
        """Return the features of the patch nearest to each place."""
        away = places_um[:, None] - self.encoded.patches.coords_um[None]
        return self.encoded.features[np.hypot(*away.T).argmin(axis=0)]


def encode(path: Path, mpp: float | None = None, store=None) -> Encoded:
    encoder = load_encoder()
    with open_slide(path, mpp=mpp) as slide:
        tissue = find_tissue(slide)
        patches = lay_patches(tissue, patch_um=encoder.patch_um)
        return Encoded(
            tissue, patches, extract_all(slide, patches, encoder, store=store)
        )


def read_section(picture: Path, folder: Path, name: str) -> Section:
    import pandas as pd

    table = read_table(folder / "cnts" / f"{name}.tsv.gz")
    spots = pd.read_csv(folder / "spots" / f"{name}_selection.tsv", sep="\t")
    names = [f"{x}x{y}" for x, y in zip(spots["x"], spots["y"], strict=True)]
    spots = spots[np.isin(names, table.samples)]
    rows = [table.samples.index(n) for n in names if n in table.samples]
    return Section(
        encode(picture, SECTION_MPP),
        table,
        spots[["pixel_y", "pixel_x"]].to_numpy() * SECTION_MPP,
        np.log(np.nansum(table.values[rows], axis=1, dtype=np.float64)),
    )


@pytest.fixture(scope="module")
def sections(shared_data) -> dict[str, Section]:
    folder = shared_data / "st_her2st"
    pictures = {
        "C2": shared_data / "slides" / "her2st-C2.tif",
        "C3": folder / "imgs" / "C3_5714_HE_BT_D1.jpg",
    }
    return {name: read_section(path, folder, name) for name, path in pictures.items()}


@pytest.fixture(scope="module")
def formats(shared_data) -> dict[str, Encoded]:
    slides = shared_data / "slides"
    return {name: encode(slides / file, mpp) for name, (file, mpp) in CMU.items()}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["C2", "C3"])
def test_the_spots_of_a_section_lie_on_its_tissue(sections, name) -> None:
    section = sections[name]
    grid = section.encoded.tissue.grid
    cells = np.floor((section.spots_um - grid.origin_um) / grid.cell_um).astype(int)

    on_tissue = section.encoded.tissue.mask[tuple(cells.T)].mean()
    confused = section.encoded.tissue.mask[tuple(cells.T[::-1])].mean()

    assert on_tissue > 0.95
    assert confused < on_tissue - 0.1


@pytest.mark.slow
@pytest.mark.parametrize(("learnt", "asked"), [("C2", "C3"), ("C3", "C2")])
def test_features_of_one_section_tell_the_expression_of_the_other(
    sections, learnt, asked
) -> None:
    """How much RNA a spot has; wrong if y and x are confused anywhere on the way."""
    right = agreement(sections[learnt], sections[asked], lambda yx: yx)
    confused = agreement(sections[learnt], sections[asked], lambda yx: yx[:, ::-1])

    assert right > 0.4
    assert confused < right - 0.2


def agreement(learnt: Section, asked: Section, place) -> float:
    """Return the correlation of told and counted log expression, 0.53 and 0.58 here."""
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), RidgeCV(np.logspace(0, 5, 11)))
    model.fit(learnt.features_at(place(learnt.spots_um)), learnt.log_counts)
    told = model.predict(asked.features_at(place(asked.spots_um)))
    return float(np.corrcoef(told, asked.log_counts)[0, 1])


@pytest.mark.slow
def test_two_sections_of_a_patient_have_the_same_signatures(sections) -> None:
    found = [ssgsea(s.table.pseudobulk(), hallmarks()) for s in sections.values()]

    c2, c3 = (np.nan_to_num(f.scores[0]) for f in found)
    assert np.isfinite(found[0].scores).all()
    assert np.corrcoef(c2, c3)[0, 1] > 0.98
    assert np.ptp(c2) > 0.1


def test_a_slide_has_the_same_patches_in_three_formats(formats) -> None:
    svs = formats["svs"]

    for other in (formats["dicom"], formats["tiff"]):
        np.testing.assert_array_equal(other.patches.index, svs.patches.index)
        assert other.tissue.area_mm2 == pytest.approx(svs.tissue.area_mm2, rel=0.01)


@pytest.mark.parametrize("name", ["dicom", "tiff"])
def test_a_place_is_known_again_in_another_format(formats, name) -> None:
    """The pixels differ by a second JPEG compression, 3 grey values on average."""
    svs, other = formats["svs"].features, formats[name].features

    away = np.linalg.norm(svs[:, None] - other[None], axis=2)

    np.testing.assert_array_equal(away.argmin(axis=1), np.arange(len(svs)))
    assert np.diag(away).max() < 0.5 * np.median(away)


def test_one_file_of_a_dicom_slide_gives_what_its_folder_gives(
    shared_data, formats
) -> None:
    volume = max(
        (shared_data / "slides" / "CMU-1-dicom").glob("*.dcm"),
        key=lambda path: path.stat().st_size,
    )

    np.testing.assert_array_equal(encode(volume).features, formats["dicom"].features)


def test_a_copy_without_losses_has_the_same_features(shared_data, tmp_path) -> None:
    """Though patches are read from its level of 1 um/px, which the picture lacks."""
    folder = shared_data / "tiles_glioma_pathomic" / "imgs"
    tile, copy = next(folder.glob("TCGA-06*")), tmp_path / "copy.ome.tif"
    words = ("--mpp", str(TILE_MPP), "--compression", "deflate")

    assert main(["convert", str(tile), str(copy), *words]) == 0

    made, copied = encode(tile, TILE_MPP), encode(copy)
    np.testing.assert_array_equal(copied.patches.index, made.patches.index)
    np.testing.assert_array_equal(copied.features, made.features)


def test_a_slide_is_encoded_once_and_then_read(shared_data, formats, tmp_path) -> None:
    store = FeatureStore(tmp_path)
    path = shared_data / "slides" / CMU["svs"][0]
    encode(path, store=store)
    written = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}

    again = encode(path, store=store)

    np.testing.assert_array_equal(again.features, formats["svs"].features)
    kept = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    assert kept == written


def test_every_slide_is_read_or_refused_with_a_sentence(shared_data) -> None:
    refused = {}
    for path in sorted((shared_data / "slides").iterdir()):
        try:
            with open_slide(path) as slide:
                find_tissue(slide)
        except GimpError as error:
            refused[path.name] = error

    assert set(refused) == {
        "CMU-1-Small-Region.jpeg.tiff",
        "boxes.tiff",
        "unopenable.tiff",
        "unreadable.svs",
    }
    wrong = refused["CMU-1-Small-Region.jpeg.tiff"]
    assert isinstance(wrong, ResolutionError)
    assert all(len(str(error)) > 30 for error in refused.values())


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["tiles_lc25000_lung/dev", "tiles_dsb2018_stained"])
def test_every_tile_has_features_of_its_own(shared_data, folder) -> None:
    encoder = load_encoder()
    paths = [p for p in (shared_data / folder).rglob("*") if is_tile(p)]
    tiles = np.stack([middle_of(path, encoder.input_px) for path in sorted(paths)])

    features = encoder(tiles)

    assert len(features) in (40, 120)
    assert np.isfinite(features).all()
    assert len(np.unique(features, axis=0)) == len(np.unique(tiles, axis=0))


def is_tile(path: Path) -> bool:
    return path.is_file() and "labels" not in path.parts


def middle_of(path: Path, side: int) -> NDArray[np.uint8]:
    """Return the middle (side, side, 3) of a picture at its own resolution."""
    with open_slide(path, mpp=TILE_MPP) as tile:
        rows, cols = tile.levels[0].shape
        y, x = (rows - side) // 2, (cols - side) // 2
        return tile.read_region(0, y, x, side, side)[..., :3]


@pytest.mark.slow
def test_glioma_tiles_and_their_patients_rows_make_a_prediction(shared_data) -> None:
    import torch
    from gimp_models.bag import Bag, collate
    from gimp_models.gimp import Gimp, GimpConfig

    tiles = {
        path.name[:12]: encode(path, TILE_MPP)
        for path in (shared_data / "tiles_glioma_pathomic" / "imgs").glob("*.png")
    }
    table = read_table(shared_data / "omics" / GLIOMA)
    others = ~np.isin(table.samples, list(tiles))
    panel = Panel.fit(table.values[others], table.genes, top=500, scale="zscore")
    torch.manual_seed(0)
    bags = [bag_of(Bag, k, *item, table, panel) for k, item in enumerate(tiles.items())]
    config = GimpConfig.preset("tiny", patch_features=192, genes=500, classes=3)

    with torch.no_grad():
        logits = Gimp(config).eval()(collate(bags)).logits

    assert sorted(tiles) == ["TCGA-06-0174", "TCGA-26-1442", "TCGA-HT-7470"]
    assert logits.shape == (3, 3)
    assert torch.isfinite(logits).all()
    assert len(torch.unique(logits, dim=0)) == 3


def bag_of(bag, label, patient, tile: Encoded, table: GeneTable, panel: Panel):
    import torch

    from napari_gimp.genes.panel import align

    aligned = align(table.profile(patient), panel)
    assert not aligned.report.missing
    return bag(
        torch.from_numpy(tile.features),
        torch.from_numpy(tile.patches.coords_um),
        torch.from_numpy(aligned.z),
        label,
        patient,
    )
