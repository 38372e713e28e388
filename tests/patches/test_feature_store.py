from __future__ import annotations

from dataclasses import replace
from itertools import zip_longest

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import napari_gimp.patches.store as store_module
from napari_gimp.errors import StoreError
from napari_gimp.geometry import Grid
from napari_gimp.patches.extract import extract, extract_all
from napari_gimp.patches.grid import PatchGrid, lay_patches
from napari_gimp.patches.store import FeatureKey, FeatureStore
from napari_gimp.patches.tissue import Tissue

KEY = FeatureKey("slide", "encoder", (0.5, 0.5), 1.0, 128.0, 128.0, "layout")


def patches_of(count: int) -> PatchGrid:
    index = np.stack([np.zeros(count), np.arange(count)], 1).astype(np.int32)
    return PatchGrid(
        Grid((1, count), (128.0, 128.0)), index, np.ones(count, "f4"), 128.0
    )


def test_features_come_back_bit_for_bit(tmp_path) -> None:
    features = np.random.default_rng(0).normal(size=(600, 5)).astype(np.float32)
    store = FeatureStore(tmp_path)
    stored = store.open_or_create(KEY, patches_of(600), 5)
    for start in range(0, 600, 64):
        stored.write(start, features[start : start + 64])

    again = FeatureStore(tmp_path).open(KEY)

    assert again.complete
    np.testing.assert_array_equal(again.read(), features)


def test_an_incomplete_entry_is_opened_but_not_had(tmp_path) -> None:
    store = FeatureStore(tmp_path)
    store.open_or_create(KEY, patches_of(10), 3).write(0, np.ones((4, 3), "f4"))

    assert not store.has(KEY)
    assert store.open(KEY).done == 4
    assert store.open(KEY).read().shape == (4, 3)


changes = st.sampled_from(
    [
        {"slide": "other"},
        {"encoder": "other"},
        {"slide_mpp": (0.5, 0.25)},
        {"mpp": 0.5},
        {"patch_um": 64.0},
        {"stride_um": 64.0},
        {"layout": "other"},
        {"version": 99},
    ]
)


@given(changes)
def test_every_part_of_a_key_changes_its_name(change: dict) -> None:
    assert replace(KEY, **change).digest != KEY.digest


def test_more_tissue_makes_another_key(noise_slide, encoder) -> None:
    keys = {
        FeatureKey.of(noise_slide, patches_of(count), encoder).digest
        for count in (5, 6)
    }

    assert len(keys) == 2


def test_rows_that_do_not_fit_are_refused(tmp_path) -> None:
    stored = FeatureStore(tmp_path).open_or_create(KEY, patches_of(3), 2)

    with pytest.raises(StoreError, match="do not fit"):
        stored.write(0, np.ones((4, 2), "f4"))
    with pytest.raises(StoreError, match="do not fit"):
        stored.write(0, np.ones((1, 5), "f4"))
    with pytest.raises(StoreError, match="do not fit"):
        stored.write(1, np.ones((1, 2), "f4"))


def test_absent_and_damaged_entries_say_what_to_do(tmp_path) -> None:
    store = FeatureStore(tmp_path)
    with pytest.raises(StoreError, match="extract first"):
        store.open(KEY)
    store.open_or_create(KEY, patches_of(3), 2)
    (store.path(KEY) / "zarr.json").write_text("{")

    with pytest.raises(StoreError, match="delete it"):
        store.open(KEY)


def test_an_entry_under_a_foreign_name_is_not_believed(tmp_path) -> None:
    store = FeatureStore(tmp_path)
    store.open_or_create(KEY, patches_of(3), 2)
    other = replace(KEY, slide="other")
    store.path(KEY).rename(store.path(other))

    with pytest.raises(StoreError, match="not of"):
        store.open(other)


def test_nothing_half_made_is_left_in_the_folder(tmp_path) -> None:
    FeatureStore(tmp_path).open_or_create(KEY, patches_of(3), 2)

    assert [p.name for p in tmp_path.iterdir()] == [f"{KEY.digest}.zarr"]


def test_a_file_in_the_folders_place_is_told(tmp_path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(StoreError, match="can be written to"):
        FeatureStore(tmp_path / "file").open_or_create(KEY, patches_of(3), 2)


def test_an_interruption_leaves_no_half_made_entry(tmp_path, monkeypatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(store_module, "_lay_out", interrupt)
    with pytest.raises(KeyboardInterrupt):
        FeatureStore(tmp_path).open_or_create(KEY, patches_of(3), 2)

    assert list(tmp_path.iterdir()) == []


def test_two_extractions_of_one_slide_do_not_disturb_each_other(
    noise_slide, encoder, tmp_path
) -> None:
    store, count = FeatureStore(tmp_path), 320
    patches = lay_all(noise_slide)
    assert len(patches) == count
    steps = [
        extract(noise_slide, patches, encoder, store=store, batch_size=size)
        for size in (24, 32)
    ]

    for _ in zip_longest(*steps):
        pass

    key = FeatureKey.of(noise_slide, patches, encoder)
    expected = extract_all(noise_slide, patches, encoder)
    np.testing.assert_array_equal(store.open(key).read(), expected)


def lay_all(slide) -> PatchGrid:
    mask = np.ones((32, 40), bool)
    return lay_patches(Tissue(mask, Grid(mask.shape, (8.0, 8.0))), patch_um=16.0)
