"""Encoders in bfloat16: the same network, other features, another name."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_gimp.errors import EncoderError
from napari_gimp.patches.encoders import load_encoder

Pixels = NDArray[np.uint8]


@pytest.fixture
def pixels() -> Pixels:
    return np.random.default_rng(0).integers(0, 255, (3, 128, 128, 3), dtype=np.uint8)


def test_an_encoder_in_bfloat16_nearly_agrees_with_itself_in_full(
    pixels: Pixels,
) -> None:
    full, half = load_encoder("default"), load_encoder("default+bf16")
    a, b = full(pixels), half(pixels)
    assert b.dtype == np.float32
    assert not np.array_equal(a, b)
    assert np.abs(a - b).max() < 0.02 * np.abs(a).max()


def test_features_in_bfloat16_are_never_taken_for_full_ones() -> None:
    full, half = load_encoder("default"), load_encoder("default+bf16")
    assert half.fingerprint != full.fingerprint
    assert len(half.fingerprint) == 64
    assert half.name == "default+bf16"
    assert load_encoder(half.name).fingerprint == half.fingerprint


def test_an_encoder_in_bfloat16_looks_as_it_does_in_full() -> None:
    full, half = load_encoder("default"), load_encoder("default+bf16")
    for fact in ("width", "input_px", "mpp", "patch_um", "cpu_batch"):
        assert getattr(half, fact) == getattr(full, fact)


@pytest.mark.gpu
def test_a_gpu_encodes_in_bfloat16_within_a_hundredth(pixels: Pixels) -> None:
    full = load_encoder("default")(pixels)
    half = load_encoder("default+bf16").to("cuda")(pixels)
    assert np.abs(full - half).max() < 0.02 * np.abs(full).max()


def test_imported_features_have_no_precision_to_choose() -> None:
    with pytest.raises(EncoderError, match=r"leave \+bf16 out"):
        load_encoder("imported:uni2:1536+bf16")
