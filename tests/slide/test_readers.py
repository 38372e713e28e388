"""Every reader gives the same pixels: one contract, three readers."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from napari_gimp.errors import SlideError
from napari_gimp.slide.flat import FlatSource
from napari_gimp.slide.openslide import OpenSlideSource
from napari_gimp.slide.source import SlideSource, open_slide
from napari_gimp.slide.tiff import TiffSource
from napari_gimp.slide.tiles import tile_cache

WINDOWS = [
    (0, 0, 700, 900),
    (0, 0, 128, 128),
    (100, 120, 30, 20),
    (127, 255, 2, 2),
    (371, 13, 257, 400),
    (699, 899, 1, 1),
    (5, 5, 0, 7),
]


class ReaderContract:
    """What `SlideSource` promises, for level 0 of one picture without losses."""

    @pytest.fixture
    def path(self, write: Callable[..., Path], texture: np.ndarray) -> Path:
        return write([texture], compression="deflate")

    @pytest.fixture
    def source(self, path: Path) -> Iterator[SlideSource]:
        with self.open(path) as slide:
            yield slide

    def open(self, path: Path) -> SlideSource:
        raise NotImplementedError

    @pytest.mark.parametrize("window", WINDOWS)
    def test_a_region_holds_the_true_pixels(self, source, texture, window):
        y, x, height, width = window
        region = source.read_region(0, y, x, height, width)
        np.testing.assert_array_equal(region, texture[y : y + height, x : x + width])

    def test_outside_the_slide_is_white(self, source, texture):
        region = source.read_region(0, -10, 880, 30, 50)
        np.testing.assert_array_equal(region[10:, :20], texture[:20, 880:])
        assert (region[:10] == 255).all()
        assert (region[:, 20:] == 255).all()

    @pytest.mark.parametrize("corner", [(-500, 0), (0, -500), (5000, 0), (0, 5000)])
    def test_a_region_beside_the_slide_is_all_white(self, source, corner):
        assert (source.read_region(0, *corner, 40, 40) == 255).all()

    def test_a_region_may_be_written_to_without_harm(self, source, texture):
        source.read_region(0, 0, 0, 128, 128)[:] = 0
        again = source.read_region(0, 0, 0, 128, 128)
        np.testing.assert_array_equal(again, texture[:128, :128])

    def test_threads_read_the_same_as_one(self, source, texture):
        def right(y: int) -> bool:
            region = source.read_region(0, y, 3, 90, 800)
            return bool((region == texture[y : y + 90, 3:803]).all())

        tile_cache().drop(source._token)
        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(right, [*range(0, 600, 7)] * 2))

    def test_a_tile_is_read_only(self, source):
        with pytest.raises(ValueError, match="read-only"):
            source.tile(0, 0, 0)[:] = 0

    def test_no_such_level_is_an_error(self, source):
        with pytest.raises(SlideError, match="has levels 0 to 0, not 3"):
            source.read_region(3, 0, 0, 1, 1)

    def test_a_negative_side_is_an_error(self, source):
        with pytest.raises(SlideError, match="-1 x 4 px"):
            source.read_region(0, 0, 0, -1, 4)

    def test_reading_after_close_is_an_error(self, path):
        slide = self.open(path)
        slide.read_region(0, 0, 0, 10, 10)
        slide.close()
        with pytest.raises(SlideError, match="is closed"):
            slide.read_region(0, 0, 0, 10, 10)

    def test_an_unknown_associated_image_is_an_error(self, source):
        with pytest.raises(SlideError, match="no image called 'label'"):
            source.read_associated("label")

    def test_a_copy_has_the_same_fingerprint_and_a_change_another(self, path, tmp_path):
        copy = shutil.copy(path, tmp_path / f"copy{path.suffix}")
        with self.open(path) as one, self.open(copy) as two:
            assert one.fingerprint == two.fingerprint
        with copy.open("ab") as file:
            file.write(b"\0")
        with self.open(copy) as changed:
            assert changed.fingerprint != one.fingerprint


class TestTiff(ReaderContract):
    def open(self, path: Path) -> SlideSource:
        return TiffSource(path)


class TestOpenSlide(ReaderContract):
    def open(self, path: Path) -> SlideSource:
        return OpenSlideSource(path)


class TestFlat(ReaderContract):
    @pytest.fixture
    def path(self, tmp_path: Path, texture: np.ndarray) -> Path:
        from PIL import Image

        Image.fromarray(texture).save(tmp_path / "a.png")
        return tmp_path / "a.png"

    def open(self, path: Path) -> SlideSource:
        return FlatSource(path)


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


def test_sixteen_bit_pictures_are_refused_rather_than_clipped(tmp_path):
    from PIL import Image

    Image.fromarray(np.full((20, 20), 3000, np.uint16)).save(tmp_path / "a.png")
    with pytest.raises(SlideError, match="is not a slide"):
        open_slide(tmp_path / "a.png")


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
