from __future__ import annotations

import itertools
import json
from types import SimpleNamespace

import numpy as np
import pytest

from napari_gimp.geometry import Grid
from napari_gimp.patches import extract as extraction
from napari_gimp.patches.estimate import RATES_FILE, estimate, remember_rate
from napari_gimp.patches.extract import extract_all
from napari_gimp.patches.grid import lay_patches
from napari_gimp.patches.store import FeatureStore
from napari_gimp.patches.tissue import Tissue
from napari_gimp.slide.remembered import config_folder


def whole(slide):
    height, width = (n * slide.mpp[0] for n in slide.pixels.shape[:2])
    mask = np.ones((int(height // 8), int(width // 8)), bool)
    return lay_patches(Tissue(mask, Grid(mask.shape, (8.0, 8.0))), patch_um=16.0)


def test_the_time_is_unknown_until_the_first_run(encoder) -> None:
    first = estimate(1000, encoder, device="cpu", batch_size=64)

    assert first.seconds is None
    assert first.from_ == "time unknown until the first run on cpu"


def test_the_time_is_told_after_a_run(noise_slide, encoder) -> None:
    patches = whole(noise_slide)

    extract_all(noise_slide, patches, encoder)

    told = estimate(len(patches), encoder, device="cpu", batch_size=64)
    assert told.seconds is not None
    assert 0 < told.seconds < 60
    assert "patches/s on cpu, measured 20" in told.from_


def test_the_time_grows_with_the_patches(encoder) -> None:
    remember_rate(encoder.fingerprint, "cpu", patches=400, seconds=2.0)

    assert estimate(1000, encoder, device="cpu", batch_size=64).seconds == 5.0


def test_what_the_caller_does_between_steps_is_not_counted(
    noise_slide, encoder, monkeypatch
) -> None:
    ticks = itertools.count(step=0.5)
    pauses = []
    clock = SimpleNamespace(perf_counter=lambda: next(ticks) + 1000.0 * len(pauses))
    monkeypatch.setattr(extraction, "time", clock)
    patches = whole(noise_slide)

    steps = extraction.extract(noise_slide, patches, encoder, batch_size=32)
    done = [pauses.append(step.rows) for step in steps]

    told = estimate(len(patches), encoder, device="cpu")
    assert told.seconds == pytest.approx(0.5 * len(done))


def test_rates_of_other_devices_and_encoders_do_not_count(encoder) -> None:
    remember_rate(encoder.fingerprint, "cuda:1", patches=400, seconds=2.0)
    remember_rate("another", "cpu", patches=400, seconds=2.0)

    assert estimate(1000, encoder, device="cpu", batch_size=64).seconds is None
    assert estimate(1000, encoder, device="cuda", batch_size=64).seconds == 5.0


def test_a_run_too_short_to_tell_is_not_remembered(encoder) -> None:
    remember_rate(encoder.fingerprint, "cpu", patches=3, seconds=2.0)

    assert estimate(1000, encoder, device="cpu", batch_size=64).seconds is None


def test_features_found_in_the_store_say_nothing_of_the_rate(
    noise_slide, encoder, tmp_path
) -> None:
    store, patches = FeatureStore(tmp_path), whole(noise_slide)
    extract_all(noise_slide, patches, encoder, store=store)
    (config_folder() / RATES_FILE).unlink()

    extract_all(noise_slide, patches, encoder, store=store)

    assert not (config_folder() / RATES_FILE).exists()


@pytest.mark.parametrize("spoilt", ["", "[]", '{"mean-1 cpu": {"per_s": "fast"}}'])
def test_a_spoilt_file_of_rates_is_as_none(encoder, spoilt: str) -> None:
    config_folder().mkdir(parents=True)
    (config_folder() / RATES_FILE).write_text(spoilt)

    assert estimate(1000, encoder, device="cpu", batch_size=64).seconds is None


def test_where_rates_cannot_be_kept_the_features_come_all_the_same(
    noise_slide, encoder, monkeypatch, tmp_path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("NAPARI_GIMP_CONFIG", str(tmp_path / "file"))

    features = extract_all(noise_slide, whole(noise_slide), encoder)

    assert np.isfinite(features).all()


def test_room_on_disk_is_that_of_the_features_where_they_are_kept(
    encoder, tmp_path
) -> None:
    kept = estimate(1000, encoder, store=FeatureStore(tmp_path))

    assert kept.disk_bytes == 1000 * (encoder.width * 4 + 16)
    assert estimate(1000, encoder).disk_bytes == 0


def test_memory_grows_with_the_features_not_with_the_pixels(encoder) -> None:
    few, many = (estimate(n, encoder).memory_bytes for n in (1_000, 100_000))

    assert many - few == 99_000 * encoder.width * 4


def test_rates_name_no_slide(noise_slide, encoder) -> None:
    extract_all(noise_slide, whole(noise_slide), encoder)

    kept = json.loads((config_folder() / RATES_FILE).read_text())
    assert list(kept) == ["mean-1 cpu"]
    assert set(kept["mean-1 cpu"]) == {"per_s", "on"}
