"""Compressions and colours of TIFF slides, against tifffile and OpenSlide."""

from __future__ import annotations

import base64

import imagecodecs
import numpy as np
import openslide
import pytest
import tifffile

from napari_gimp.errors import SlideError
from napari_gimp.slide.source import open_slide
from napari_gimp.slide.tiff import TiffSource
from napari_gimp.slide.tiff_codec import empty_off_line
from napari_gimp.slide.tiff_colour import ycbcr_to_rgb
from tiff_files import change_tag, picture, spoil, write_tiled

LOSSLESS = {
    "none": {},
    "packbits": {"compression": "packbits"},
    "deflate": {"compression": "deflate"},
    "deflate with differences": {"compression": "deflate", "predictor": True},
    "lzw": {"compression": "lzw"},
    "lzw with differences": {"compression": "lzw", "predictor": True},
    "zstd": {"compression": "zstd"},
    "zstd with differences": {"compression": "zstd", "predictor": True},
    "lzma": {"compression": "lzma"},
    "png": {"compression": "png"},
    "jpegxr": {"compression": "jpegxr"},
    "webp": {"compression": "webp", "compressionargs": {"lossless": True}},
    "jpeg2000": {"compression": "jpeg2000", "compressionargs": {"reversible": True}},
    "jpegxl": {"compression": "jpegxl", "compressionargs": {"lossless": True}},
}
KINDS = {
    "grey": (1, np.uint8),
    "grey of 16 bits": (1, np.uint16),
    "colour of 16 bits": (3, np.uint16),
    "floating point": (1, np.float32),
}
PICTURES_ONLY = ("png", "jpegxr", "webp", "jpeg2000")
LOSSY = {
    "webp": lambda stored: imagecodecs.webp_decode(stored),
    "jpeg2000": lambda stored: imagecodecs.jpeg2k_decode(stored),
    "jpegxl": lambda stored: imagecodecs.jpegxl_decode(stored),
    "jpeg": lambda stored: imagecodecs.jpeg8_decode(stored, outcolorspace="RGB"),
}


def whole(path) -> np.ndarray:
    with open_slide(path) as slide:
        assert slide.reader == "tifffile"
        return slide.read_region(0, 0, 0, *slide.levels[0].shape)


@pytest.mark.parametrize("codec", LOSSLESS)
def test_lossless_tiles_come_back_as_written(write, texture, codec):
    path = write([texture], **LOSSLESS[codec])
    np.testing.assert_array_equal(whole(path), texture)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("codec", LOSSLESS)
def test_lossless_tiles_of_other_kinds_come_back_as_written(tmp_path, codec, kind):
    channels, dtype = KINDS[kind]
    if codec == "webp" or (dtype == np.float32 and codec in PICTURES_ONLY):
        pytest.skip("the codec has no such pixels")
    pixels = picture(channels=channels, dtype=dtype)
    path = write_tiled(tmp_path / "a.tif", [pixels], **LOSSLESS[codec])
    np.testing.assert_array_equal(whole(path), pixels)


@pytest.mark.parametrize("codec", LOSSY)
def test_lossy_tiles_are_what_the_codec_makes_of_their_bytes(write, texture, codec):
    path = write([texture], compression=codec, compressionargs={"level": 60})
    pixels = whole(path)
    with tifffile.TiffFile(path) as tiff, path.open("rb") as file:
        page = tiff.pages[0]
        for index in (0, 9):  # the first tile, and one inside
            file.seek(page.dataoffsets[index])
            expected = LOSSY[codec](file.read(page.databytecounts[index]))
            y, x = index // 8 * 128, index % 8 * 128
            np.testing.assert_array_equal(pixels[y : y + 128, x : x + 128], expected)
    assert np.abs(pixels.astype(int) - texture).mean() < 4


def test_grey_jpeg_is_one_channel(tmp_path):
    pixels = picture(channels=1)
    path = write_tiled(tmp_path / "a.tif", [pixels], compression="jpeg")
    np.testing.assert_array_equal(whole(path)[:, :, 0], tifffile.imread(path))


def test_jpeg_of_12_bits_is_spread_over_16(tmp_path):
    pixels = picture(256, 256, dtype=np.uint16) >> 4
    options = {"bitspersample": 12, "compressionargs": {"bitspersample": 12}}
    path = write_tiled(tmp_path / "a.tif", [pixels], compression="jpeg", **options)
    stored = tifffile.imread(path).astype(float)
    assert stored.max() < 4096
    expected = np.rint(stored * (65535 / 4095))
    np.testing.assert_array_equal(whole(path), expected)


