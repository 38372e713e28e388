"""Damaged tiles, vanished files, and what is neither."""

from __future__ import annotations

import errno
import logging
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from napari_gimp.errors import SlideError, TileError
from napari_gimp.slide.damage import Damage
from napari_gimp.slide.resample import overview, read_at
from napari_gimp.slide.source import Level, Resolution, open_slide
from napari_gimp.slide.tiled import SlideFacts, TiledSource
from tiff_files import picture, spoil, write_ome_multichannel, write_tiled

TILE = 64


class MadeSource(TiledSource):
    """A slide of 3 x 4 tiles; `failing` says what decoding a place raises."""

    def __init__(
        self, name: str = "a.slide", *, rgb: bool = True, fingerprint: str = ""
    ) -> None:
        level = Level((3 * TILE - 5, 4 * TILE - 9), (TILE, TILE), (1.0, 1.0))
        super().__init__(
            SlideFacts(
                path=Path(name),
                reader="made",
                levels=(level,),
                resolution=Resolution((0.5, 0.5), "test", True),
                fingerprint=fingerprint or f"{name}-{id(self)}",
                channels=3 if rgb else 2,
                dtype=np.dtype(np.uint8 if rgb else np.uint16),
                rgb=rgb,
            )
        )
        self.failing: dict[tuple[int, int], Exception] = {}
        self.decoded: list[tuple[int, int]] = []

    def decode_tile(self, level: int, row: int, col: int) -> np.ndarray:
        self.decoded.append((row, col))
        if (row, col) in self.failing:
            raise self.failing[row, col]
        return np.full(self._tile_shape(level, row, col), 7, self.dtype)

    def read_associated(self, name: str) -> np.ndarray:
        raise SlideError(name)


@pytest.fixture
def source():
    with MadeSource() as made:
        yield made


def torn(place: str = "") -> TileError:
    return TileError(f"a.slide is damaged: {place}")


def system_error(number: int) -> OSError:
    import os

    return OSError(number, os.strerror(number))


@pytest.mark.parametrize(("rgb", "fill"), [(True, 255), (False, 0)])
def test_a_damaged_tile_reads_as_empty_and_the_others_as_they_are(rgb, fill):
    with MadeSource(rgb=rgb) as source:
        source.failing = {(1, 1): torn()}
        region = source.read_region(0, 0, 0, 3 * TILE - 5, 4 * TILE - 9)
    assert (region[TILE : 2 * TILE, TILE : 2 * TILE] == fill).all()
    region[TILE : 2 * TILE, TILE : 2 * TILE] = 7
    assert (region == 7).all()


def test_a_damaged_tile_is_noted_once_and_never_decoded_again(source):
    source.failing = {(1, 1): torn()}
    for _ in range(3):
        source.read_region(0, TILE, TILE, TILE, TILE)
        source.read_region(0, TILE + 3, TILE + 3, 9, 9)
        source.tile(0, 1, 1)
    assert source.decoded.count((1, 1)) == 1
    assert source.damage.places == ((0, 1, 1),)


def test_threads_that_meet_a_damaged_tile_note_it_once(source):
    source.failing = {(0, 0): torn()}
    with ThreadPoolExecutor(8) as pool:
        for tile in pool.map(lambda _: source.tile(0, 0, 0), range(40)):
            assert (tile == 255).all()
    assert source.decoded.count((0, 0)) == 1
    assert len(source.damage) == 1


def test_whoever_opens_a_slide_a_second_time_learns_of_its_damage_too():
    with MadeSource(fingerprint="same") as one, MadeSource(fingerprint="same") as two:
        one.failing = two.failing = {(1, 1): torn()}
        one.tile(0, 1, 1)
        assert (two.tile(0, 1, 1) == 255).all()
        assert one.damage.places == two.damage.places == ((0, 1, 1),)


