"""Layouts of tiled TIFF: alpha, palettes, byte orders, planes, profiles."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

import tiff_files
from napari_gimp.errors import SlideError
from napari_gimp.slide.source import open_slide
from napari_gimp.slide.tiff import TiffSource
from tiff_files import halved, picture


def whole(path, level: int = 0) -> np.ndarray:
    with TiffSource(path) as slide:
        pixels = slide.read_region(level, 0, 0, *slide.levels[level].shape)
        assert (pixels.shape[2], pixels.dtype) == (slide.channels, slide.dtype)
        assert len(slide.damage) == 0
        return pixels


def on_white(colours: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = alpha[:, :, None] / 255.0
    return np.rint(colours * share + 255 * (1 - share)).astype(np.uint8)


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("bigtiff", [False, True])
@pytest.mark.parametrize("dtype", [np.uint16, np.float32, np.int16, np.uint32])
@pytest.mark.parametrize("compression", [None, "deflate"])
def test_numbers_of_any_byte_order_come_back_as_written(
    tmp_path, byteorder, bigtiff, dtype, compression
):
    levels = halved(picture(channels=1, dtype=dtype), 2)
    path = tiff_files.write_tiled(
        tmp_path / "a.tif",
        levels,
        byteorder=byteorder,
        bigtiff=bigtiff,
        compression=compression,
        predictor=compression is not None,
    )
    for number, level in enumerate(levels):
        np.testing.assert_array_equal(whole(path, number), level)
    with TiffSource(path) as slide:
        assert (slide.rgb, slide.channels, slide.fill) == (False, 1, 0)
        assert slide.dtype.isnative


def test_sixteen_bit_colour_is_one_picture_on_white(tmp_path):
    pixels = picture(dtype=np.uint16)
    path = tiff_files.write_tiled(tmp_path / "a.tif", [pixels], compression="lzw")
    with TiffSource(path) as slide:
        assert (slide.rgb, slide.channels, slide.fill) == (True, 3, 65535)
    np.testing.assert_array_equal(whole(path), pixels)


def test_colour_in_floating_point_is_three_channels(tmp_path):
    pixels = picture(dtype=np.float32)
    path = tiff_files.write_tiled(tmp_path / "a.tif", [pixels])
    with TiffSource(path) as slide:
        assert (slide.rgb, slide.channels, slide.fill) == (False, 3, 0)
    np.testing.assert_array_equal(whole(path), pixels)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_planes_stored_apart_come_back_as_colour(tmp_path, dtype):
    levels = halved(picture(dtype=dtype))
    path = tiff_files.write_planar(tmp_path / "a.tif", levels, compression="deflate")
    for number, level in enumerate(levels):
        np.testing.assert_array_equal(whole(path, number), level)


def test_planes_stored_apart_in_jpeg_come_back_as_tifffile_reads_them(tmp_path):
    path = tiff_files.write_planar(tmp_path / "a.tif", [picture()], compression="jpeg")
    expected = np.moveaxis(tifffile.imread(path), 0, 2)
    np.testing.assert_array_equal(whole(path), expected)


def test_what_is_transparent_lies_on_white(tmp_path):
    pixels = picture(channels=4)
    pixels[:100, :, 3] = 0
    pixels[100:150, :, 3] = 255
    path = tiff_files.write_rgba(tmp_path / "a.tif", [pixels])
    expected = on_white(pixels[:, :, :3], pixels[:, :, 3])
    assert np.abs(whole(path).astype(int) - expected).max() == 0
    assert (expected[:100] == 255).all()


def test_colours_that_alpha_has_darkened_are_only_lightened(tmp_path):
    colours, alpha = picture(), picture(channels=1, seed=8)
    dark = np.rint(colours * (alpha / 255.0)).astype(np.uint8)
    path = tiff_files.write_rgba(
        tmp_path / "a.tif", [np.concatenate((dark, alpha), axis=2)], associated=True
    )
    expected = on_white(colours, alpha[:, :, 0]).astype(int)
    assert np.abs(whole(path).astype(int) - expected).max() <= 1


def test_transparency_of_16_bits_is_exact(tmp_path):
    pixels = picture(channels=4, dtype=np.uint16)
    path = tiff_files.write_rgba(tmp_path / "a.tif", [pixels], compression="deflate")
    share = pixels[:, :, 3:] / 65535.0
    expected = np.rint(pixels[:, :, :3] * share + 65535 * (1 - share))
    np.testing.assert_array_equal(whole(path), expected)


def test_a_fourth_sample_that_is_no_alpha_is_left_out(tmp_path):
    pixels = picture(channels=4)
    path = tiff_files.write_tiled(tmp_path / "a.tif", [pixels], extrasamples=[0])
    np.testing.assert_array_equal(whole(path), pixels[:, :, :3])


def test_webp_with_alpha_lies_on_white(tmp_path):
    pixels = picture(256, 256, channels=4)
    pixels[:90, :, 3] = 0
    pixels[90:, :, 3] = 255
    path = tiff_files.write_rgba(
        tmp_path / "a.tif",
        [pixels],
        compression="webp",
        compressionargs={"lossless": True},
    )
    expected = on_white(pixels[:, :, :3], pixels[:, :, 3])
    np.testing.assert_array_equal(whole(path), expected)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_white_is_zero_is_turned_round(tmp_path, dtype):
    pixels = picture(channels=1, dtype=dtype)
    path = tiff_files.write_tiled(
        tmp_path / "a.tif", [np.iinfo(dtype).max - pixels], photometric="miniswhite"
    )
    np.testing.assert_array_equal(whole(path), pixels)


def test_white_is_zero_in_floating_point_is_refused(tmp_path):
    path = tiff_files.write_tiled(
        tmp_path / "a.tif",
        [picture(channels=1, dtype=np.float32)],
        photometric="miniswhite",
    )
    with pytest.raises(SlideError, match="WhiteIsZero in 1 x float32"):
        TiffSource(path)


@pytest.mark.parametrize(("bits", "step"), [(1, 255), (2, 85), (4, 17)])
def test_few_bits_are_spread_over_eight(tmp_path, bits, step):
    values = np.random.default_rng(1).integers(0, 1 << bits, (200, 256), np.uint8)
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path,
        values.astype(bool) if bits == 1 else values,
        bitspersample=bits,
        tile=(64, 64),
        photometric="minisblack",
        metadata=None,
    )
    np.testing.assert_array_equal(whole(path)[:, :, 0], values * step)


def test_a_palette_becomes_its_colours(tmp_path):
    rng = np.random.default_rng(1)
    table = rng.integers(0, 256, (3, 256), np.uint16) * 257
    values = rng.integers(0, 256, (200, 256), np.uint8)
    path = tiff_files.write_tiled(
        tmp_path / "a.tif", [values], photometric="palette", colormap=table
    )
    expected = (table >> 8).T[values]
    np.testing.assert_array_equal(whole(path), expected)
    with TiffSource(path) as slide:
        assert slide.rgb


def test_ink_becomes_light_as_pillow_makes_it(tmp_path):
    from PIL import Image

    inks = picture(channels=4)
    path = tiff_files.write_tiled(
        tmp_path / "a.tif", [inks], photometric="separated", compression="deflate"
    )
    expected = np.asarray(Image.fromarray(inks, "CMYK").convert("RGB")).astype(int)
    assert np.abs(whole(path) - expected).max() <= 1


def test_colours_that_are_not_known_are_refused_with_their_name(tmp_path):
    path = tiff_files.write_tiled(tmp_path / "a.tif", [picture()], photometric="cielab")
    with pytest.raises(SlideError, match="stores colours as CIELAB in 3 x uint8"):
        TiffSource(path)


def test_an_svs_without_a_thumbnail_keeps_all_its_levels(tmp_path):
    levels = halved(picture(512, 640))
    about = "Aperio Image Library v12.0.0\n640x512|AppMag = 20|MPP = 0.5"
    path = tmp_path / "a.svs"
    with tifffile.TiffWriter(path) as tiff:
        for level in levels:
            tiff.write(
                level,
                tile=(128, 128),
                photometric="rgb",
                compression="deflate",
                description=about,
                metadata=None,
            )
    with TiffSource(path) as slide:
        assert [v.downsample[0] for v in slide.levels] == [1, 2, 4]
    np.testing.assert_array_equal(whole(path, 1), levels[1])


def test_levels_are_taken_from_fine_to_coarse_in_whatever_order_they_are_stored(
    tmp_path,
):
    levels = halved(picture(512, 640))
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(levels[0], subifds=2, photometric="rgb", tile=(128, 128))
        for level in (levels[2], levels[1]):
            tiff.write(level, subfiletype=1, photometric="rgb", tile=(128, 128))
    for number, level in enumerate(levels):
        np.testing.assert_array_equal(whole(path, number), level)


@pytest.mark.parametrize("below", [False, True])
def test_levels_are_found_whatever_the_factors_between_them(tmp_path, below):
    """Scanners make 4, 4, 2 and 2.5 times; pages follow or lie below the first."""
    finest = picture(1280, 1600)
    factors = (4, 16, 32) if below else (2.5, 5, 20)
    levels = [finest]
    levels += [picture(int(1280 / f), int(1600 / f), seed=int(f)) for f in factors]
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as tiff:
        for number, level in enumerate(levels):
            tiff.write(
                level,
                subifds=len(levels) - 1 if below and number == 0 else None,
                subfiletype=int(number > 0),
                photometric="rgb",
                compression="deflate",
                tile=(128, 128),
                metadata=None,
            )
    with TiffSource(path) as slide:
        assert [v.downsample[0] for v in slide.levels] == [1, *factors]
    for number, level in enumerate(levels):
        np.testing.assert_array_equal(whole(path, number), level)


def test_a_larger_picture_beside_the_slide_is_not_the_slide(tmp_path):
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(picture(900, 900), photometric="rgb", metadata=None)
        tiff.write(picture(), photometric="rgb", tile=(128, 128), metadata=None)
    np.testing.assert_array_equal(whole(path), picture())


def test_a_vendor_whose_tiles_overlap_is_left_to_openslide(tmp_path):
    path = tiff_files.write_tiled(tmp_path / "a.tif", [picture()], software="MedScan 2")
    with pytest.raises(SlideError, match="is a trestle file, which OpenSlide reads"):
        TiffSource(path)


def test_the_colour_profile_is_the_files(tmp_path):
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for writer in (tiff_files.write_tiled, tiff_files.write_aperio):
        path = writer(tmp_path / "a.svs", [picture()], iccprofile=profile)
        with open_slide(path) as slide:
            assert slide.icc == profile
            assert slide.reader == "tifffile"


def test_a_slide_without_a_colour_profile_has_none(tmp_path):
    with TiffSource(tiff_files.write_tiled(tmp_path / "a.tif", [picture()])) as slide:
        assert slide.icc is None
