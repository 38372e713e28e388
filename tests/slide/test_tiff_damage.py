"""TIFFs that cannot be true: a clear error at opening, or marked tiles."""

from __future__ import annotations

import errno
import logging
import os
import time

import imagecodecs
import numpy as np
import psutil
import pytest
import tifffile

import tiff_files
from napari_gimp.errors import SlideError
from napari_gimp.slide import tiff_bytes
from napari_gimp.slide.flat import FlatSource
from napari_gimp.slide.source import open_slide
from napari_gimp.slide.tiff import TiffSource
from tiff_files import change_tag, halved, picture


@pytest.fixture
def path(tmp_path):
    """A pyramid of two levels, 3 x 4 tiles in the finest."""
    levels = halved(picture(), 2)
    return tiff_files.write_tiled(tmp_path / "a.tif", levels, compression="deflate")


def change_numbers(path, tag: int, value: int, *, index: int = 0) -> None:
    """Overwrite one number of a tag of the first page, whatever it holds."""
    with tifffile.TiffFile(path) as tiff:
        found = tiff.pages[0].tags[tag]
        size = {3: 2, 4: 4, 16: 8}[int(found.dtype)]
        at = found.valueoffset + index * size
    with path.open("r+b") as file:
        file.seek(at)
        file.write(value.to_bytes(size, "little"))


@pytest.mark.parametrize(
    ("tag", "value", "said"),
    [
        (256, 60_000, "need 1,407 tiles or strips, but it lists 12"),
        (257, 60_000, "need 1,876 tiles or strips, but it lists 12"),
        (256, 0, "is damaged|no readable TIFF|without images"),
        (322, 0, "is damaged|no readable TIFF|in strips"),
        (323, 0, "is damaged|no readable TIFF|in strips"),
        (259, 60_001, "compressed by method 60001"),
        (259, 34_661, r"compressed with JBIG \(34661\), which cannot be decoded"),
        (262, 60_001, "stores colours as"),
        (277, 60_001, "is damaged|no readable TIFF|stores|lists|bits|tiles of"),
        (258, 61, "bits"),
    ],
)
def test_a_tag_that_cannot_be_true_is_refused_at_once(path, tag, value, said):
    change_numbers(path, tag, value)
    start = time.perf_counter()
    with pytest.raises(SlideError, match=said):
        TiffSource(path)
    assert time.perf_counter() - start < 5


def test_a_side_of_two_thousand_million_px_is_refused_without_taking_memory(tmp_path):
    wide = np.zeros((128, 70_000, 3), np.uint8)  # so wide that its tag has 32 bits
    path = tiff_files.write_tiled(tmp_path / "a.tif", [wide], compression="deflate")
    change_numbers(path, 256, 2**31 - 1)
    with pytest.raises(SlideError, match="2,147,483,647 px need 16,777,216 tiles"):
        TiffSource(path)


def test_a_tile_as_large_as_a_slide_is_refused(tmp_path):
    tile = (10_016, 10_016)
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path,
        iter([b"\0"]),
        shape=(100, 100, 3),
        dtype=np.uint8,
        photometric="rgb",
        tile=tile,
        compression="deflate",
        metadata=None,
    )
    with pytest.raises(SlideError, match=r"tiles of 10,016 x 10,016 px \(301 MB\)"):
        TiffSource(path)


def test_a_tile_size_that_its_bytes_do_not_fill_marks_the_level(path):
    change_numbers(path, 322, 65_520)
    with TiffSource(path) as slide:
        assert (slide.read_region(0, 0, 0, 300, 420) == 255).all()
        assert len(slide.damage) == 3
        level = halved(picture(), 2)[1]
        np.testing.assert_array_equal(slide.read_region(1, 0, 0, 150, 210), level)


def test_a_coarse_level_that_cannot_be_true_is_left_out(path):
    with tifffile.TiffFile(path) as tiff:
        at = tiff.pages[1].tags[322].valueoffset
    with path.open("r+b") as file:
        file.seek(at)
        file.write((16).to_bytes(2, "little"))  # then 4 tiles are too few
    with TiffSource(path) as slide:
        assert len(slide.levels) == 1
        np.testing.assert_array_equal(slide.read_region(0, 0, 0, 300, 420), picture())


@pytest.mark.parametrize(
    ("tag", "value"), [(324, 0x7FFFFFF0), (325, 0x7FFFFFF0), (325, 3), (324, 8)]
)
def test_a_tile_whose_bytes_lie_elsewhere_is_marked(path, tag, value):
    change_numbers(path, tag, value, index=5)
    with TiffSource(path) as slide:
        pixels = slide.read_region(0, 0, 0, 300, 420)
        assert slide.damage.places == ((0, 1, 1),)
    expected = picture()
    expected[128:256, 128:256] = 255
    np.testing.assert_array_equal(pixels, expected)


@pytest.mark.parametrize("levels", [1, 2])
def test_a_file_cut_off_opens_with_the_tiles_it_has(tmp_path, levels):
    path = tiff_files.write_tiled(
        tmp_path / "a.tif", halved(picture(), levels), compression="deflate"
    )
    with tifffile.TiffFile(path) as tiff:
        cut = tiff.pages[0].dataoffsets[8]
    path.write_bytes(path.read_bytes()[:cut])
    with TiffSource(path) as slide:
        pixels = slide.read_region(0, 0, 0, 256, 420)
        assert len(slide.damage) == 0
        slide.read_region(0, 256, 0, 44, 420)
        assert len(slide.damage) == 4
    np.testing.assert_array_equal(pixels, picture()[:256])


