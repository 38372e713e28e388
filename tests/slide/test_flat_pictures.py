"""Plain pictures: PNG, JPEG, TIFF in strips, as deep and with as many channels."""

from __future__ import annotations

import subprocess
import sys
import threading

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

import tiff_files
from napari_gimp.errors import SlideError
from napari_gimp.slide import flat
from napari_gimp.slide.flat import FlatSource
from napari_gimp.slide.source import open_slide
from napari_gimp.slide.tiff_strips import StripPicture
from tiff_files import picture

LAYOUTS = {
    "rows": {"rowsperstrip": 1},
    "16 rows": {"rowsperstrip": 16},
    "one strip": {"rowsperstrip": 2000},
}
CODECS = {
    "none": {},
    "lzw": {"compression": "lzw"},
    "deflate with differences": {"compression": "deflate", "predictor": True},
    "zstd": {"compression": "zstd"},
}
KINDS = {
    "colour": (3, np.uint8),
    "grey": (1, np.uint8),
    "grey of 16 bits": (1, np.uint16),
    "colour of 16 bits": (3, np.uint16),
    "floating point": (1, np.float32),
}


def whole(path) -> np.ndarray:
    with open_slide(path) as slide:
        pixels = slide.read_region(0, 0, 0, *slide.levels[0].shape)
        assert (pixels.shape[2], pixels.dtype) == (slide.channels, slide.dtype)
        assert len(slide.damage) == 0
        return pixels


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_strips_come_back_as_written(tmp_path, layout, codec, kind):
    channels, dtype = KINDS[kind]
    pixels = picture(1100, 700, channels, dtype)
    options = LAYOUTS[layout] | CODECS[codec]
    path = tiff_files.write_tiled(tmp_path / "a.tif", [pixels], tile=None, **options)
    with open_slide(path) as slide:
        assert (slide.reader, slide.rgb) == ("tifffile", channels == 3)
        assert len(slide.levels) == 1
        assert slide.mpp == pytest.approx((0.5, 0.5))
    np.testing.assert_array_equal(whole(path), pixels)


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("bigtiff", [False, True])
def test_strips_of_any_byte_order_come_back_as_written(tmp_path, byteorder, bigtiff):
    pixels = picture(600, 300, 1, np.uint16)
    path = tiff_files.write_tiled(
        tmp_path / "a.tif", [pixels], tile=None, byteorder=byteorder, bigtiff=bigtiff
    )
    np.testing.assert_array_equal(whole(path), pixels)


@pytest.mark.parametrize("subsampling", [(1, 1), (2, 2)])
def test_strips_of_jpeg_are_read_as_tifffile_reads_them(tmp_path, subsampling):
    path = tiff_files.write_tiled(
        tmp_path / "a.tif",
        [picture(601, 333)],
        tile=None,
        rowsperstrip=64,
        compression="jpeg",
        subsampling=subsampling,
    )
    np.testing.assert_array_equal(whole(path), tifffile.imread(path))


def test_planes_of_strips_stored_apart_come_back_as_colour(tmp_path):
    pixels = picture(600, 300)
    path = tiff_files.write_planar(
        tmp_path / "a.tif", [pixels], tile=None, compression="lzw", rowsperstrip=32
    )
    np.testing.assert_array_equal(whole(path), pixels)


def test_transparent_strips_lie_on_white(tmp_path):
    pixels = picture(channels=4)
    path = tiff_files.write_rgba(tmp_path / "a.tif", [pixels], tile=None)
    share = pixels[:, :, 3:] / 255.0
    expected = np.rint(pixels[:, :, :3] * share + 255 * (1 - share))
    np.testing.assert_array_equal(whole(path), expected)


def test_channels_as_imagej_writes_them_keep_their_names(tmp_path):
    pixels = picture(channels=4, dtype=np.uint16)
    path = tiff_files.write_imagej(tmp_path / "a.tif", pixels)
    np.testing.assert_array_equal(whole(path), pixels)
    with open_slide(path) as slide:
        assert slide.channel_names == tuple(f"channel {n}" for n in range(4))
        assert (slide.rgb, slide.mpp) == (False, (0.5, 0.5))


def test_channels_that_have_only_one_page_in_imagej_are_all_read(tmp_path):
    """Above 4 GB ImageJ writes all planes behind the first page."""
    pixels = picture(channels=3, dtype=np.uint16)
    planes = np.ascontiguousarray(np.moveaxis(pixels, 2, 0))
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path,
        planes[0].astype(">u2"),
        byteorder=">",
        photometric="minisblack",
        metadata=None,
        description="ImageJ=1.53t\nimages=3\nchannels=3\nhyperstack=true\n",
    )
    with tifffile.TiffFile(path) as tiff:
        end = tiff.pages[0].dataoffsets[0] + tiff.pages[0].nbytes
    stored = path.read_bytes()[:end]
    path.write_bytes(stored + planes[1:].astype(">u2").tobytes())
    np.testing.assert_array_equal(whole(path), pixels)


