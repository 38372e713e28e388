"""Colour as encoders take it: 8-bit RGB, and nothing else passes for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from napari_gimp.errors import SlideError
from napari_gimp.patches.brightfield import (
    check_brightfield,
    eight_bits,
    overview_rgb,
    read_rgb,
)
from napari_gimp.patches.extract import extract_all
from napari_gimp.patches.grid import lay_patches
from napari_gimp.patches.store import FeatureStore
from napari_gimp.patches.tissue import brown_part, find_tissue, tissue_mask
from napari_gimp.slide.source import open_slide

PER_CM = {"resolution": (1e4, 1e4), "resolutionunit": "CENTIMETER"}
PURPLE = (170, 100, 170)


def purple(side: int = 640) -> np.ndarray:
    rng = np.random.default_rng(0)
    pixels = np.full((side, side, 3), 244, np.uint8)
    tissue = rng.normal(PURPLE, 25, (side - 128, side - 128, 3))
    pixels[64:-64, 64:-64] = tissue.clip(0, 255)
    return pixels


def write(path: Path, pixels: np.ndarray, **kwargs: object) -> Path:
    kwargs = {"photometric": "rgb", "tile": (128, 128), **PER_CM, **kwargs}
    tifffile.imwrite(path, pixels, **kwargs)
    return path


@given(st.integers(0, 65535))
def test_sixteen_bits_become_the_nearest_of_eight(value: int) -> None:
    pixels = np.full((1, 1, 3), value, np.uint16)
    assert eight_bits(pixels).dtype == np.uint8
    assert abs(int(eight_bits(pixels)[0, 0, 0]) - value / 257) <= 0.5


def test_eight_bits_stay_as_they_are() -> None:
    pixels = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    np.testing.assert_array_equal(eight_bits(pixels), pixels)


@pytest.fixture
def both(tmp_path: Path) -> tuple[Path, Path]:
    """The same slide in 8 and in 16 bits."""
    pixels = purple()
    wide = pixels.astype(np.uint16) * 257
    return write(tmp_path / "8.tif", pixels), write(tmp_path / "16.tif", wide)


def test_a_sixteen_bit_slide_has_the_tissue_and_features_of_its_eight_bit_twin(
    both: tuple[Path, Path], encoder
) -> None:
    seen = []
    for path in both:
        with open_slide(path) as source:
            tissue = find_tissue(source)
            patches = lay_patches(tissue, patch_um=16.0)
            seen.append((tissue.mask, extract_all(source, patches, encoder)))
    (mask, features), (wide_mask, wide_features) = seen
    np.testing.assert_array_equal(mask, wide_mask)
    np.testing.assert_allclose(features, wide_features, atol=0.51)


def test_pictures_of_a_sixteen_bit_slide_are_not_clipped(
    both: tuple[Path, Path],
) -> None:
    with open_slide(both[0]) as plain, open_slide(both[1]) as wide:
        for mpp in (1.0, 3.7):
            shape, corner = (50, 60), (30.5, 90.25)
            np.testing.assert_allclose(
                read_rgb(plain, *corner, shape, mpp).astype(int),
                read_rgb(wide, *corner, shape, mpp),
                atol=1,
            )
        a, b = overview_rgb(plain, 8.0), overview_rgb(wide, 8.0)
        np.testing.assert_allclose(a[0].astype(int), b[0], atol=1)
        assert a[1] == b[1]


@pytest.mark.parametrize(
    ("shape", "kwargs", "says"),
    [
        ((256, 256), {"photometric": "minisblack"}, "1 grey channel of uint8.*colour"),
        (
            (3, 256, 256),
            {"photometric": "minisblack", "ome": True, "metadata": {"axes": "CYX"}},
            "3 separate channels of uint8.*bright-field",
        ),
    ],
    ids=["grey", "three channels"],
)
def test_what_is_no_colour_picture_is_refused_with_what_it_is(
    tmp_path: Path, shape: tuple[int, ...], kwargs: dict[str, object], says: str
) -> None:
    name = "a.ome.tif" if "ome" in kwargs else "a.tif"
    path = write(tmp_path / name, np.zeros(shape, np.uint8), **kwargs)
    with open_slide(path, mpp=1.0) as source:
        with pytest.raises(SlideError, match=says):
            check_brightfield(source)
        with pytest.raises(SlideError, match=says):
            read_rgb(source, 0, 0, (8, 8), 1.0)


def test_channels_are_refused_by_their_names(make_slide) -> None:
    slide = make_slide(np.zeros((8, 8, 3), np.uint8))
    slide.rgb, slide.channel_names = False, ("DAPI", "FITC", "TRITC")
    with pytest.raises(SlideError, match=r"3 separate channels \(DAPI, FITC, TRITC\)"):
        check_brightfield(slide)


def test_brown_is_told_from_purple_and_pink() -> None:
    mask = np.ones((40, 40), dtype=bool)
    for colour, part in [(PURPLE, 0), ((228, 150, 200), 0), ((120, 80, 50), 1)]:
        assert brown_part(np.full((40, 40, 3), colour, np.uint8), mask) == part
    assert brown_part(np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2), bool)) == 0


def test_a_real_immunohistochemistry_is_mostly_brown() -> None:
    from skimage.data import immunohistochemistry

    picture = immunohistochemistry()[::8, ::8]
    mask, _ = tissue_mask(picture, (8.0, 8.0))
    assert brown_part(picture, mask) > 0.5


@pytest.mark.real_data
@pytest.mark.parametrize(
    "name", ["CMU-1-Small-Region.svs", "OS-1-detail.ome.tif", "her2st-C2.tif"]
)
def test_real_h_and_e_is_neither_brown_nor_dark(shared_data: Path, name: str) -> None:
    with open_slide(shared_data / "slides" / name) as source:
        tissue = find_tissue(source)
    assert tissue.brown < 0.02
    assert tissue.dark < 0.02


def test_features_of_a_damaged_slide_are_not_kept(
    make_slide, encoder, tmp_path
) -> None:
    store = FeatureStore(tmp_path)
    slide = make_slide(purple())
    patches = lay_patches(find_tissue(slide), patch_um=16.0)
    slide.damage.note((0, 0, 0), "no JPEG")

    extract_all(slide, patches, encoder, store=store)
    (entry,) = tmp_path.iterdir()
    import zarr

    assert zarr.open_group(entry).attrs["done"] == 0

    slide.damage = type(slide.damage)("array.tif")
    extract_all(slide, patches, encoder, store=store)
    assert zarr.open_group(entry).attrs["done"] == len(patches)
