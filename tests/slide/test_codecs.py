"""Compressions and colours of TIFF slides, against tifffile and OpenSlide."""

from __future__ import annotations

import imagecodecs
import numpy as np
import openslide
import pytest
import tifffile

from napari_gimp.errors import SlideError
from napari_gimp.slide.source import open_slide
from napari_gimp.slide.tiff import TiffSource
from napari_gimp.slide.tiff_colour import ycbcr_to_rgb

LOSSLESS = [
    *(("none", False), ("packbits", False)),
    *((codec, p) for codec in ("deflate", "lzw", "zstd") for p in (False, True)),
]


def whole(path) -> np.ndarray:
    with open_slide(path) as slide:
        assert slide.reader == "tifffile"
        return slide.read_region(0, 0, 0, *slide.levels[0].shape)


@pytest.mark.parametrize(("compression", "predictor"), LOSSLESS)
def test_lossless_tiles_come_back_as_written(write, texture, compression, predictor):
    path = write([texture], compression=compression, predictor=predictor)
    np.testing.assert_array_equal(whole(path), texture)


def test_lossless_jpeg_2000_comes_back_as_written(write, texture):
    path = write(
        [texture], compression="jpeg2000", compressionargs={"reversible": True}
    )
    np.testing.assert_array_equal(whole(path), texture)


def test_planes_stored_one_by_one_come_back_as_colour(write, texture):
    planes = np.ascontiguousarray(np.moveaxis(texture, 2, 0))
    path = write([planes], planarconfig="separate", compression="deflate")
    np.testing.assert_array_equal(whole(path), texture)


@pytest.mark.parametrize("subsampling", [(1, 1), (2, 1), (2, 2)])
def test_jpeg_in_ycbcr_keeps_its_colours(write, texture, subsampling):
    path = write([texture], compression="jpeg", subsampling=subsampling)
    pixels = whole(path)
    np.testing.assert_array_equal(pixels, tifffile.imread(path))
    assert np.abs(pixels.astype(int) - texture).mean() < 3


def test_jpeg_in_rgb_without_markers_keeps_its_colours_as_in_aperio(tmp_path, texture):
    """Aperio stores RGB as JPEG without saying so inside the JPEG."""
    path = tmp_path / "a.tif"
    tiles = [
        imagecodecs.jpeg8_encode(
            np.pad(texture, ((0, 68), (0, 124), (0, 0)))[y : y + 256, x : x + 256],
            level=95,
            colorspace="RGB",
            outcolorspace="RGB",
        )
        for y in range(0, 768, 256)
        for x in range(0, 1024, 256)
    ]
    tifffile.imwrite(
        path,
        iter(tiles),
        shape=texture.shape,
        dtype=np.uint8,
        photometric="rgb",
        compression="jpeg",
        tile=(256, 256),
        metadata=None,
    )
    # tifffile marks all JPEG as YCbCr
    with tifffile.TiffFile(path, mode="r+") as tiff:
        tiff.pages[0].tags["PhotometricInterpretation"].overwrite(2)
    pixels = whole(path)
    assert np.abs(pixels.astype(int) - texture).mean() < 3
    reference = openslide.OpenSlide(path).read_region((0, 0), 0, (900, 700))
    np.testing.assert_array_equal(pixels, np.asarray(reference)[:, :, :3])


def test_aperio_jpeg_2000_in_ycbcr_becomes_rgb(tmp_path, texture):
    from PIL import Image

    ycbcr = np.asarray(Image.fromarray(texture[:256, :512]).convert("YCbCr"))
    tiles = [
        imagecodecs.jpeg2k_encode(
            np.ascontiguousarray(ycbcr[:, x : x + 256]),
            codecformat="j2k",
            reversible=True,
            mct=False,
        )
        for x in (0, 256)
    ]
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path,
        iter(tiles),
        shape=ycbcr.shape,
        dtype=np.uint8,
        photometric="rgb",
        compression=33003,
        tile=(256, 256),
        metadata=None,
    )
    assert np.abs(whole(path).astype(int) - texture[:256, :512]).max() <= 3


