from __future__ import annotations

import threading

import numpy as np
import pytest

from napari_gimp.errors import EncoderError, PatchError
from napari_gimp.geometry import Grid
from napari_gimp.patches import reading
from napari_gimp.patches.encoders import load_encoder
from napari_gimp.patches.extract import extract, extract_all
from napari_gimp.patches.grid import PatchGrid, lay_patches
from napari_gimp.patches.store import FeatureKey, FeatureStore
from napari_gimp.patches.tissue import Tissue, find_tissue
from napari_gimp.slide.resample import read_at
from napari_gimp.slide.source import open_slide


def lay(slide, *, stride_um: float | None = None, holes: bool = True) -> PatchGrid:
    height, width = (n * slide.mpp[0] for n in slide.pixels.shape[:2])
    mask = np.ones((int(height // 8), int(width // 8)), bool)
    if holes:
        mask[10:20, 5:25] = False
    tissue = Tissue(mask, Grid(mask.shape, (8.0, 8.0)))
    return lay_patches(tissue, patch_um=16.0, stride_um=stride_um)


def one_by_one(slide, patches: PatchGrid, encoder) -> np.ndarray:
    """The plain reference: read and encode patch after patch."""
    side = encoder.input_px
    return np.concatenate(
        [
            encoder(read_at(slide, y, x, (side, side), encoder.mpp)[None])
            for y, x in patches.corners_um.tolist()
        ]
    )


@pytest.mark.parametrize("stride_um", [None, 8.0, 10.5])
@pytest.mark.parametrize("mpp", [1.0, 0.5, 0.499])
def test_features_equal_those_of_patches_read_one_by_one(
    make_slide, encoder, mpp: float, stride_um: float | None
) -> None:
    rng = np.random.default_rng(1)
    slide = make_slide(rng.integers(0, 255, (300, 420, 3), dtype=np.uint8), mpp)
    patches = lay(slide, stride_um=stride_um, holes=False)

    features = extract_all(slide, patches, encoder, batch_size=7)

    expected = one_by_one(slide, patches, encoder)
    assert features.dtype == np.float32
    # one grey level of one pixel: block and single reads may round a tie apart
    np.testing.assert_allclose(features, expected, atol=1.01)
    assert np.abs(features - expected).mean() < 0.01


def test_steps_cover_every_row_once_in_order(noise_slide, encoder) -> None:
    patches = lay(noise_slide)

    steps = []
    for step in extract(noise_slide, patches, encoder, batch_size=10):
        assert np.isfinite(step.features[: step.done]).all()
        assert np.isnan(step.features[step.done :]).all()
        steps.append((step.rows.start, step.rows.stop, step.done, step.total))

    assert [s[0] for s in steps] == [0, *[s[1] for s in steps[:-1]]]
    assert steps[-1][1:] == (len(patches), len(patches), len(patches))


def test_patches_of_a_band_are_read_about_once(noise_slide, encoder) -> None:
    patches = lay(noise_slide, holes=False)

    extract_all(noise_slide, patches, encoder)

    assert noise_slide.pixels_read == noise_slide.pixels[..., 0].size


def test_reading_happens_in_other_threads_that_are_gone_afterwards(
    noise_slide, encoder
) -> None:
    before = set(threading.enumerate())

    extract_all(noise_slide, lay(noise_slide), encoder)

    assert threading.current_thread().name not in noise_slide.threads
    assert set(threading.enumerate()) == before


def test_closing_stops_reading_ahead(noise_slide, encoder, monkeypatch) -> None:
    monkeypatch.setattr(reading, "BAND_BYTES", 10 * 16 * 16 * 3)
    monkeypatch.setattr(reading, "READ_AHEAD_BYTES", 30 * 16 * 16 * 3)
    before = set(threading.enumerate())
    steps = extract(noise_slide, lay(noise_slide, stride_um=2.0), encoder, batch_size=1)

    next(steps)
    steps.close()

    assert set(threading.enumerate()) == before
    assert encoder.patches_seen < 10
    assert noise_slide.pixels_read < noise_slide.pixels[..., 0].size


def test_a_reader_that_is_not_thread_safe_is_read_by_one_thread(
    noise_slide, encoder
) -> None:
    noise_slide.thread_safe = False

    extract_all(noise_slide, lay(noise_slide), encoder)

    assert len(noise_slide.threads) == 1


def test_an_error_while_reading_reaches_the_caller(
    noise_slide, encoder, monkeypatch
) -> None:
    def fail(*_: int) -> None:
        raise OSError("tile 7 is damaged")

    monkeypatch.setattr(noise_slide, "read_region", fail)

    with pytest.raises(OSError, match="tile 7"):
        extract_all(noise_slide, lay(noise_slide), encoder)


def test_a_stopped_extraction_goes_on_where_it_was(
    noise_slide, encoder, tmp_path
) -> None:
    patches, store = lay(noise_slide), FeatureStore(tmp_path)
    whole = extract_all(noise_slide, patches, encoder)
    key = FeatureKey.of(noise_slide, patches, encoder)
    steps = extract(noise_slide, patches, encoder, store=store, batch_size=32)
    for _ in range(3):
        next(steps)
    steps.close()
    assert not store.has(key)
    encoder.patches_seen = 0

    again = extract_all(noise_slide, patches, encoder, store=store, batch_size=32)

    np.testing.assert_array_equal(again, whole)
    assert encoder.patches_seen == len(patches) - 96
    assert store.has(key)


def test_complete_features_are_not_computed_again(
    noise_slide, encoder, tmp_path
) -> None:
    patches, store = lay(noise_slide), FeatureStore(tmp_path)
    first = extract_all(noise_slide, patches, encoder, store=store)
    encoder.patches_seen = noise_slide.pixels_read = 0

    steps = list(extract(noise_slide, patches, encoder, store=store))

    assert len(steps) == 1
    np.testing.assert_array_equal(steps[0].features, first)
    assert encoder.patches_seen == noise_slide.pixels_read == 0


@pytest.mark.parametrize("mpp", [0.5, 0.499])
def test_what_is_resumed_has_the_same_bytes(make_slide, encoder, mpp: float) -> None:
    rng = np.random.default_rng(1)
    slide = make_slide(rng.integers(0, 255, (300, 420, 3), dtype=np.uint8), mpp)
    patches = lay(slide, holes=False)
    whole = read_all(slide, patches, encoder, start=0)

    for start in (1, 7, 30):
        rest = read_all(slide, patches, encoder, start=start)
        np.testing.assert_array_equal(rest, whole[start:])


def read_all(slide, patches: PatchGrid, encoder, *, start: int) -> np.ndarray:
    batches = reading.read_batches(slide, patches, encoder, start=start, batch_size=8)
    return np.concatenate([batch[1] for batch in batches if batch])


def test_stored_rows_that_got_lost_are_computed_again(
    noise_slide, encoder, tmp_path
) -> None:
    patches, store = lay(noise_slide), FeatureStore(tmp_path)
    expected = extract_all(noise_slide, patches, encoder, store=store)
    key = FeatureKey.of(noise_slide, patches, encoder)
    lost = np.full((2, encoder.width), np.nan, np.float32)
    store.open(key).write(3, lost)

    again = extract_all(noise_slide, patches, encoder, store=store)

    np.testing.assert_array_equal(again, expected)
    np.testing.assert_array_equal(store.open(key).read(), expected)


def test_patches_of_another_size_are_refused(noise_slide, encoder) -> None:
    mask = np.ones((32, 40), bool)
    patches = lay_patches(Tissue(mask, Grid(mask.shape, (8.0, 8.0))), patch_um=32.0)

    with pytest.raises(EncoderError, match="16 um"):
        extract_all(noise_slide, patches, encoder)


def test_an_empty_lattice_and_an_empty_batch_are_refused(noise_slide, encoder) -> None:
    none = PatchGrid(
        Grid((1, 1), (16.0, 16.0)), np.zeros((0, 2), np.int32), np.zeros(0, "f4"), 16.0
    )

    with pytest.raises(PatchError, match="no patch"):
        extract_all(noise_slide, none, encoder)
    with pytest.raises(PatchError, match="batch_size"):
        extract_all(noise_slide, lay(noise_slide), encoder, batch_size=0)


@pytest.mark.real_data
def test_a_real_slide_is_encoded_as_its_patches_are_one_by_one(shared_data) -> None:
    encoder = load_encoder()
    with open_slide(shared_data / "slides" / "CMU-1-Small-Region.svs") as slide:
        patches = lay_patches(find_tissue(slide))

        features = extract_all(slide, patches, encoder)

        expected = one_by_one(slide, patches, encoder)
    assert len(patches) > 20
    assert np.isfinite(features).all()
    np.testing.assert_allclose(features, expected, atol=0.02)
