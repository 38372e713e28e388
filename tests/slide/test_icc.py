"""Colour profiles: from the scanner's colours to sRGB, on request."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tifffile

from icc_profiles import (
    from_gamma,
    gamma_profile,
    lab_profile,
    srgb_profile,
    swapped_profile,
)
from napari_gimp.errors import SlideError
from napari_gimp.slide.icc import to_srgb
from napari_gimp.slide.source import open_slide
from tiff_files import picture

KINDS = {np.uint8: 255, np.uint16: 65535}


def colours(kind: type, side: int = 64) -> np.ndarray:
    rng = np.random.default_rng(3)
    return rng.integers(0, KINDS[kind] + 1, (side, side, 3), kind)


def slide_with(path: Path, profile: bytes | None, pixels: np.ndarray) -> Path:
    tifffile.imwrite(path, pixels, tile=(64, 64), photometric="rgb", iccprofile=profile)
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_srgb_stays_what_it_is(kind):
    pixels = colours(kind)
    converted = to_srgb(srgb_profile(), "a.svs")(pixels)
    assert converted.dtype == kind
    assert np.abs(converted.astype(int) - pixels).max() <= 1


@pytest.mark.parametrize("kind", KINDS)
def test_exchanged_primaries_are_exchanged_back(kind):
    pixels = colours(kind)
    converted = to_srgb(swapped_profile(), "a.svs")(pixels)
    assert np.abs(converted.astype(int) - pixels[:, :, ::-1]).max() <= 1


@pytest.mark.parametrize(("kind", "off"), [(np.uint8, 1), (np.uint16, 66)])
@pytest.mark.parametrize("gamma", [1.0, 1.8, 2.2])
def test_another_gamma_becomes_that_of_srgb(kind, off, gamma):
    pixels = colours(kind)
    converted = to_srgb(gamma_profile(gamma), "a.svs")(pixels)
    # what is below 2 in 255 hangs on how curves are interpolated near black
    bright = pixels > 0.02 * KINDS[kind]
    expected = from_gamma(pixels, gamma)
    assert np.abs(converted - expected)[bright].max() <= off
    assert np.abs(converted.astype(int) - pixels).max() > 10 or gamma == 2.2


def test_pixels_that_are_not_contiguous_are_converted_too():
    pixels = colours(np.uint8)[::2, 3::3]
    converted = to_srgb(swapped_profile(), "a.svs")(pixels)
    assert np.abs(converted.astype(int) - pixels[:, :, ::-1]).max() <= 1


@pytest.mark.parametrize("kind", KINDS)
def test_threads_that_share_a_transform_get_the_same_colours(kind):
    convert = to_srgb(gamma_profile(1.8), "a.svs")
    tiles = [np.full((50, 50, 3), n * KINDS[kind] // 40, kind) for n in range(40)]
    alone = [convert(tile) for tile in tiles]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(convert, tiles * 10))
    for number, tile in enumerate(together):
        np.testing.assert_array_equal(tile, alone[number % 40])


@pytest.mark.parametrize("profile", [b"", b"no profile" * 20, lab_profile()])
def test_a_profile_that_cannot_be_used_is_an_error_that_says_what_to_do(profile):
    with pytest.raises(
        SlideError, match=r"profile of a\.svs \(\d+ bytes\) cannot .* without convert"
    ):
        to_srgb(profile, "a.svs")


def test_pixels_are_converted_only_on_request(tmp_path):
    path = slide_with(tmp_path / "a.tif", swapped_profile(), picture())
    with open_slide(path) as plain, open_slide(path, srgb=True) as srgb:
        assert (plain.srgb, srgb.srgb) == (False, True)
        assert plain.icc == srgb.icc == swapped_profile()
        region = plain.read_region(0, 10, 20, 99, 130)
        converted = srgb.read_region(0, 10, 20, 99, 130)
    np.testing.assert_array_equal(region, picture()[10:109, 20:150])
    assert np.abs(converted.astype(int) - region[:, :, ::-1]).max() <= 1


def test_converted_pixels_have_a_fingerprint_and_tiles_of_their_own(tmp_path):
    path = slide_with(tmp_path / "a.tif", swapped_profile(), picture())
    with open_slide(path) as plain, open_slide(path, srgb=True) as srgb:
        assert srgb.fingerprint == f"{plain.fingerprint}-srgb"
        one, two = plain.tile(0, 0, 0), srgb.tile(0, 0, 0)
        assert (one != two).any()
        np.testing.assert_array_equal(plain.tile(0, 0, 0), one)


def test_without_a_profile_nothing_changes(tmp_path):
    path = slide_with(tmp_path / "a.tif", None, picture())
    with open_slide(path) as plain, open_slide(path, srgb=True) as srgb:
        assert not srgb.srgb
        assert srgb.fingerprint == plain.fingerprint


def test_outside_a_converted_slide_is_white(tmp_path):
    path = slide_with(tmp_path / "a.tif", gamma_profile(1.8), picture())
    with open_slide(path, srgb=True) as slide:
        region = slide.read_region(0, -5, -5, 10, 10)
    assert (region[:5] == 255).all()


def test_sixteen_bit_slides_are_converted(tmp_path):
    pixels = picture(dtype=np.uint16)
    path = slide_with(tmp_path / "a.tif", swapped_profile(), pixels)
    with open_slide(path, srgb=True) as slide:
        region = slide.read_region(0, 0, 0, 300, 420)
    assert region.dtype == np.uint16
    assert np.abs(region.astype(int) - pixels[:, :, ::-1]).max() <= 1


def test_a_converted_slide_travels_as_one(tmp_path):
    path = slide_with(tmp_path / "a.tif", swapped_profile(), picture())
    with open_slide(path, srgb=True) as slide:
        stored, expected = pickle.dumps(slide), slide.read_region(0, 0, 0, 64, 64)
    with pickle.loads(stored) as again:
        assert again.srgb
        np.testing.assert_array_equal(again.read_region(0, 0, 0, 64, 64), expected)


def test_a_slide_whose_profile_is_broken_opens_only_without_it(tmp_path):
    path = slide_with(tmp_path / "a.tif", b"broken" * 30, picture())
    with pytest.raises(SlideError, match="open the slide without converting it"):
        open_slide(path, srgb=True)
    with open_slide(path) as slide:
        assert slide.read_region(0, 0, 0, 5, 5).shape == (5, 5, 3)
