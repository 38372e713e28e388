"""What every reader promises, as one test class that each of them inherits.

A test of it compares with `SlideFile.truth`: what the library behind the reader reads
by itself, whole level by whole level.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from napari_gimp.errors import SlideError
from napari_gimp.slide.describe import describe
from napari_gimp.slide.pyramid import Pyramid
from napari_gimp.slide.resolution import from_user
from napari_gimp.slide.source import SlideSource
from napari_gimp.slide.tiles import tile_cache
from slide_file import (
    MAX_TILE_PX,
    SlideFile,
    Window,
    assert_equal,
    bands,
    beside,
    change,
    coarsest_of,
    copied,
    expected,
    open_files,
    over_the_edges,
    rectangles,
    tiles_of,
    windows,
)


class ReaderContract:
    """What `SlideSource` promises; a subclass is parametrised with its files."""

    @pytest.fixture(scope="module")
    def source(self, slide_file: SlideFile) -> Iterator[SlideSource]:
        with slide_file.open(slide_file.path) as slide:
            yield slide

    @pytest.fixture
    def another(self, slide_file: SlideFile) -> Iterator[SlideSource]:
        """Open the slide for one test, to be closed by it if it likes."""
        with slide_file.open(slide_file.path) as slide:
            yield slide

    def test_it_says_who_reads_it(self, slide_file, source):
        assert source.reader == slide_file.reader
        assert source.path == slide_file.path
        assert all(isinstance(reason, str) for reason in source.refused)

    def test_levels_go_from_fine_to_coarse_by_exact_factors(self, slide_file, source):
        shapes = [level.shape for level in source.levels]
        assert shapes == sorted(shapes, reverse=True)
        assert len(set(shapes)) == len(shapes)
        assert source.levels[0].downsample == (1.0, 1.0)
        found = [level.downsample for level in source.levels]
        if slide_file.padded:
            assert {(f, f) for f in slide_file.written} <= set(found)
        elif slide_file.written:
            assert found == [(f, f) for f in slide_file.written]

    def test_shapes_are_those_the_library_reads(self, slide_file, source):
        for number, level in enumerate(source.levels):
            assert level.shape == slide_file.truth(number).shape[:2]

    def test_tiles_are_positive_and_bounded(self, source):
        for level in source.levels:
            height, width = level.tile
            assert height > 0
            assert width > 0
            assert height * width <= MAX_TILE_PX

    def test_pixels_are_of_the_kind_it_states(self, slide_file, source):
        truth = slide_file.truth(0)
        assert source.dtype == truth.dtype
        assert source.dtype.isnative
        assert source.channels == truth.shape[2]
        assert source.rgb == slide_file.rgb
        for words in (source.channel_names, source.channel_colors):
            assert len(words) in (0, source.channels)

    def test_every_level_holds_what_the_library_reads(self, slide_file, source):
        for number, level in enumerate(source.levels):
            truth = slide_file.truth(number)
            for y, x, height, width in windows(level.shape):
                found = source.read_region(number, y, x, height, width)
                assert_equal(
                    found, truth[y : y + height, x : x + width], slide_file.apart
                )

    def test_every_level_holds_what_was_written(self, slide_file, source):
        if not slide_file.written:
            pytest.skip("nobody knows what this file was made from")
        factors = [level.downsample[0] for level in source.levels]
        for factor, wanted in slide_file.written.items():
            left = round(slide_file.left / factor)
            number = factors.index(factor)
            found = source.read_region(number, 0, left, *wanted.shape[:2])
            assert found.shape == wanted.shape
            off = np.abs(found.astype(np.int64) - wanted.astype(np.int64)).mean()
            assert off <= slide_file.loss

    def test_every_tile_holds_its_part_of_the_level(self, slide_file, source):
        for number in range(len(source.levels)):
            truth, apart = slide_file.truth(number), slide_file.apart
            for row, col, (y, x, height, width) in list(tiles_of(source, number))[:200]:
                tile = source.tile(number, row, col)
                assert_equal(tile, truth[y : y + height, x : x + width], apart)

    def test_a_tile_is_read_only(self, source):
        for number in range(len(source.levels)):
            with pytest.raises(ValueError, match="read-only"):
                source.tile(number, 0, 0)[:] = 0

    def test_a_tile_is_cached_once_it_was_asked_for(self, source):
        tile_cache().clear()
        assert source.cached_tile(0, 0, 0) is None
        tile = source.tile(0, 0, 0)
        kept = source.cached_tile(0, 0, 0)
        assert kept is not None
        np.testing.assert_array_equal(kept, tile)

    def test_a_region_may_be_written_to_without_harm(self, slide_file, source):
        tile = source.levels[0].tile
        for window in ((0, 0, *tile), (3, 5, 60, 70), (-4, -4, 30, 30)):
            source.read_region(0, *window)[:] = 7
            again = source.read_region(0, *window)
            wanted = expected(slide_file.truth(0), window, source.fill)
            assert_equal(again, wanted, slide_file.apart)

    def test_outside_the_slide_is_fill(self, slide_file, source):
        top = np.iinfo(source.dtype).max if source.dtype.kind in "iu" else 1
        assert source.fill == (top if source.rgb else 0)
        for number, level in enumerate(source.levels):
            truth = slide_file.truth(number)
            for window in over_the_edges(level.shape) + beside(level.shape):
                wanted = expected(truth, window, source.fill)
                found = source.read_region(number, *window)
                assert_equal(found, wanted, slide_file.apart)

    @pytest.mark.parametrize("shape", [(0, 0), (0, 9), (9, 0)])
    def test_an_empty_region_is_an_empty_array(self, source, shape):
        for number, level in enumerate(source.levels):
            for y, x in ((0, 0), (5, 7), (-3, -3), level.shape):
                region = source.read_region(number, y, x, *shape)
                assert region.shape == (*shape, source.channels)
                assert region.dtype == source.dtype

    def test_any_rectangle_holds_the_true_pixels(self, slide_file, source):
        shapes = [level.shape for level in source.levels]

        @settings(
            derandomize=True,
            max_examples=40,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(rectangles(shapes))
        def check(drawn: tuple[int, Window]) -> None:
            level, window = drawn
            wanted = expected(slide_file.truth(level), window, source.fill)
            found = source.read_region(level, *window)
            assert_equal(found, wanted, slide_file.apart)

        check()

    def test_whole_numbers_of_numpy_are_numbers(self, slide_file, source):
        y, x, height, width = (np.int64(n) for n in (2, 3, 20, 30))
        found = source.read_region(np.int64(0), y, x, height, width)
        assert_equal(
            found,
            expected(slide_file.truth(0), (2, 3, 20, 30), source.fill),
            slide_file.apart,
        )

    def test_threads_with_a_cold_cache_read_the_same_as_one(self, slide_file, source):
        if not source.thread_safe:
            pytest.skip(f"{source.reader} says that it is not thread-safe")
        jobs = [
            (number, window)
            for number, level in enumerate(source.levels)
            for window in (*over_the_edges(level.shape), *bands(level.shape))
        ]

        def is_right(job: tuple[int, Window]) -> bool:
            number, window = job
            wanted = expected(slide_file.truth(number), window, source.fill)
            found = source.read_region(number, *window).astype(int)
            return bool(np.abs(found - wanted).max(initial=0) <= slide_file.apart)

        tile_cache().clear()
        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(is_right, jobs * 2))

    def test_the_resolution_is_what_the_file_says(self, slide_file, source):
        if slide_file.mpp is None:
            assert not source.resolution.verified
            return
        assert source.resolution.verified
        assert source.mpp == pytest.approx((slide_file.mpp, slide_file.mpp), rel=1e-3)

    def test_it_can_be_described(self, source):
        assert describe(source).reader == source.reader
        assert all(isinstance(value, str) for value in source.properties.values())

    def test_no_tile_of_a_sound_file_counts_as_damaged(self, slide_file, source):
        for number in range(len(source.levels)):
            source.tile(number, 0, 0)
        assert (len(source.damage), source.damage.report) == (0, "")

    @pytest.mark.parametrize("level", [-1, 99])
    def test_no_such_level_is_an_error(self, source, level):
        last = len(source.levels) - 1
        with pytest.raises(SlideError, match=f"levels 0 to {last}, not {level}"):
            source.read_region(level, 0, 0, 1, 1)

    @pytest.mark.parametrize("sides", [(-1, 4), (4, -1)])
    def test_a_negative_side_is_an_error(self, source, sides):
        with pytest.raises(SlideError, match="sides must be >= 0"):
            source.read_region(0, 0, 0, *sides)

    def test_associated_images_are_named_and_read_on_request(self, slide_file, source):
        if slide_file.associated is not None:
            assert sorted(source.associated) == sorted(slide_file.associated)
        for name in source.associated:
            pixels = source.read_associated(name)
            assert pixels.ndim == 3
            assert pixels.size > 0

    def test_an_unknown_associated_image_is_an_error(self, source):
        with pytest.raises(SlideError, match="no image called 'x-ray'"):
            source.read_associated("x-ray")

    def test_a_pickled_slide_reads_the_same(self, slide_file, source):
        with pickle.loads(pickle.dumps(source)) as again:
            assert again.reader == source.reader
            assert again.fingerprint == source.fingerprint
            assert again.levels == source.levels
            assert again.resolution == source.resolution
            wanted = expected(slide_file.truth(0), (10, 20, 50, 70), source.fill)
            found = again.read_region(0, 10, 20, 50, 70)
            assert_equal(found, wanted, slide_file.apart)

    def test_what_the_user_said_of_the_resolution_is_pickled_too(self, another):
        another.resolution = from_user((0.3, 0.4))
        with pickle.loads(pickle.dumps(another)) as again:
            assert again.mpp == (0.3, 0.4)

    def test_a_pickled_slide_is_found_from_another_folder(
        self, slide_file, source, tmp_path, monkeypatch
    ):
        monkeypatch.chdir(slide_file.path.parent)
        with slide_file.open(Path(slide_file.path.name)) as near:
            pickled = pickle.dumps(near)
        monkeypatch.chdir(tmp_path)
        with pickle.loads(pickled) as again:
            assert again.fingerprint == source.fingerprint

    def test_a_pickled_slide_reads_the_same_in_a_new_process(
        self, slide_file, source, another_process: Executor
    ):
        job = another_process.submit(coarsest_of, pickle.dumps(source))
        fingerprint, pixels = job.result(60)
        assert fingerprint == source.fingerprint
        wanted = slide_file.truth(len(source.levels) - 1)
        assert_equal(pixels, wanted, slide_file.apart)

    def test_the_finest_dask_level_holds_the_same_pixels(self, slide_file, source):
        level = Pyramid(source).levels[0]
        part = level[100:500, 30:700].compute(scheduler="synchronous")
        wanted = slide_file.truth(0)[100:500, 30:700]
        assert_equal(part, wanted, slide_file.apart)

    def test_reading_after_close_is_an_error(self, another):
        another.read_region(0, 0, 0, 10, 10)
        another.close()
        another.close()
        for read in (
            lambda: another.read_region(0, 0, 0, 10, 10),
            lambda: another.tile(0, 0, 0),
            lambda: another.read_associated("x-ray"),
        ):
            with pytest.raises(SlideError, match="is closed"):
                read()

    def test_a_closed_slide_holds_no_file_open(self, slide_file):
        before = open_files(slide_file.path.parent)
        slide = slide_file.open(slide_file.path)
        for number in range(len(slide.levels)):
            slide.read_region(number, 0, 0, 40, 40)
        slide.close()
        assert open_files(slide_file.path.parent) == before

    def test_a_copy_has_the_same_fingerprint(self, slide_file, source, tmp_path):
        with slide_file.open(copied(slide_file, tmp_path)) as copy:
            assert copy.fingerprint == source.fingerprint

    def test_a_changed_copy_has_another_fingerprint(self, slide_file, source, tmp_path):
        path = copied(slide_file, tmp_path)
        change(path)
        with slide_file.open(path) as changed:
            assert changed.fingerprint != source.fingerprint
