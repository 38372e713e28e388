"""The OpenSlide reader: places of coarse levels, broken tiles, threads, lost files."""

from __future__ import annotations

import gc
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import numpy as np
import openslide
import psutil
import pytest
import tifffile

from napari_gimp.errors import SlideError
from napari_gimp.slide.damage import Place
from napari_gimp.slide.openslide import OpenSlideSource
from napari_gimp.slide.source import level_grid
from napari_gimp.slide.tiles import tile_cache
from planted_slides import MPP, averaged, plant
from vendor_mrxs import write_mrxs
from vendor_philips import write_philips
from vendor_scn import write_scn
from vendor_svs import J2K_RGB, write_svs

BROKEN = 0, 1, 2
"""Level, row, column of the block of 512 px that `broken` spoils."""


@pytest.fixture(scope="module")
def grey() -> np.ndarray:
    """A soft pattern (2048, 2048, 3) without two equal tiles."""
    y, x = np.mgrid[:2048, :2048]
    channels = (y // 9 % 200, x // 9 % 200, (x + y) // 19 % 200)
    return np.stack(channels, axis=2).astype(np.uint8) + 20


@pytest.fixture
def philips(tmp_path: Path, grey: np.ndarray) -> Path:
    return write_philips(tmp_path / "a.tiff", [grey, averaged(grey, Fraction(4))])


@pytest.fixture
def broken(philips: Path) -> Path:
    """The same with one native tile of 128 px overwritten by zeros."""
    with tifffile.TiffFile(philips) as tiff:
        page = tiff.pages.first
        tile = (BROKEN[1] * 4 + 1) * (page.imagewidth // 128) + BROKEN[2] * 4 + 1
        offset, count = page.dataoffsets[tile], page.databytecounts[tile]
    with philips.open("r+b") as file:
        file.seek(offset)
        file.write(bytes(count))
    return philips


def blocks(slide: OpenSlideSource) -> list[Place]:
    return [(0, row, col) for row in range(4) for col in range(4)]


def holds(
    slide: OpenSlideSource, place: tuple[int, int, int], grey: np.ndarray
) -> bool:
    """Whether a block of level 0 shows what was written there."""
    _, row, col = place
    wanted = grey[row * 512 : (row + 1) * 512, col * 512 : (col + 1) * 512]
    return bool(abs(slide.tile(*place).astype(int) - wanted).mean() < 3)


def test_after_a_broken_tile_all_others_are_still_read(broken, grey):
    with OpenSlideSource(broken) as slide:
        assert (slide.tile(*BROKEN) == 255).all()
        rest = [place for place in blocks(slide) if place != BROKEN]
        assert all(holds(slide, place, grey) for place in rest)
        assert slide.damage.places == (BROKEN,)
        assert "1 tile could not be decoded" in slide.damage.report


def test_a_broken_tile_harms_no_other_thread(broken, grey):
    with OpenSlideSource(broken) as slide, ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            tile_cache().drop(slide._token)
            slide.damage._reasons.clear()
            right = pool.map(lambda at: holds(slide, at, grey), blocks(slide) * 3)
            wrong = [
                k for k, ok in zip(blocks(slide) * 3, right, strict=True) if not ok
            ]
            assert set(wrong) == {BROKEN}
            assert slide.damage.places == (BROKEN,)


def test_a_lost_mirax_file_is_damage_to_its_tiles(tmp_path, grey):
    coarse = averaged(grey, Fraction(4))
    path = write_mrxs(tmp_path / "a.mrxs", [grey, coarse], image_format="PNG")
    (tmp_path / "a" / "Data0000.dat").unlink()
    with OpenSlideSource(path) as slide:
        assert (slide.tile(0, 1, 1) == 255).all()
        assert slide.damage.places == ((0, 1, 1),)
        np.testing.assert_array_equal(slide.tile(1, 0, 0), coarse)
        assert len(slide.damage) == 1


def test_a_mirax_folder_that_vanishes_is_an_error_and_no_damage(tmp_path, grey):
    path = write_mrxs(tmp_path / "a.mrxs", [grey, averaged(grey, Fraction(4))])
    with OpenSlideSource(path) as slide:
        shutil.rmtree(tmp_path / "a")
        with pytest.raises(SlideError, match=r"can no longer be read \(.*check that"):
            slide.read_region(0, 100, 100, 900, 900)
        assert len(slide.damage) == 0


def test_a_slide_that_vanished_is_an_error_and_no_damage(tmp_path, grey):
    path = write_mrxs(tmp_path / "a.mrxs", [grey, averaged(grey, Fraction(4))])
    with OpenSlideSource(path) as slide:
        path.unlink()
        shutil.rmtree(tmp_path / "a")
        with pytest.raises(
            SlideError, match=r"a\.mrxs can no longer be read \(No such"
        ):
            slide.read_region(0, 100, 100, 900, 900)
        assert len(slide.damage) == 0


def test_a_damaged_associated_image_is_an_error_and_the_slide_goes_on(tmp_path, grey):
    path = write_svs(tmp_path / "a.svs", [grey])
    with tifffile.TiffFile(path) as tiff:
        page = next(p for p in tiff.pages if "label" in p.description)
        offset, count = page.dataoffsets[0], page.databytecounts[0]
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(bytes(count))
    with OpenSlideSource(path) as slide:
        with pytest.raises(SlideError, match=r"The label image of a\.svs cannot be"):
            slide.read_associated("label")
        assert slide.read_associated("macro").shape == (30, 70, 3)
        assert holds(slide, (0, 1, 1), grey)


def test_no_associated_image_is_read_unless_asked_for(tmp_path, grey, monkeypatch):
    asked = []
    read = openslide.lowlevel.read_associated_image

    def note(slide: object, name: str) -> object:
        asked.append(name)
        return read(slide, name)

    monkeypatch.setattr(openslide.lowlevel, "read_associated_image", note)
    with OpenSlideSource(write_svs(tmp_path / "a.svs", [grey])) as slide:
        slide.read_region(0, 0, 0, 600, 600)
        assert asked == []
        slide.read_associated("macro")
    assert asked == ["macro"]


def test_closing_waits_for_no_reader_and_stops_them_all(philips, grey):
    """Freeing the handle under a reader's feet would end the whole process."""
    slide = OpenSlideSource(philips)
    started, ended = threading.Barrier(5), []

    def read_on() -> None:
        started.wait()
        try:
            while True:
                for place in blocks(slide):
                    slide.decode_tile(*place)
        except SlideError as error:
            ended.append(str(error))

    threads = [threading.Thread(target=read_on) for _ in range(4)]
    for thread in threads:
        thread.start()
    started.wait()
    slide.close()
    for thread in threads:
        thread.join(20)
    assert len(ended) == 4
    assert all("a.tiff is closed" in text for text in ended)


def test_closed_slides_leave_no_file_open(broken):
    before = len(psutil.Process().open_files())
    for _ in range(10):
        slide = OpenSlideSource(broken)
        slide.tile(*BROKEN)
        slide.close()
    del slide
    gc.collect()
    assert len(psutil.Process().open_files()) == before


def test_the_profile_is_that_of_the_file_byte_for_byte(tmp_path, grey):
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    with OpenSlideSource(write_svs(tmp_path / "a.svs", [grey], icc=profile)) as slide:
        assert slide.icc == profile
        slide.use_srgb()
        assert slide.srgb
    with OpenSlideSource(write_svs(tmp_path / "b.svs", [grey])) as slide:
        assert slide.icc is None


def test_a_change_in_a_companion_changes_the_fingerprint(tmp_path, grey):
    path = write_mrxs(tmp_path / "a.mrxs", [grey])
    for name in ("b", "c"):
        shutil.copy(path, tmp_path / f"{name}.mrxs")
        shutil.copytree(tmp_path / "a", tmp_path / name)
    with (tmp_path / "c" / "Data0000.dat").open("ab") as file:
        file.write(b"\0")
    found = []
    for name in ("a", "b", "c"):
        with OpenSlideSource(tmp_path / f"{name}.mrxs") as slide:
            found.append(slide.fingerprint)
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize("factor", ["2", "4", "5/2"])
@pytest.mark.parametrize("vendor", ["svs", "scn"])
def test_coarse_levels_lie_within_a_level_0_px(tmp_path, find_center, vendor, factor):
    """Sides that are no multiple of anything: OpenSlide's factors are no whole ones."""
    image, centers = plant((1503, 1207))
    levels = [image]
    while max(levels[-1].shape) > 300:
        levels.append(averaged(image, Fraction(factor) ** len(levels)))
    path = tmp_path / f"a.{vendor}"
    if vendor == "svs":
        write_svs(path, levels, mpp=MPP, compression=J2K_RGB)
    else:
        write_scn(path, levels, mpp=MPP)
    with OpenSlideSource(path) as slide:
        assert len(slide.levels) == len(levels)
        for number, level in enumerate(slide.levels):
            pixels = slide.read_region(number, 0, 0, *level.shape)
            cell = level_grid(slide, number).cell_um
            for truth in centers:
                found = find_center(pixels, cell, truth)
                off_um = max(abs(a - b) for a, b in zip(found, truth, strict=True))
                assert off_um / MPP < 1


def test_blocks_of_a_coarse_level_join_without_a_seam(write):
    """Each block is asked for at a rounded place; a px more or less would show."""
    y, x = np.mgrid[:771, :5237].astype(np.float32)
    ramp = np.stack([y / 3, x / 21, (x + y) / 25], axis=2)
    image = np.rint(ramp).astype(np.uint8)
    levels = [image, averaged(image, Fraction(4))]
    with OpenSlideSource(write(levels, compression="deflate")) as slide:
        assert slide.levels[1].shape[1] > 2 * slide.levels[1].tile[1]
        found = slide.read_region(1, 0, 0, *slide.levels[1].shape).astype(int)
    apart = abs(found - levels[1])[:-1, :-1]  # the last px is mixed with what is beyond
    assert apart.max() <= 1


@pytest.mark.parametrize("margin", [(64, 128), (100, 131), (1300, 1500), (7, 2203)])
def test_blocks_of_a_leica_level_join_wherever_the_picture_starts(tmp_path, margin):
    """Where it starts within a coarse px, those of the canvas are parts of two."""
    y, x = np.mgrid[:1204, :1508]
    board = ((y // 16 + x // 16) % 2 * 120 + 60).astype(np.uint8)
    image = board[:, :, None].repeat(3, axis=2)  # grey: JPEG halves colours' detail
    levels = [image, averaged(image, Fraction(4))]
    path = write_scn(tmp_path / "a.scn", levels, margin_px=margin, quality=100)
    with OpenSlideSource(path) as slide:
        found = slide.read_region(1, 0, 0, *slide.levels[1].shape).astype(int)
    stored = levels[1].repeat(4, axis=0).repeat(4, axis=1)
    canvas = np.zeros((margin[0] + len(stored), margin[1] + stored.shape[1], 3))
    canvas[margin[0] :, margin[1] :] = stored
    expected = averaged(canvas, Fraction(4))
    inside = np.s_[margin[0] // 4 + 1 : -1, margin[1] // 4 + 1 : -1]
    apart = abs(found[: len(expected), : expected.shape[1]] - expected)[inside]
    assert apart.mean() < 1
    assert apart.max() < 12  # JPEG; a px aside it were 120


def test_small_native_tiles_are_read_in_blocks(philips):
    with OpenSlideSource(philips) as slide:
        assert (
            slide._handle.use(
                lambda inner: inner.properties["openslide.level[0].tile-width"]
            )
            == "128"
        )
        assert slide.levels[0].tile == (512, 512)