def test_channels_of_an_ome_tiff_in_strips_are_read(tmp_path):
    pixels = picture(channels=2, dtype=np.uint16)
    path = tiff_files.write_ome_multichannel(
        tmp_path / "a.ome.tif", [pixels], names=["DAPI", "CD8"], tile=None
    )
    np.testing.assert_array_equal(whole(path), pixels)
    with open_slide(path) as slide:
        assert slide.channel_names == ("DAPI", "CD8")


@pytest.mark.parametrize("bits", [1, 4])
def test_strips_of_few_bits_are_spread_over_eight(tmp_path, bits):
    values = np.random.default_rng(1).integers(0, 1 << bits, (90, 77), np.uint8)
    path = tmp_path / "a.tif"
    stored = values.astype(bool) if bits == 1 else values
    tifffile.imwrite(path, stored, bitspersample=bits, photometric="minisblack")
    np.testing.assert_array_equal(whole(path)[:, :, 0], values * (255 // (2**bits - 1)))


@pytest.mark.parametrize("compression", ["group4", "group3", "tiff_ccitt"])
def test_a_fax_is_black_on_white(tmp_path, compression):
    black = np.random.default_rng(1).random((90, 80)) < 0.1
    path = tmp_path / "a.tif"
    Image.fromarray(~black).save(path, compression=compression)
    np.testing.assert_array_equal(whole(path)[:, :, 0], np.where(black, 0, 255))


def test_a_picture_that_tifffile_cannot_read_is_read_by_pillow(tmp_path):
    inks = Image.fromarray(picture(channels=4), "CMYK")
    inks.save(tmp_path / "a.tif", compression="jpeg")
    with open_slide(tmp_path / "a.tif") as slide:
        assert slide.reader == "pillow"
        region = slide.read_region(0, 0, 0, 300, 420)
    expected = np.asarray(Image.open(tmp_path / "a.tif").convert("RGB"))
    np.testing.assert_array_equal(region, expected)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_png_comes_back_as_written(tmp_path, channels, dtype):
    pixels = picture(channels=channels, dtype=dtype)
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(pixels))
    with open_slide(tmp_path / "a.png") as slide:
        assert (slide.rgb, slide.fill) == (
            channels == 3,
            _white(dtype) * (channels > 1),
        )
    np.testing.assert_array_equal(whole(tmp_path / "a.png"), pixels)


@pytest.mark.parametrize("channels", [2, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_transparent_png_lies_on_white(tmp_path, channels, dtype):
    pixels = picture(channels=channels, dtype=dtype)
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(pixels))
    share = pixels[:, :, -1:] / _white(dtype)
    expected = np.rint(pixels[:, :, :-1] * share + _white(dtype) * (1 - share))
    np.testing.assert_array_equal(whole(tmp_path / "a.png"), expected)


def _white(dtype) -> int:
    return int(np.iinfo(dtype).max)


def test_a_png_with_a_palette_is_colour_and_its_holes_are_white(tmp_path):
    image = Image.fromarray(picture()).quantize(16)
    expected = np.array(image.convert("RGB"))
    expected[np.asarray(image) == 3] = 255
    image.save(tmp_path / "a.png", transparency=3)
    np.testing.assert_array_equal(whole(tmp_path / "a.png"), expected)


def test_a_grey_jpeg_is_one_channel(tmp_path):
    Image.fromarray(picture(channels=1)[:, :, 0]).save(tmp_path / "a.jpg")
    expected = np.asarray(Image.open(tmp_path / "a.jpg"))
    np.testing.assert_array_equal(whole(tmp_path / "a.jpg")[:, :, 0], expected)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif"])
def test_the_colour_profile_is_the_pictures(tmp_path, name):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(picture()).save(tmp_path / name, icc_profile=profile)
    with open_slide(tmp_path / name) as slide:
        assert slide.icc == profile
    Image.fromarray(picture()).save(tmp_path / name)
    with open_slide(tmp_path / name) as slide:
        assert slide.icc is None


def test_bands_are_decoded_once_for_all_tiles_on_them(tmp_path, monkeypatch):
    pixels = picture(1500, 1300)
    path = tiff_files.write_tiled(
        tmp_path / "a.tif", [pixels], tile=None, rowsperstrip=100, compression="lzw"
    )
    decoded: list[tuple[int, int]] = []
    decode = StripPicture.decode
    monkeypatch.setattr(
        StripPicture,
        "decode",
        lambda self, y0, y1: decoded.append((y0, y1)) or decode(self, y0, y1),
    )
    with FlatSource(path) as slide:
        np.testing.assert_array_equal(slide.read_region(0, 0, 0, 1500, 1300), pixels)
    assert sorted(decoded) == [(0, 500), (500, 1000), (1000, 1500)]


def test_only_bands_within_the_budget_are_kept(tmp_path, monkeypatch):
    pixels = picture(1500, 700)
    path = tiff_files.write_tiled(
        tmp_path / "a.tif", [pixels], tile=None, rowsperstrip=64, compression="lzw"
    )
    monkeypatch.setattr(flat, "KEPT_BYTES", 2 * 512 * 700 * 3)
    with FlatSource(path) as slide:
        np.testing.assert_array_equal(slide.read_region(0, 0, 0, 1500, 700), pixels)
        assert slide._bands.used_bytes <= flat.KEPT_BYTES


def test_threads_read_the_same_as_one(tmp_path):
    pixels = picture(1500, 1300)
    path = tiff_files.write_tiled(
        tmp_path / "a.tif", [pixels], tile=None, rowsperstrip=7, compression="zstd"
    )
    wrong: list[int] = []

    def read(y: int) -> None:
        region = slide.read_region(0, y, 200, 300, 900)
        if not (region == pixels[y : y + 300, 200:1100]).all():
            wrong.append(y)

    with FlatSource(path) as slide:
        threads = [threading.Thread(target=read, args=(y,)) for y in range(0, 1200, 97)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_a_picture_that_takes_too_much_memory_at_once_says_how_to_convert(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path,
        iter([b"\0"]),
        shape=(30_000, 20_000, 3),
        dtype=np.uint8,
        photometric="rgb",
        rowsperstrip=30_000,
        compression="deflate",
        metadata=None,
    )
    with pytest.raises(SlideError, match=r"1\.8 GB must be decoded at once.*vips"):
        FlatSource(path)


def test_a_large_picture_that_is_not_compressed_is_read_from_any_place(tmp_path):
    """40,000 x 40,000 px that take no room on the disk: a file with a hole."""
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path,
        shape=(40_000, 40_000, 3),
        dtype=np.uint8,
        photometric="rgb",
        bigtiff=True,
        rowsperstrip=40_000,
        metadata=None,
    )
    with tifffile.TiffFile(path) as tiff:
        start = tiff.pages[0].dataoffsets[0]
    mark = bytes(range(1, 61))
    with path.open("r+b") as file:
        file.seek(start + (30_000 * 40_000 + 20_000) * 3)
        file.write(mark)
    with FlatSource(path) as slide:
        region = slide.read_region(0, 29_999, 20_000, 3, 20)
    assert region[1].tobytes() == mark
    assert (region[[0, 2]] == 0).all()


def test_damaged_strips_are_marked_and_the_others_read(tmp_path):
    pixels = picture(1200, 600)
    path = tiff_files.write_tiled(
        tmp_path / "a.tif", [pixels], tile=None, rowsperstrip=128, compression="zstd"
    )
    tiff_files.spoil(path, 0, 0)
    with FlatSource(path) as slide:
        region = slide.read_region(0, 0, 0, 1200, 600)
        assert slide.damage.places == ((0, 0, 0), (0, 0, 1))
    assert (region[:512] == 255).all()
    np.testing.assert_array_equal(region[512:], pixels[512:])


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_a_picture_cut_off_is_refused(tmp_path, name):
    noise = np.random.default_rng(1).integers(0, 256, (300, 400, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / name)
    stored = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(stored[: len(stored) // 2])
    with pytest.raises(SlideError, match="is damaged: its rows 0 to 300"):
        FlatSource(tmp_path / name)


def test_a_picture_whose_drive_is_gone_is_an_error_not_damage(tmp_path, monkeypatch):
    monkeypatch.setattr(flat, "DECODED_AT_ONCE", 0)
    path = tmp_path / "a.png"
    Image.fromarray(picture()).save(path)
    with FlatSource(path) as slide:
        path.rename(tmp_path / "gone.png")
        with pytest.raises(SlideError, match="can no longer be read"):
            slide.read_region(0, 0, 0, 10, 10)
        assert len(slide.damage) == 0


def test_a_picture_that_is_a_program_is_not_run(tmp_path):
    path = tmp_path / "a.eps"
    path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n")
    with pytest.raises(SlideError, match="is no picture"):
        FlatSource(path)


def test_pillow_is_asked_for_formats_that_it_has_not_loaded(tmp_path):
    """In a new process, where nothing else has made it load them all."""
    Image.fromarray(picture()).save(tmp_path / "a.webp", lossless=True)
    program = (
        "import sys; from pathlib import Path;"
        "from napari_gimp.slide.flat import FlatSource;"
        "print(FlatSource(Path(sys.argv[1])).read_region(0, 0, 0, 300, 420).sum())"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "a.webp")]
    printed = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(printed.stdout) == picture().sum()


def test_tiles_of_ink_in_jpeg_are_left_to_others(tmp_path):
    """Adobe stores ink in JPEG the other way round; Pillow knows when."""
    inks = picture(256, 384, channels=4)
    path = tiff_files.write_tiled(
        tmp_path / "a.tif", [inks], photometric="separated", compression="jpeg"
    )
    with open_slide(path) as slide:
        assert slide.reader in ("openslide", "pillow")
        assert "SEPARATED" in slide.refused[0]
        region = slide.read_region(0, 0, 0, 256, 384).astype(int)
    expected = np.asarray(Image.fromarray(inks, "CMYK").convert("RGB"))
    assert np.abs(region - expected).mean() < 4