def test_jpeg_whose_tables_stand_apart_is_read_as_in_aperio(tmp_path, texture):
    """The tables are in a tag of their own; tiles hold none."""
    import io

    from PIL import Image

    def encoded(pixels: np.ndarray, streamtype: int) -> bytes:
        file = io.BytesIO()
        options = {"quality": 90, "subsampling": 0, "streamtype": streamtype}
        Image.fromarray(np.ascontiguousarray(pixels)).save(file, "jpeg", **options)
        return file.getvalue()

    tables = encoded(texture[:256, :256], 1)
    tiles = [encoded(texture[:256, x : x + 256], 2) for x in (0, 256)]
    assert all(b"\xff\xdb" not in tile for tile in tiles)
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path,
        iter(tiles),
        shape=(256, 512, 3),
        dtype=np.uint8,
        photometric="ycbcr",
        subsampling=(1, 1),
        compression="jpeg",
        tile=(256, 256),
        extratags=[(347, 7, len(tables), tables, True)],
        metadata=None,
    )
    pixels = whole(path)
    np.testing.assert_array_equal(pixels, tifffile.imread(path))
    assert np.abs(pixels.astype(int) - texture[:256, :512]).mean() < 2


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


HALF_RED_HALF_GREEN = base64.b64decode(
    "/0//UQAvAAAAAABAAAAAQAAAAAAAAAAAAAAAQAAAAEAAAAAAAAAAAAADBwEBBwIBBwIB/1IADAAAAAEA"
    "BQQEAAH/XAATQEBISFBISFBISFBISFBISFD/kAAKAAAAAADZAAH/k8fUCAj3zGXD5wQJH8fUBgHHf8D5"
    "AQAIFsD5AQAIb8faBgAIV2fB84cAFyxzgM2zv8B8IgAT8kqvx9oQABQN4yrmpoU/wfOKACFuDGRW1Wp7"
    "JJ/A+QKAF9jCouzH2hYAF9jCousX+8ERhUrB84sANfI/433LxkSUJB/A+QSAIhoS7oCWHEzBx9oiACIa"
    "Eu6AlhxMwkI6JsPwrnsPwfOMAF76xT//CCVIAADCP8D5AwA2nkHjcZfH2iQANp5B43GT8xgAAYSEpIyj"
    "CP9//9k="
)
"""64 x 64 px of JPEG 2000 in YCbCr, Cb and Cr at half the width, by OpenJPEG 2.5."""


@pytest.mark.parametrize("tiles", [1, 2])
def test_aperio_jpeg_2000_with_colours_at_half_the_width_becomes_rgb_once(
    tmp_path, tiles
):
    """As most such slides have it; imagecodecs makes RGB of these, and only these."""
    path = tmp_path / "a.svs"
    tifffile.imwrite(
        path,
        iter([HALF_RED_HALF_GREEN] * tiles),
        shape=(64, 64 * tiles, 3),
        dtype=np.uint8,
        photometric="rgb",
        compression=33003,
        tile=(64, 64),
        description="Aperio Image Library v12.0.0\n64x64|AppMag = 20|MPP = 0.5",
        metadata=None,
    )
    pixels = whole(path)
    assert np.abs(pixels[:, :32].astype(int) - (200, 40, 60)).max() <= 2
    assert np.abs(pixels[:, 32:64].astype(int) - (40, 180, 70)).max() <= 2
    reference = openslide.OpenSlide(path).read_region((0, 0), 0, (64 * tiles, 64))
    theirs = np.asarray(reference)[:, :, :3].astype(int)
    assert np.abs(pixels - theirs).max() <= 2


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


@pytest.mark.parametrize("left_out", [0, 1])
def test_jpeg_that_says_ycbcr_itself_is_believed_in_any_tile(tmp_path, left_out):
    """Bio-Formats states RGB in the tags and writes JFIF."""
    pixels = picture(256, 512)
    tiles = [
        imagecodecs.jpeg8_encode(np.ascontiguousarray(pixels[:, x : x + 256]))
        for x in (0, 256)
    ]
    assert b"JFIF" in tiles[0][:16]
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path,
        iter(tiles),
        shape=pixels.shape,
        dtype=np.uint8,
        photometric="ycbcr",
        subsampling=(1, 1),
        compression="jpeg",
        tile=(256, 256),
        metadata=None,
    )
    change_tag(path, "PhotometricInterpretation", 2)
    counts = [0 if n == left_out else len(tile) for n, tile in enumerate(tiles)]
    change_tag(path, "TileByteCounts", counts)
    kept = np.s_[:, 256:] if left_out == 0 else np.s_[:, :256]
    assert np.abs(whole(path)[kept].astype(int) - pixels[kept]).mean() < 2


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


@pytest.mark.parametrize("shape", [(256, 256, 3), (240, 240, 1), (7, 5, 4)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_memory_for_a_tile_lies_off_the_lines_that_pass_by_the_cache(shape, dtype):
    arrays = [empty_off_line(shape, np.dtype(dtype)) for _ in range(20)]
    assert all(array.ctypes.data % 32 == 16 for array in arrays)
    assert all(array.shape == shape and array.dtype == dtype for array in arrays)
    assert all(array.flags.c_contiguous and array.flags.writeable for array in arrays)
