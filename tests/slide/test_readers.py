"""Every reader keeps one contract, for every format there is a writer for."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

import formats
from formats import Format
from napari_gimp.slide.source import open_slide
from reader_contract import ReaderContract
from reference_readers import by_openslide, by_tifffile, by_wsidicom
from slide_file import SlideFile


def reads(*files: Format) -> Callable[[type], type]:
    """Run a class of the contract with these formats."""
    named = [pytest.param(form, id=form.name) for form in files]
    mark: Any = pytest.mark.parametrize(
        "slide_file", named, indirect=True, scope="module"
    )
    return mark


@reads(*formats.TIFFS)
class TestTiff(ReaderContract):
    """SVS, OME-TIFF and generic TIFF, through `open_slide`."""


@reads(*formats.BY_OPENSLIDE, *formats.VENDORS)
class TestOpenSlide(ReaderContract):
    """What OpenSlide reads: the vendors' files, and TIFF for comparison."""


@reads(*formats.PICTURES)
class TestPicture(ReaderContract):
    """PNG, JPEG and TIFF in strips."""


@reads(*formats.DICOM)
class TestDicom(ReaderContract):
    """DICOM folders, and one file of such a folder."""


@reads(*formats.ZARR)
class TestOmeZarr(ReaderContract):
    """OME-Zarr 0.4 and 0.5."""


SVS = ("thumbnail", "label", "macro")
REAL = {
    "CMU-1-Small-Region.svs": (by_openslide, "tifffile", 0.499, SVS),
    "CMU-1-Small-Region.jpeg.tiff": (by_openslide, "tifffile", None, ()),
    "OS-1-detail.ome.tif": (by_tifffile, "tifffile", 0.2271, ()),
    "her2st-C2.tif": (by_tifffile, "tifffile", 0.69, ()),
    "boxes.tiff": (by_tifffile, "tifffile", None, ()),
    "small.svs": (by_tifffile, "tifffile", 0.499, ("thumbnail",)),
    "CMU-1-dicom": (by_wsidicom, "wsidicom", 0.499, ("label", "macro", "thumbnail")),
}
"""Library that reads it, our reader's name, um/px, further images."""


@pytest.mark.real_data
@pytest.mark.parametrize("slide_file", REAL, indirect=True, scope="module")
class TestRealSlides(ReaderContract):
    """The slides beside the checkout."""

    @pytest.fixture(scope="module")
    def slide_file(self, request, shared_data) -> SlideFile:
        path = shared_data / "slides" / request.param
        read, reader, mpp, associated = REAL[request.param]
        return SlideFile(
            path=path,
            open=open_slide,
            reader=reader,
            read=partial(read, path),
            mpp=mpp,
            alone=True,
            associated=associated,
        )


def test_the_fast_reader_is_taken_for_tiles_and_pillow_for_pictures(
    write, texture, tmp_path
):
    from PIL import Image

    Image.fromarray(texture).save(tmp_path / "a.jpg", quality=95)
    with open_slide(write([texture])) as tiled, open_slide(tmp_path / "a.jpg") as flat:
        assert (tiled.reader, flat.reader) == ("tifffile", "pillow")


def test_a_tiff_in_strips_is_read_as_a_picture(write, texture):
    path = write([texture], tile=None, compression="lzw")
    with open_slide(path) as slide:
        np.testing.assert_array_equal(
            slide.read_region(0, 9, 9, 99, 99), texture[9:108, 9:108]
        )


def test_transparent_pixels_of_a_picture_are_white(tmp_path):
    from PIL import Image

    pixels = np.zeros((40, 50, 4), np.uint8)
    pixels[:, 25:, 3] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    with open_slide(tmp_path / "a.png") as slide:
        region = slide.read_region(0, 0, 0, 40, 50)
    assert (region[:, :25] == 255).all()
    assert (region[:, 25:] == 0).all()


def test_only_tiles_that_a_region_cuts_are_kept(write, texture):
    with open_slide(write([texture])) as slide:
        slide.read_region(0, 128, 128, 256, 256)
        assert slide.cached_tile(0, 1, 1) is None
        slide.read_region(0, 100, 128, 156, 128)
        assert slide.cached_tile(0, 0, 1) is not None
        assert slide.cached_tile(0, 1, 1) is None


def test_a_kept_tile_serves_whole_reads_without_being_handed_out(write, texture):
    with open_slide(write([texture])) as slide:
        slide.tile(0, 0, 0)
        slide.read_region(0, 0, 0, 128, 128)[:] = 0
        np.testing.assert_array_equal(slide.tile(0, 0, 0), texture[:128, :128])