def test_ycbcr_turns_into_the_rgb_that_pillow_says():
    from PIL import Image

    rng = np.random.default_rng(3)
    ycbcr = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    reference = np.asarray(Image.fromarray(ycbcr, "YCbCr").convert("RGB")).astype(int)
    assert np.abs(ycbcr_to_rgb(ycbcr) - reference).max() <= 1


def test_a_tile_that_was_left_out_is_white(tmp_path, texture):
    path = tmp_path / "a.tif"
    tiles = [np.ascontiguousarray(texture[:256, :256]), None]
    tifffile.imwrite(
        path,
        iter(tiles),
        shape=(256, 512, 3),
        dtype=np.uint8,
        photometric="rgb",
        tile=(256, 256),
        compression="deflate",
        metadata=None,
    )
    pixels = whole(path)
    np.testing.assert_array_equal(pixels[:, :256], texture[:256, :256])
    assert (pixels[:, 256:] == 255).all()


def test_levels_that_are_not_marked_as_reduced_are_found(tmp_path, texture):
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as tiff:
        for step in (1, 2, 4):
            tiff.write(texture[::step, ::step], tile=(128, 128), photometric="rgb")
    with TiffSource(path) as slide:
        assert [level.downsample[0] for level in slide.levels] == [1, 2, 4]


def test_channels_in_pages_of_their_own_are_read_together(tmp_path):
    path = tmp_path / "a.ome.tif"
    pixels = np.arange(4 * 200 * 300, dtype=np.uint16).reshape(4, 200, 300)
    options = {"tile": (64, 64), "photometric": "minisblack"}
    tifffile.imwrite(path, pixels, ome=True, metadata={"axes": "CYX"}, **options)
    with open_slide(path) as slide:
        assert (slide.channels, slide.dtype) == (4, np.uint16)
        region = slide.read_region(0, -1, 50, 100, 100)
    np.testing.assert_array_equal(region[1:], np.moveaxis(pixels[:, :99, 50:150], 0, 2))
    assert (region[0] == 0).all()


def test_a_stack_of_unknown_images_is_refused_not_shown_in_part(tmp_path):
    path = tmp_path / "a.tif"
    pixels = np.zeros((4, 200, 300), np.uint16)
    tifffile.imwrite(path, pixels, tile=(64, 64), photometric="minisblack")
    with pytest.raises(SlideError, match=r"a stack of 4 images \(axes QYX\)"):
        open_slide(path)


def test_ome_tiff_with_sub_levels_is_read_with_its_um(tmp_path, texture):
    path = tmp_path / "a.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as tiff:
        size = {"PhysicalSizeX": 250, "PhysicalSizeXUnit": "nm"}
        size |= {"PhysicalSizeY": 0.25, "PhysicalSizeYUnit": "µm", "axes": "YXS"}
        options = {"tile": (128, 128), "photometric": "rgb"}
        tiff.write(texture, subifds=1, metadata=size, **options)
        tiff.write(texture[::2, ::2], subfiletype=1, **options)
    with open_slide(path) as slide:
        assert slide.mpp == pytest.approx((0.25, 0.25))
        assert [level.downsample[0] for level in slide.levels] == [1, 2]
        region = slide.read_region(1, 0, 0, 350, 450)
    np.testing.assert_array_equal(region, texture[::2, ::2])


def spoil(path, page: int, tile: int) -> None:
    """Overwrite the stored bytes of one tile."""
    with tifffile.TiffFile(path) as tiff:
        offset = tiff.pages[page].dataoffsets[tile]
        count = tiff.pages[page].databytecounts[tile]
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\xff" * count)


def test_a_damaged_tile_is_named_and_the_others_still_read(write, texture):
    path = write([texture], compression="deflate")
    spoil(path, 0, 0)
    with open_slide(path) as slide:
        assert (slide.read_region(0, 0, 0, 10, 10) == 255).all()
        assert slide.damage.places == ((0, 0, 0),)
        good = slide.read_region(0, 128, 128, 100, 100)
    np.testing.assert_array_equal(good, texture[128:228, 128:228])


def test_a_slide_whose_coarse_level_is_damaged_still_opens(write, texture):
    path = write([texture, texture[::8, ::8]], compression="deflate")
    spoil(path, 1, 0)
    with open_slide(path) as slide:
        assert slide.reader == "tifffile"
        np.testing.assert_array_equal(slide.read_region(0, 0, 0, 700, 900), texture)
