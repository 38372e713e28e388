"""Foreign features through the store and back: exact, apart from ours, refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile

from napari_gimp.errors import StoreError
from napari_gimp.geometry import Grid
from napari_gimp.patches.extract import extract_all
from napari_gimp.patches.grid import lay_patches
from napari_gimp.patches.h5 import LAYOUTS, H5Features, read_h5
from napari_gimp.patches.h5_export import export_entry
from napari_gimp.patches.h5_units import interpret
from napari_gimp.patches.imported import (
    entries,
    find_imported,
    import_features,
    imported_encoder,
)
from napari_gimp.patches.store import FeatureKey, FeatureStore
from napari_gimp.patches.tissue import Tissue, find_tissue
from napari_gimp.slide.source import SlideSource, open_slide

COLS, ROWS = np.meshgrid(np.arange(5), np.arange(4))
LATTICE = np.stack([COLS.ravel(), ROWS.ravel()], axis=1)
"""(x, y) places of 20 patches in raster order."""
SAID: dict[str, dict[str, Any]] = {
    "clam": {},
    "trident": {
        "patch_size": np.int64(64),
        "patch_size_level0": np.int64(64),
        "level0_magnification": np.int64(20),
        "target_magnification": np.int64(20),
        "overlap": np.int64(0),
        "name": "slide",
        "savetodir": "somewhere",
    },
    "stamp": {
        "stamp_version": "2.3.0",
        "extractor": "uni2",
        "unit": "um",
        "tile_size_um": 32.0,
        "tile_size_px": np.int64(224),
        "code_hash": "0123abcd",
        "feat_type": "tile",
    },
}


def write(path: Path, layout: str, *, seed: int = 0) -> Path:
    """Write 20 patches of 32 um as a tool does for a slide of 0.5 um/px."""
    path.parent.mkdir(parents=True, exist_ok=True)
    features = np.random.default_rng(seed).normal(size=(20, 6))
    with h5py.File(path, "w") as file:
        if layout == "stamp":
            file["feats"] = features.astype("f2")
            file["coords"] = (LATTICE * 32).astype("f4")
            file.attrs.update(SAID[layout])
        else:
            file["features"] = features.astype("f4")
            kind = "i4" if layout == "clam" else "i8"
            file["coords"] = (LATTICE * 64).astype(kind)
            file["coords"].attrs.update(SAID[layout])
    return path


def contents(path: Path) -> dict[str, Any]:
    """Return every array with its type, and all attributes with theirs."""
    with h5py.File(path) as file:
        arrays = {n: (str(a.dtype), a[()].tolist()) for n, a in file.items()}
        said = {n: dict(file[n].attrs) for n in ["/", *file]}
    typed = {
        f"{n}.{k}": (str(np.asarray(v).dtype), v)
        for n, values in said.items()
        for k, v in values.items()
    }
    return {**arrays, **typed}


@pytest.fixture
def slide(tmp_path: Path) -> Path:
    """A slide of 400 x 500 px at 0.5 um/px."""
    path = tmp_path / "slides" / "slide.tif"
    path.parent.mkdir()
    pixels = np.random.default_rng(1).integers(0, 255, (400, 500, 3), dtype=np.uint8)
    tifffile.imwrite(
        path,
        pixels,
        photometric="rgb",
        tile=(64, 64),
        resolution=(20000, 20000),
        resolutionunit="CENTIMETER",
    )
    return path


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return FeatureStore(tmp_path / "store")


def imported(file: H5Features, source: SlideSource, store: FeatureStore) -> FeatureKey:
    return import_features(file, interpret(file, source.mpp), source, store)


def everywhere() -> Tissue:
    """Return tissue of 200 x 248 um."""
    mask = np.ones((25, 31), bool)
    return Tissue(mask=mask, grid=Grid(mask.shape, (8.0, 8.0)))


def export(store: FeatureStore, path: Path, layout: Any) -> Path:
    (group,) = entries(store)
    export_entry(group, path, layout)
    return path


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_file_comes_back_as_it_was(
    layout: str, slide: Path, store: FeatureStore, tmp_path: Path
) -> None:
    path = write(tmp_path / "in" / "slide.h5", layout)
    with open_slide(slide) as source:
        imported(read_h5(path), source, store)

    again = export(store, tmp_path / "out" / "slide.h5", layout)

    assert contents(again) == contents(path)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_imported_patches_are_where_the_tool_cut_them(
    layout: str, slide: Path, store: FeatureStore, tmp_path: Path
) -> None:
    path = write(tmp_path / "slide.h5", layout)
    with open_slide(slide) as source:
        imported(read_h5(path), source, store)
        (found,) = find_imported(store, source.fingerprint)

    np.testing.assert_array_equal(found.patches.corners_um, LATTICE[:, ::-1] * 32)
    assert found.patches.patch_um == found.key.stride_um == 32
    assert found.patches.grid.shape == (4, 5)
    assert found.regular
    assert found.layout == layout
    with h5py.File(path) as file:
        name = "feats" if layout == "stamp" else "features"
        np.testing.assert_array_equal(found.features, file[name][:].astype("f4"))


@pytest.mark.parametrize("there", LAYOUTS)
@pytest.mark.parametrize("here", LAYOUTS)
def test_every_layout_can_become_every_other(
    here: str, there: str, slide: Path, store: FeatureStore, tmp_path: Path
) -> None:
    path = write(tmp_path / "in" / "slide.h5", here)
    with open_slide(slide) as source:
        imported(read_h5(path), source, store)
        turned = read_h5(export(store, tmp_path / "out" / "slide.h5", there))
        second = FeatureStore(tmp_path / "second")
        imported(turned, source, second)
        (before,) = find_imported(store, source.fingerprint)
        (after,) = find_imported(second, source.fingerprint)

    assert turned.layout == there
    np.testing.assert_array_equal(after.features, before.features)
    np.testing.assert_array_equal(after.patches.coords_um, before.patches.coords_um)
    assert after.patches.patch_um == before.patches.patch_um


@pytest.mark.parametrize("layout", LAYOUTS)
def test_our_own_features_can_be_exported_and_read_again(
    layout: str, slide: Path, store: FeatureStore, encoder: Any, tmp_path: Path
) -> None:
    with open_slide(slide) as source:
        patches = lay_patches(everywhere(), patch_um=16.0)
        features = extract_all(source, patches, encoder, store=store)
        file = read_h5(export(store, tmp_path / "slide.h5", layout))
        second = FeatureStore(tmp_path / "second")
        imported(file, source, second)
        (found,) = find_imported(second, source.fingerprint)

    np.testing.assert_array_equal(found.features, features)
    np.testing.assert_array_equal(found.patches.coords_um, patches.coords_um)


def test_pieces_of_tissue_off_one_lattice_keep_their_places(
    slide: Path, store: FeatureStore, tmp_path: Path
) -> None:
    path = write(tmp_path / "slide.h5", "clam")
    with h5py.File(path, "a") as file:
        file["coords"][10:] += np.array([37, 11])
        coords = file["coords"][:]
    with open_slide(slide) as source:
        imported(read_h5(path), source, store)
        (found,) = find_imported(store, source.fingerprint)

    np.testing.assert_array_equal(found.patches.corners_um, coords[:, ::-1] * 0.5)
    assert found.key.stride_um == 32
    assert not found.regular


def test_patches_in_clams_order_are_found_in_raster_order(
    slide: Path, store: FeatureStore, tmp_path: Path
) -> None:
    path = write(tmp_path / "slide.h5", "clam")
    columns = np.lexsort((LATTICE[:, 1], LATTICE[:, 0]))
    with h5py.File(path, "a") as file:
        features = file["features"][:]
        file["features"][...] = features[columns]
        file["coords"][...] = LATTICE[columns] * 64
    with open_slide(slide) as source:
        imported(read_h5(path), source, store)
        (found,) = find_imported(store, source.fingerprint)

    np.testing.assert_array_equal(found.features, features)
    np.testing.assert_array_equal(found.patches.index, LATTICE[:, ::-1])
    assert contents(export(store, tmp_path / "o.h5", "clam")) == contents(path)


def test_an_import_is_found_by_slide_and_encoder_only(
    slide: Path, store: FeatureStore, tmp_path: Path
) -> None:
    with open_slide(slide) as source:
        key = imported(read_h5(write(tmp_path / "a.h5", "stamp")), source, store)
        name = source.fingerprint

    assert key.encoder == imported_encoder("uni2", 6)
    assert len(find_imported(store, name, encoder="uni2")) == 1
    assert find_imported(store, name, encoder="uni") == []
    assert find_imported(store, "another slide") == []


def test_importing_twice_changes_nothing_and_other_features_are_refused(
    slide: Path, store: FeatureStore, tmp_path: Path
) -> None:
    with open_slide(slide) as source:
        path = write(tmp_path / "slide.h5", "stamp")
        key = imported(read_h5(path), source, store)
        before = store.open(key).read()
        imported(read_h5(path), source, store)
        write(path, "stamp", seed=1)
        with pytest.raises(StoreError, match="other features of this slide"):
            imported(read_h5(path), source, store)

    np.testing.assert_array_equal(store.open(key).read(), before)


def test_an_import_that_was_stopped_is_begun_anew(
    slide: Path, store: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = read_h5(write(tmp_path / "slide.h5", "stamp"))

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    with open_slide(slide) as source:
        with monkeypatch.context() as patch:
            patch.setattr("napari_gimp.patches.imported._fill", stopped)
            with pytest.raises(KeyboardInterrupt):
                imported(file, source, store)
        assert find_imported(store, source.fingerprint) == []
        imported(file, source, store)
        (found,) = find_imported(store, source.fingerprint)

    assert np.isfinite(found.features).all()


def test_patches_beyond_the_slide_are_refused_with_what_to_try(
    slide: Path, store: FeatureStore, tmp_path: Path
) -> None:
    path = write(tmp_path / "slide.h5", "clam")
    with h5py.File(path, "a") as file:
        file["coords"][...] *= 4
    with (
        open_slide(slide) as source,
        pytest.raises(StoreError, match=r"begin outside slide\.tif.*--unit"),
    ):
        imported(read_h5(path), source, store)

    assert not store.root.exists()


def test_a_file_that_is_there_is_never_overwritten(
    slide: Path, store: FeatureStore, tmp_path: Path
) -> None:
    path = write(tmp_path / "slide.h5", "stamp")
    with open_slide(slide) as source:
        imported(read_h5(path), source, store)
    before = path.read_bytes()

    with pytest.raises(StoreError, match="exists"):
        export(store, path, "clam")

    assert path.read_bytes() == before


@pytest.mark.real_data
@pytest.mark.parametrize("layout", LAYOUTS)
def test_features_of_a_real_slide_survive_every_layout(
    layout: str, shared_data: Path, store: FeatureStore, encoder: Any, tmp_path: Path
) -> None:
    with open_slide(shared_data / "slides" / "CMU-1-Small-Region.svs") as source:
        patches = lay_patches(find_tissue(source), patch_um=encoder.patch_um)
        features = extract_all(source, patches, encoder, store=store)
        file = read_h5(export(store, tmp_path / "CMU-1.h5", layout))
        second = FeatureStore(tmp_path / "second")
        imported(file, source, second)
        (found,) = find_imported(second, source.fingerprint)
        half_px = 0.51 * max(source.mpp)

    np.testing.assert_array_equal(found.features, features)
    off = np.abs(found.patches.corners_um - patches.corners_um).max()
    assert off < (0.01 if layout == "stamp" else half_px)
    assert abs(found.patches.patch_um - patches.patch_um) < half_px
