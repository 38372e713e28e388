from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_gimp.errors import EncoderError
from napari_gimp.patches.encoders import (
    WEIGHTS,
    fingerprint,
    list_encoders,
    load_embedded,
    load_encoder,
)
from napari_gimp.patches.network import PatchNet, PatchNetConfig, fuse

SMALL = PatchNetConfig(stem=4, widths=(6, 8), depths=(1, 2))


def patches(count: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(90, 250, (count, 16, 16, 3), dtype=np.uint8)
    return coarse.repeat(8, 1).repeat(8, 2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the shipped weights that a test may damage."""
    shutil.copytree(WEIGHTS, tmp_path / "weights")
    return tmp_path / "weights"


def test_the_default_encoder_is_what_the_design_says() -> None:
    encoder = load_encoder()

    assert list_encoders() == ["default"]
    assert (encoder.input_px, encoder.mpp, encoder.patch_um) == (128, 1.0, 128.0)
    assert encoder.width == 192
    assert len(encoder.fingerprint) == 64
    assert (WEIGHTS / "default.safetensors").stat().st_size < 4_000_000


def test_the_shipped_card_names_its_data_and_licences() -> None:
    facts = load_embedded("default").card.facts

    assert facts["licence"].startswith("BSD-3-Clause")
    assert "tiles" in facts
    assert facts["data"]
    assert all("licence" in row and "attribution" in row for row in facts["data"])
    assert not any("lc25000" in json.dumps(row).lower() for row in facts["data"])


def test_features_are_finite_float32_and_differ_between_patches() -> None:
    features = load_encoder()(patches(3))

    assert features.shape == (3, 192)
    assert features.dtype == np.float32
    assert np.isfinite(features).all()
    assert np.abs(features[0] - features[1]).max() > 1e-3


def test_a_patch_has_the_same_features_in_any_batch() -> None:
    encoder, pixels = load_encoder(), patches(9)

    together = encoder(pixels)

    alone = np.concatenate([encoder(p[None]) for p in pixels])
    np.testing.assert_allclose(together, alone, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((2, 64, 64, 3), np.uint8),
        np.zeros((2, 128, 128, 4), np.uint8),
        np.zeros((2, 128, 128, 3), np.float32),
    ],
    ids=["size", "channels", "type"],
)
def test_pixels_of_another_kind_are_refused(wrong: np.ndarray) -> None:
    with pytest.raises(EncoderError, match="uint8 patches"):
        load_encoder()(wrong)


def test_an_unknown_encoder_names_the_known_ones() -> None:
    with pytest.raises(EncoderError, match="known: default"):
        load_encoder("none of these")


def test_damaged_weights_are_refused(folder: Path) -> None:
    (folder / "default.safetensors").write_bytes(b"not weights")

    with pytest.raises(EncoderError, match="do not fit"):
        load_encoder(folder=folder)


def test_weights_of_other_sizes_are_refused(folder: Path) -> None:
    card = json.loads((folder / "default.json").read_text())
    card["config"]["stem"] += 1
    (folder / "default.json").write_text(json.dumps(card))

    with pytest.raises(EncoderError, match="do not fit"):
        load_encoder(folder=folder)


def test_a_damaged_card_is_refused(folder: Path) -> None:
    (folder / "default.json").write_text("{}")

    with pytest.raises(EncoderError, match="damaged"):
        load_encoder(folder=folder)


def test_a_fingerprint_tells_weights_and_sizes_apart() -> None:
    marks = {
        fingerprint(b"one", PatchNetConfig()),
        fingerprint(b"two", PatchNetConfig()),
        fingerprint(b"one", SMALL),
    }

    assert len(marks) == 3


def test_folding_the_normalisations_changes_no_feature() -> None:
    torch.manual_seed(0)
    network = PatchNet(SMALL)
    pixels = torch.rand(4, 3, 32, 32)
    for _ in range(3):
        network(pixels)
    network.feature_mean.uniform_()
    network.eval()
    with torch.inference_mode():
        before = network(pixels)
        after = fuse(network)(pixels)

    torch.testing.assert_close(before, after, atol=1e-5, rtol=1e-5)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in network.modules())


def test_a_network_needs_a_depth_per_width() -> None:
    with pytest.raises(ValueError, match="one depth per width"):
        PatchNetConfig(widths=(8,), depths=(1, 1))


def test_no_patch_gives_no_feature() -> None:
    assert load_encoder()(patches(0)).shape == (0, 192)