def test_jpeg_tiles_that_end_at_the_edge_of_the_image_are_read(tmp_path):
    """Some writers store only what lies in the image."""
    pixels = picture(200, 300)
    tiles = [
        imagecodecs.jpeg8_encode(np.ascontiguousarray(pixels[y : y + 128, x : x + 128]))
        for y in (0, 128)
        for x in (0, 128, 256)
    ]
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path,
        iter(tiles),
        shape=(200, 300, 3),
        dtype=np.uint8,
        photometric="ycbcr",
        compression="jpeg",
        tile=(128, 128),
        metadata=None,
    )
    with TiffSource(path) as slide:
        region = slide.read_region(0, 0, 0, 200, 300)
        assert len(slide.damage) == 0
    np.testing.assert_array_equal(region, tifffile.imread(path))


@pytest.mark.parametrize("size", [(64, 128), (256, 256), (128, 120)])
def test_a_jpeg_tile_of_another_size_is_marked(tmp_path, size):
    pixels = picture(128, 384)
    right = imagecodecs.jpeg8_encode(np.ascontiguousarray(pixels[:, :128]))
    wrong = imagecodecs.jpeg8_encode(np.zeros((*size, 3), np.uint8))
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path,
        iter([right, right, wrong]),
        shape=(128, 384, 3),
        dtype=np.uint8,
        photometric="ycbcr",
        compression="jpeg",
        tile=(128, 128),
        metadata=None,
    )
    with TiffSource(path) as slide:
        region = slide.read_region(0, 0, 0, 128, 384)
        assert slide.damage.places == ((0, 0, 2),)
        assert "level 0, row 0, column 2" in slide.damage.report
    np.testing.assert_array_equal(region[:, :128], imagecodecs.jpeg8_decode(right))
    assert (region[:, 256:] == 255).all()


def test_a_file_that_becomes_shorter_is_an_error_not_damage(path):
    with TiffSource(path) as slide:
        with path.open("r+b") as file:
            file.truncate(1500)
        with pytest.raises(SlideError, match="has become shorter since it was opened"):
            slide.read_region(0, 0, 0, 300, 420)
        assert len(slide.damage) == 0


@pytest.mark.skipif(not hasattr(os, "pread"), reason="Windows reads otherwise")
def test_a_drive_that_is_gone_is_an_error_not_damage(path, monkeypatch):
    def gone(*args: object) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    with TiffSource(path) as slide:
        monkeypatch.setattr(tiff_bytes.os, "pread", gone)
        with pytest.raises(SlideError, match=r"no longer be read.*drive"):
            slide.read_region(0, 0, 0, 300, 420)
        assert len(slide.damage) == 0


def test_a_damaged_label_is_an_error_only_when_asked_for(tmp_path):
    path = tiff_files.write_aperio(
        tmp_path / "a.svs", [picture()], extra=[("label", picture(64, 64))]
    )
    with tifffile.TiffFile(path) as tiff:
        label = len(tiff.pages) - 1
    change_tag(path, "StripOffsets", [2**31 - 1] * 4, page=label)
    with TiffSource(path) as slide:
        np.testing.assert_array_equal(slide.read_region(0, 0, 0, 300, 420), picture())
        with pytest.raises(SlideError, match="label"):
            slide.read_associated("label")


def test_an_ome_xml_with_absurd_numbers_is_refused(tmp_path):
    path = tiff_files.write_ome_multichannel(
        tmp_path / "a.ome.tif", [picture(channels=2, dtype=np.uint16)]
    )
    stored = path.read_bytes()
    for old, new in ((b'PlaneCount="2"', b'PlaneCount="9999999999999"'),):
        assert old in stored
        xml = stored.replace(old, new)
        padding = len(new) - len(old)
        at = xml.index(b"xmlns:xsi")
        path.write_bytes(xml[:at] + xml[at + padding :])
    with pytest.raises(SlideError, match="PlaneCount=9999999999999, which no slide"):
        TiffSource(path)


def test_nothing_is_logged_of_what_the_error_says(path, caplog):
    change_numbers(path, 259, 60_001)
    with caplog.at_level(logging.DEBUG, "tifffile"), pytest.raises(SlideError):
        TiffSource(path)
    assert [r for r in caplog.records if r.name == "tifffile"] == []


def test_a_refused_file_is_not_left_open(path):
    def descriptors() -> int:
        return psutil.Process().num_fds()

    change_numbers(path, 259, 60_001)
    before = descriptors()
    for reader in (TiffSource, FlatSource):
        with pytest.raises(SlideError):
            reader(path)
    assert descriptors() == before


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "shape", "levels"),
    [
        ("CMU-1-Small-Region.svs", (2967, 2220), 1),
        ("CMU-1-Small-Region.jpeg.tiff", (2967, 2220), 1),
        ("her2st-C2.tif", (9911, 9274), 7),
        ("OS-1-detail.ome.tif", (1101, 1101), 1),
        ("boxes.tiff", (250, 300), 4),
        ("small.svs", (16, 16), 1),
    ],
)
def test_real_files_are_read_as_tifffile_reads_them(shared_data, name, shape, levels):
    path = shared_data / "slides" / name
    with open_slide(path) as slide:
        assert (slide.reader, slide.rgb) == ("tifffile", True)
        assert (slide.levels[0].shape, len(slide.levels)) == (shape, levels)
        last = levels - 1
        pixels = slide.read_region(last, 0, 0, *slide.levels[last].shape)
        assert len(slide.damage) == 0
    np.testing.assert_array_equal(pixels, tifffile.imread(path, level=last))
