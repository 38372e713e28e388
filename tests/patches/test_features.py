"""One way to patches and features, whether they are made here or were imported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile

from napari_gimp.errors import EncoderError, StoreError
from napari_gimp.patches.encoders import load_encoder
from napari_gimp.patches.extract import extract_all
from napari_gimp.patches.features import plan_features, settle
from napari_gimp.patches.grid import lay_patches
from napari_gimp.patches.h5 import read_h5
from napari_gimp.patches.h5_units import interpret
from napari_gimp.patches.imported import import_features
from napari_gimp.patches.plan import PatchPlan
from napari_gimp.patches.store import FeatureKey, FeatureStore
from napari_gimp.patches.tissue import find_tissue
from napari_gimp.slide.source import open_slide

COLS, ROWS = np.meshgrid(np.arange(5), np.arange(4))
LATTICE = np.stack([COLS.ravel(), ROWS.ravel()], axis=1)
"""(x, y) places of 20 patches in raster order."""


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return FeatureStore(tmp_path / "store")


@pytest.fixture
def slide(tmp_path: Path) -> Path:
    """A slide of 400 x 500 px at 0.5 um/px, stained all over."""
    path = tmp_path / "slide.tif"
    rng = np.random.default_rng(1)
    pixels = rng.integers((170, 90, 150), (230, 150, 210), (400, 500, 3))
    per_cm = (20000, 20000)
    tifffile.imwrite(
        path,
        pixels.astype(np.uint8),
        photometric="rgb",
        tile=(64, 64),
        resolution=per_cm,
        resolutionunit="CENTIMETER",
    )
    return path


def bring(
    slide: Path, store: FeatureStore, *, patch_px: int = 64, seed: int = 0
) -> np.ndarray[Any, Any]:
    """Import 20 patches of 224 encoder px each as STAMP's; return the features."""
    path = store.root.parent / f"{patch_px}-{seed}.h5"
    features = np.random.default_rng(seed).normal(size=(20, 6)).astype("f4")
    with h5py.File(path, "w") as file:
        file["feats"], file["coords"] = features, (LATTICE * 32).astype("f4")
        said = {"extractor": "uni2", "unit": "um", "tile_size_px": 64}
        file.attrs.update(said | {"tile_size_um": patch_px / 2.0})
    with open_slide(slide) as source:
        file_ = read_h5(path)
        import_features(file_, interpret(file_, source.mpp), source, store)
    return features


def test_without_a_plan_patches_and_features_are_what_they_were(
    slide: Path, store: FeatureStore, encoder: Any
) -> None:
    with open_slide(slide) as source:
        found = plan_features(source, encoder, store=store)
        expected = lay_patches(find_tissue(source), patch_um=encoder.patch_um)

        np.testing.assert_array_equal(found.patches.index, expected.index)
        assert found.key == FeatureKey.of(source, expected, encoder)
        assert not found.stored
        features = extract_all(source, expected, encoder)
        np.testing.assert_array_equal(found.read(batch_size=7), features)
        assert found.stored


def test_a_plan_moves_the_patches_and_keeps_features_apart(
    slide: Path, store: FeatureStore, encoder: Any
) -> None:
    with open_slide(slide) as source:
        plain = plan_features(source, encoder, store=store)
        dense = plan_features(source, encoder, PatchPlan(stride_um=8.0), store)

    assert len(dense.patches) > 3 * len(plain.patches)
    assert dense.key != plain.key


def test_imported_features_come_in_one_step_where_the_other_tool_cut_them(
    slide: Path, store: FeatureStore
) -> None:
    features = bring(slide, store)
    encoder = load_encoder("imported:uni2:6")
    with open_slide(slide) as source:
        found = plan_features(source, encoder, store=store)
        steps = list(found.extract())

    np.testing.assert_array_equal(found.patches.corners_um, LATTICE[:, ::-1] * 32)
    assert found.stored
    assert [(step.done, step.total) for step in steps] == [(20, 20)]
    np.testing.assert_array_equal(steps[0].features, features)
    assert (found.encoder.patch_um, found.encoder.mpp) == (32, 0.5)
    assert found.encoder.input_px == 64


