"""What is read of a slide, how much at a time, and when it stops."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from napari_gimp.errors import SlideError
from napari_gimp.geometry import Grid
from napari_gimp.patches import reading
from napari_gimp.patches.grid import PatchGrid, lay_patches
from napari_gimp.patches.reading import BAND_BYTES, band_rows, read_batches
from napari_gimp.patches.tissue import Tissue
from napari_gimp.slide.source import SlideSource, open_slide
from napari_gimp.slide.tiles import TileCache, tile_cache
from small_slides import write_slide

PATCH_BYTES = 16 * 16 * 3


def lay(mask: np.ndarray) -> PatchGrid:
    return lay_patches(Tissue(mask, Grid(mask.shape, (8.0, 8.0))), patch_um=16.0)


def watch(slide) -> list[tuple[int, int, int, int]]:
    """Return the boxes that will be read of a slide, as they are read."""
    read, boxes = slide.read_region, []

    def watched(level: int, *box: int) -> np.ndarray:
        boxes.append(box)
        return read(level, *box)

    slide.read_region = watched
    return boxes


def test_bands_hold_few_rows_and_few_patches() -> None:
    patches = lay(np.ones((200, 900), bool))

    bands = band_rows(patches, 0, 512)

    assert bands[0].start == 0
    assert bands[-1].stop == len(patches)
    assert all(b.stop - b.start == 450 for b in bands)


def test_bands_can_start_in_the_middle_of_a_band() -> None:
    bands = band_rows(lay(np.ones((20, 20), bool)), 13, 512)

    assert [(b.start, b.stop) for b in bands] == [(13, 40), (40, 80), (80, 100)]


@pytest.mark.parametrize("most", [1, 7, 10, 33])
def test_a_row_of_large_patches_is_cut_into_bands(most: int) -> None:
    patches = lay(np.ones((20, 20), bool))

    bands = band_rows(patches, 0, most)

    assert [b.start for b in bands[1:]] == [b.stop for b in bands[:-1]]
    assert (bands[0].start, bands[-1].stop) == (0, len(patches))
    assert max(b.stop - b.start for b in bands) <= most


@pytest.mark.parametrize("batch_size", [3, 64])
def test_what_is_held_is_bounded_in_bytes_not_by_the_slide(
    make_slide, encoder, monkeypatch, batch_size: int
) -> None:
    monkeypatch.setattr(reading, "BAND_BYTES", 20 * PATCH_BYTES)
    monkeypatch.setattr(reading, "READ_AHEAD_BYTES", 60 * PATCH_BYTES)
    slide = make_slide(np.zeros((1024, 640, 3), np.uint8))
    patches, made, given, most = lay(np.ones((128, 80), bool)), 0, 0, 0

    def empty(shape: tuple[int, ...]) -> np.ndarray:
        nonlocal made, most
        made += shape[0]
        most = max(most, made - given)
        return np.empty(shape, np.uint8)

    for batch in read_batches(
        slide, patches, encoder, batch_size=batch_size, empty=empty
    ):
        given += 0 if batch is None else len(batch[1])

    assert made == given == len(patches) == 2560
    assert most <= 60 + 20 + batch_size


def test_patches_larger_than_what_is_held_are_read_all_the_same(
    noise_slide, encoder, monkeypatch
) -> None:
    monkeypatch.setattr(reading, "BAND_BYTES", 1)
    monkeypatch.setattr(reading, "READ_AHEAD_BYTES", 1)
    patches = lay(np.ones((32, 40), bool))

    batches = list(read_batches(noise_slide, patches, encoder, batch_size=50))

    assert [rows.stop for rows, _ in batches] == [50, 100, 150, 200, 250, 300, 320]
    expected = noise_slide.pixels[240:256, 304:320]
    np.testing.assert_array_equal(batches[-1][1][-1], expected)


def test_every_tile_is_read_whole_and_once(noise_slide, encoder) -> None:
    boxes = watch(noise_slide)

    list(read_batches(noise_slide, lay(np.ones((32, 40), bool)), encoder))

    tiles = itertools.product(range(0, 256, 64), range(0, 320, 64), [64], [64])
    assert sorted(boxes) == sorted(tiles)


def test_tiles_under_no_patch_are_not_read(noise_slide, encoder) -> None:
    mask = np.zeros((32, 40), bool)
    mask[:4, :4] = mask[4:6, 14:16] = True
    boxes = watch(noise_slide)

    list(read_batches(noise_slide, lay(mask), encoder))

    assert sorted(boxes) == [(0, 0, 48, 64), (0, 64, 48, 64)]


def test_batches_hold_the_pixels_of_their_patches(noise_slide, encoder) -> None:
    mask = np.random.default_rng(3).random((32, 40)) < 0.8
    patches = lay(mask)

    batches = list(read_batches(noise_slide, patches, encoder, batch_size=9))

    pixels = np.concatenate([pixels for _, pixels in batches])
    for patch, (y, x) in zip(pixels, patches.corners_um.astype(int), strict=True):
        expected = noise_slide.pixels[y : y + 16, x : x + 16]
        np.testing.assert_array_equal(patch, expected)


def test_slow_reads_can_be_given_up_after_the_tile_they_are_at(
    noise_slide, encoder, monkeypatch
) -> None:
    monkeypatch.setattr(reading, "PATIENCE_S", 0.01)
    go_on, read = threading.Event(), noise_slide.read_region
    boxes = []

    def slow(level: int, *box: int) -> np.ndarray:
        boxes.append(box)
        go_on.wait(60)
        return read(level, *box)

    monkeypatch.setattr(noise_slide, "read_region", slow)
    monkeypatch.setattr(reading, "READERS", 2)
    batches = read_batches(noise_slide, lay(np.ones((32, 40), bool)), encoder)

    assert next(batches) is None
    threading.Timer(0.05, go_on.set).start()
    batches.close()

    assert len(boxes) == 2  # of 20


def test_a_slide_without_colour_is_refused_before_anything_is_read(
    noise_slide, encoder
) -> None:
    noise_slide.rgb = False
    boxes = watch(noise_slide)

    with pytest.raises(SlideError, match="separate channels"):
        next(read_batches(noise_slide, lay(np.ones((32, 40), bool)), encoder))

    assert not boxes


def test_a_band_of_a_large_slide_is_four_rows_of_the_default_encoder() -> None:
    patches = lay(np.ones((80, 632), bool))  # 316 in a row

    bands = band_rows(patches, 0, BAND_BYTES // (128 * 128 * 3))

    assert [b.stop - b.start for b in bands] == [4 * 316] * 10


@pytest.fixture
def tiled(tmp_path: Path) -> Iterator[SlideSource]:
    """A slide of 4 x 4 tiles, 128 um each."""
    with open_slide(write_slide(tmp_path / "tiled.tif", seed=0)) as slide:
        yield slide


def off_tiles() -> PatchGrid:
    """Patches of 16 um every 12 um: their bands begin and end within tiles."""
    mask = np.ones((64, 64), bool)
    tissue = Tissue(mask, Grid(mask.shape, (8.0, 8.0)))
    return lay_patches(tissue, patch_um=16.0, stride_um=12.0)


def test_reading_patches_keeps_few_tiles_and_pushes_none_off_the_display(
    tiled, encoder, monkeypatch
) -> None:
    budget, apart, made = 5 * 256 * 256 * 3, [], TileCache.__init__

    def noted(cache: TileCache, budget_bytes: int) -> None:
        made(cache, budget_bytes)
        apart.append(cache)

    monkeypatch.setattr(TileCache, "__init__", noted)
    monkeypatch.setattr(reading, "TILES_BYTES", budget)
    shared, most = tile_cache(), 0
    before = len(shared)

    for _ in read_batches(tiled, off_tiles(), encoder):
        most = max(most, apart[-1].used_bytes)

    assert len(shared) == before
    assert 0 < most <= budget


def test_tiles_on_display_are_not_decoded_again_for_patches(
    tiled, encoder, monkeypatch
) -> None:
    for row, col in itertools.product(range(4), range(4)):
        tiled.tile(0, row, col)
    decoded = []
    decode = tiled.decode_tile
    monkeypatch.setattr(
        tiled, "decode_tile", lambda *place: decoded.append(place) or decode(*place)
    )

    list(read_batches(tiled, off_tiles(), encoder))

    assert not decoded
