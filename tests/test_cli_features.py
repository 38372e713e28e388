"""`napari-gimp features`: what is printed, the exit codes, what is kept."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import zarr
from tifffile import imread, imwrite

from napari_gimp.cli import main
from napari_gimp.commands.progress import Bar
from small_slides import PER_CM, write_slide
from tiff_files import spoil


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Two patients, one of two slides, found by a pattern."""
    for k, name in enumerate(("P1/a.tif", "P1/b.tif", "P2/a.tif")):
        write_slide(tmp_path / name, seed=k, side_px=512)
    path = tmp_path / "cohort.csv"
    path.write_text("patient,slide\nP1,P1/*.tif\nP2,P2/a.tif\n")
    return path


def rewrite(slide: Path, pixels: np.ndarray) -> None:
    """Write a slide compressed, so that a tile of other bytes cannot be decoded."""
    imwrite(
        slide, pixels, photometric="rgb", tile=(256, 256), compression="deflate",
        **PER_CM,
    )  # fmt: skip


def features(*words: object) -> int:
    return main(["features", *map(str, words), "--device", "cpu"])


def test_a_manifest_gives_a_line_for_each_slide_and_a_count(
    manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert features(manifest, "--out", tmp_path / "store") == 0
    *lines, count = capsys.readouterr().out.splitlines()
    ends = [line.split()[:4] + line.split()[-1:] for line in lines]
    assert ends == [
        ["a.tif", "done", "4", "of", "P1"],
        ["b.tif", "done", "4", "of", "P1"],
        ["a.tif", "done", "4", "of", "P2"],
    ]
    assert count == "3 slides: 3 done"
    assert len(list((tmp_path / "store").glob("*.zarr"))) == 3


def test_a_bad_slide_is_told_at_the_end_with_exit_2(
    manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "P2" / "a.tif").write_bytes(b"II*\0 cut off")
    assert features(manifest, "--out", tmp_path / "store") == 2
    said = capsys.readouterr()
    assert "3 slides: 2 done, 1 failed" in said.out
    assert "1 of 3 slides have no whole features" in said.err
    assert str(tmp_path / "P2" / "a.tif") in said.err


def test_a_damaged_slide_is_counted_not_kept_and_told_with_exit_2(
    manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slide, store = tmp_path / "P2" / "a.tif", tmp_path / "store"
    whole = imread(slide)
    rewrite(slide, whole)
    spoil(slide, page=0, tile=0)

    assert features(manifest, "--out", store, "--json") == 2
    said = capsys.readouterr()
    *_, damaged = json.loads(said.out)
    assert damaged["state"] == "damaged"
    assert "1 of 3 slides have no whole features" in said.err
    assert "a.tif: 1 tile could not be decoded" in said.err
    (key,) = {path.stem for path in store.glob("*.zarr")} & {damaged["key"]}
    entry = zarr.open_group(store / f"{key}.zarr", mode="r")
    assert entry.attrs["done"] == 0, "nothing from the first damaged tile on"

    rewrite(slide, whole)  # mended, it is of the same content again
    assert features(manifest, "--out", store) == 0
    assert "1 done, 2 stored" in capsys.readouterr().out


def test_json_lists_every_slide_with_its_end(
    manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "P1" / "b.tif").unlink()
    (tmp_path / "P1" / "b.tif").write_text("no slide")
    assert features(manifest, "--out", tmp_path / "store", "--json") == 2
    told = json.loads(capsys.readouterr().out)
    assert [one["state"] for one in told] == ["done", "failed", "done"]
    assert [one["patient"] for one in told] == ["P1", "P1", "P2"]
    assert "b.tif" in told[1]["text"]
    kept = {path.stem for path in (tmp_path / "store").glob("*.zarr")}
    assert {told[0]["key"], told[2]["key"]} == kept


def test_an_interrupted_run_says_what_it_left_with_exit_130(
    manifest: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupt(bar: Bar, done: int, total: int, text: str | None = None) -> None:
        if text and "(1 of 3 slides)" in text:
            raise KeyboardInterrupt

    monkeypatch.setattr(Bar, "to", interrupt)
    assert features(manifest, "--out", tmp_path / "store") == 130
    assert "3 slides: 1 done, 2 cancelled" in capsys.readouterr().out

    monkeypatch.undo()
    assert features(manifest, "--out", tmp_path / "store") == 0
    assert "1 stored" in capsys.readouterr().out


def test_a_manifest_that_contradicts_itself_is_refused_before_anything_is_made(
    manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest.write_text("patient,slide\nP1,P1/a.tif\nP2,P1/a.tif\n")
    assert features(manifest, "--out", tmp_path / "store") == 2
    assert "slides used by two patients" in capsys.readouterr().err
    assert not (tmp_path / "store").exists()