@pytest.mark.parametrize("read", ["tile", "read_region"])
def test_who_waits_for_anothers_decode_learns_of_the_damage_too(read, monkeypatch):
    begun, waiting = threading.Event(), threading.Event()

    def slow(*_: int) -> np.ndarray:
        begun.set()
        assert waiting.wait(10)
        raise torn()

    def watched(self: Future) -> object:
        waiting.set()
        return result(self)

    result = Future.result
    args = (0, 0, 0) if read == "tile" else (0, 0, 0, TILE, TILE)
    with (
        MadeSource(fingerprint="both") as one,
        MadeSource(fingerprint="both") as two,
        ThreadPoolExecutor(1) as pool,
    ):
        one.decode_tile = slow
        first = pool.submit(one.tile, 0, 0, 0)
        assert begun.wait(10)
        with monkeypatch.context() as patch:
            patch.setattr(Future, "result", watched)
            assert (getattr(two, read)(*args) == 255).all()
        first.result(10)
        assert two.decoded == []
        assert one.damage.places == two.damage.places == ((0, 0, 0),)


def test_a_damaged_tile_counts_as_decoded(source):
    source.failing = {(1, 1): torn()}
    assert source.cached_tile(0, 1, 1) is None
    source.tile(0, 1, 1)
    tile = source.cached_tile(0, 1, 1)
    assert (tile == 255).all()
    assert not tile.flags.writeable
    source.close()
    assert (source.cached_tile(0, 1, 1) == 255).all()


def test_a_damaged_tile_at_the_corner_has_the_size_that_is_left(source):
    source.failing = {(2, 3): torn()}
    assert source.tile(0, 2, 3).shape == (TILE - 5, TILE - 9, 3)


def test_what_a_damaged_tile_reads_as_may_be_written_to(source):
    source.failing = {(0, 0): torn()}
    source.read_region(0, 0, 0, TILE, TILE)[:] = 1
    assert (source.read_region(0, 0, 0, TILE, TILE) == 255).all()


@pytest.mark.parametrize(
    "error", [ValueError("bad"), RuntimeError("J2K"), OSError("cut off"), KeyError(3)]
)
def test_whatever_a_codec_raises_counts_as_damage(source, error):
    source.failing = {(0, 1): error}
    assert (source.tile(0, 0, 1) == 255).all()
    assert "tile row 0, column 1 of level 0" in source.damage._reasons[0, 0, 1]


def test_a_tile_of_another_size_counts_as_damage(source, monkeypatch):
    wrong = np.zeros((TILE, TILE - 1, 3), np.uint8)
    monkeypatch.setattr(source, "decode_tile", lambda *place: wrong)
    assert (source.tile(0, 0, 0) == 255).all()
    assert "not (64, 64, 3) of uint8" in source.damage._reasons[0, 0, 0]


def test_a_tile_of_another_kind_counts_as_damage(source, monkeypatch):
    wrong = np.zeros((TILE, TILE, 3), np.uint16)
    monkeypatch.setattr(source, "decode_tile", lambda *place: wrong)
    assert source.tile(0, 0, 0).dtype == np.uint8
    assert len(source.damage) == 1


@pytest.mark.parametrize("number", [errno.EIO, errno.ENODEV, errno.ESTALE, errno.EBADF])
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_drive_that_is_gone_is_an_error_and_no_damage(source, number, wrapped):
    gone: Exception = system_error(number)
    if wrapped:  # as a reader does that calls all that fails damage
        gone, gone.__cause__ = torn(), gone
    source.failing = {(0, 0): gone}
    with pytest.raises(
        SlideError, match=r"a\.slide can no longer be read .* drive or network share"
    ):
        source.read_region(0, 0, 0, TILE, TILE)
    assert len(source.damage) == 0


def test_a_file_that_is_gone_is_no_damage_though_its_library_says_so(tmp_path):
    path = tmp_path / "a.slide"
    path.write_bytes(b"pixels")
    with MadeSource(str(path)) as source:
        source.failing = {(0, 0): ValueError("cannot decode")}
        path.unlink()
        with pytest.raises(SlideError, match=r"no longer be read \(No such file"):
            source.tile(0, 0, 0)
        assert len(source.damage) == 0
        path.write_bytes(b"pixels")
        assert (source.tile(0, 0, 0) == 255).all()
        assert len(source.damage) == 1