def test_the_encoder_of_imported_features_refuses_pixels() -> None:
    encoder = load_encoder("imported:uni2:6").to("cpu")

    assert (encoder.name, encoder.width) == ("imported:uni2:6", 6)
    with pytest.raises(EncoderError, match=r"another tool.*import-features"):
        encoder(np.zeros((1, 64, 64, 3), np.uint8))


@pytest.mark.parametrize("name", ["imported:uni2", "imported::6", "imported:uni2:0"])
def test_a_name_without_its_parts_is_told(name: str) -> None:
    with pytest.raises(EncoderError, match="imported:NAME:WIDTH"):
        load_encoder(name)


def test_features_that_were_not_imported_say_how_to_bring_them(
    slide: Path, store: FeatureStore
) -> None:
    bring(slide, store)
    with open_slide(slide) as source:
        other = load_encoder("imported:conch:6")
        with pytest.raises(StoreError, match=r"no features imported:conch:6 of slide"):
            plan_features(source, other, store=store)
        with pytest.raises(StoreError, match="--store"):
            plan_features(source, other)
        plan = PatchPlan(stride_um=16.0)
        with pytest.raises(StoreError, match="another tool has laid"):
            plan_features(source, load_encoder("imported:uni2:6"), plan, store)


def test_two_imports_of_a_slide_are_told_apart_by_their_resolution(
    slide: Path, store: FeatureStore
) -> None:
    bring(slide, store)
    coarse = bring(slide, store, patch_px=128, seed=1)
    with open_slide(slide) as source:
        with pytest.raises(StoreError, match=r"2 imports.*32 um.*64 um.*@0\.5"):
            plan_features(source, load_encoder("imported:uni2:6"), store=store)
        found = plan_features(source, load_encoder("imported:uni2:6@1"), store=store)
        np.testing.assert_array_equal(found.read(), coarse)


def test_a_slide_opened_with_another_resolution_is_refused(
    slide: Path, store: FeatureStore
) -> None:
    bring(slide, store)
    with (
        open_slide(slide, mpp=0.25) as source,
        pytest.raises(StoreError, match=r"imported at 0\.5 um/px.*--mpp 0\.5"),
    ):
        plan_features(source, load_encoder("imported:uni2:6"), store=store)


def test_an_encoder_learns_its_patches_from_the_store(
    slide: Path, store: FeatureStore
) -> None:
    encoder = load_encoder("imported:uni2:6")
    with pytest.raises(StoreError, match="holds no imported features"):
        settle(encoder, store)

    bring(slide, store)
    settled = settle(encoder, store)
    assert (settled.patch_um, settled.mpp) == (32, 0.5)
    assert load_encoder(settled.name).mpp == 0.5

    bring(slide, store, patch_px=128, seed=1)
    with pytest.raises(StoreError, match="not alike"):
        settle(encoder, store)
    assert settle(load_encoder("imported:uni2:6@1"), store).patch_um == 64


def test_a_damaged_description_of_another_slide_stops_none(
    slide: Path, store: FeatureStore, caplog: pytest.LogCaptureFixture
) -> None:
    features = bring(slide, store)
    other = store.root / "0123.zarr"
    other.mkdir()
    (other / "zarr.json").write_text("{")

    with open_slide(slide) as source:
        found = plan_features(source, load_encoder("imported:uni2:6"), store=store)
        again = plan_features(source, load_encoder("imported:uni2:6"), store=store)

    np.testing.assert_array_equal(found.read(), features)
    assert again.key == found.key
    told = [r.getMessage() for r in caplog.records if "0123.zarr" in r.getMessage()]
    assert len(told) == 1