def test_a_drive_that_comes_back_is_read_again(source):
    source.failing = {(0, 0): system_error(errno.EIO)}
    with pytest.raises(SlideError, match="can no longer be read"):
        source.tile(0, 0, 0)
    source.failing = {}
    assert (source.tile(0, 0, 0) == 7).all()


def test_a_file_whose_descriptor_fails_is_an_error(tmp_path, monkeypatch):
    import os

    path = write_tiled(tmp_path / "a.tif", [picture(seed=21)], compression="deflate")

    def gone(*_: object) -> bytes:
        raise system_error(errno.EIO)

    with open_slide(path) as slide:
        with monkeypatch.context() as patch:
            patch.setattr(os, "pread", gone)
            with pytest.raises(SlideError, match=r"a\.tif can no longer be read \(Inp"):
                slide.read_region(0, 0, 0, 128, 128)
        assert len(slide.damage) == 0
        region = slide.read_region(0, 0, 0, 128, 128)
    np.testing.assert_array_equal(region, picture(seed=21)[:128, :128])


def test_too_little_memory_is_no_damage(source):
    source.failing = {(0, 0): MemoryError()}
    with pytest.raises(SlideError, match="not enough memory for one tile"):
        source.tile(0, 0, 0)
    assert len(source.damage) == 0


def test_what_fails_because_the_slide_was_closed_meanwhile_is_no_damage(source):
    def closed(*_: int) -> np.ndarray:
        source.close()
        raise ValueError("I/O operation on closed file")

    source.decode_tile = closed
    with pytest.raises(SlideError, match="is closed: open it again"):
        source.tile(0, 0, 0)
    assert len(source.damage) == 0


def test_other_slide_errors_are_passed_on(source):
    source.failing = {(0, 0): SlideError("The file was replaced.")}
    with pytest.raises(SlideError, match="was replaced"):
        source.tile(0, 0, 0)
    assert len(source.damage) == 0


def test_spoiled_bytes_are_marked_in_every_channel(tmp_path):
    pixels = picture(150, 200, 2, np.uint16, seed=22)
    path = write_ome_multichannel(tmp_path / "a.ome.tif", [pixels], tile=(64, 64))
    spoil(path, 0, 0)
    with open_slide(path) as slide:
        region = slide.read_region(0, 0, 0, 150, 200)
        assert slide.damage.places == ((0, 0, 0),)
    assert (region[:64, :64] == 0).all()
    np.testing.assert_array_equal(region[64:], pixels[64:])


def test_overviews_of_damaged_slides_do_not_fail(tmp_path):
    path = write_tiled(tmp_path / "a.tif", [picture(seed=23)], compression="deflate")
    spoil(path, 0, 0)
    with open_slide(path) as slide:
        pixels, _ = overview(slide, 2.0)
        assert (pixels[:32, :32] == 255).all()
        assert (read_at(slide, 5.0, 5.0, (10, 10), 1.0) == 255).all()
        assert len(slide.damage) == 1


def test_the_report_is_one_sentence_on_how_many_and_where():
    damage = Damage("a.svs")
    assert (damage.report, len(damage)) == ("", 0)
    damage.note((2, 3, 4), "first")
    assert damage.report == (
        "a.svs: 1 tile could not be decoded (the first: level 2, row 3, column 4) and "
        "counts as empty; copy the file again from its source."
    )
    for col in range(1233):
        damage.note((0, 0, col), "more")
    assert damage.report.startswith("a.svs: 1,234 tiles could not be decoded (the fir")
    assert "level 2, row 3, column 4" in damage.report
    assert damage.places[:2] == ((2, 3, 4), (0, 0, 0))
    assert (2, 3, 4) in damage
    assert (9, 9, 9) not in damage


def test_only_the_first_damaged_tile_is_logged(caplog):
    damage = Damage("a.svs")
    with caplog.at_level(logging.WARNING):
        damage.note((0, 0, 0), "tile row 0")
        damage.note((0, 0, 1), "tile row 1")
        damage.note((0, 0, 0), "again")
    assert [record.getMessage() for record in caplog.records] == ["tile row 0"]
