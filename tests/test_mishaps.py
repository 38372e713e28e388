"""What goes wrong on the way: damaged tiles, foreign stains, full disks, no memory.

Through the command line: what was there is kept, what can be done is done, and one
sentence says how much and what next.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
import tifffile
import torch

from napari_gimp.cli import main

PURPLE, BROWN = (170, 100, 170), (150, 105, 65)
Told = tuple[int, str, str]
Run = Callable[..., Told]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command; return exit code, stdout and stderr."""

    def command(*words: object) -> Told:
        code = main([str(word) for word in words])
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return code, said.out, said.err

    return command


def write_slide(path: Path, colour: tuple[int, int, int] = PURPLE) -> Path:
    """Write 16 patches of tissue at 1 um/px, in 16 tiles."""
    rng = np.random.default_rng(0)
    pixels = rng.normal(colour, 20, (512, 512, 3)).clip(0, 255).astype(np.uint8)
    per_cm = {"resolution": (10000, 10000), "resolutionunit": "CENTIMETER"}
    how = {"photometric": "rgb", "tile": (128, 128), "compression": "deflate", **per_cm}
    tifffile.imwrite(path, pixels, **how)
    return path


@pytest.fixture
def slide(tmp_path: Path) -> Path:
    return write_slide(tmp_path / "slide.tif")


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """A slide of which two tiles of 16 are overwritten."""
    path = write_slide(tmp_path / "damaged.tif")
    with tifffile.TiffFile(path) as tiff:
        places = list(
            zip(tiff.pages[0].dataoffsets, tiff.pages[0].databytecounts, strict=True)
        )
    stored = bytearray(path.read_bytes())
    for offset, count in (places[5], places[10]):
        stored[offset : offset + count] = b"\xff" * count
    path.write_bytes(stored)
    return path


def test_features_of_a_damaged_slide_are_a_state_of_their_own_and_not_complete(
    run: Run, slide: Path, damaged: Path, tmp_path: Path
) -> None:
    words = ("features", slide, damaged, "--out", tmp_path / "store", "--json")

    code, out, err = run(*words)

    states = [one["state"] for one in json.loads(out)]
    assert states == ["done", "damaged"]
    assert code == 2
    assert "damaged.tif: 2 tiles could not be decoded" in err
    assert "copy the file again from its source" in err
    again = json.loads(run(*words)[1])
    assert [one["state"] for one in again] == ["stored", "damaged"]


def test_every_damaged_tile_is_named_where_that_is_asked(
    run: Run, damaged: Path
) -> None:
    code, out, err = run("info", damaged, "--check", "--json")

    assert code == 2
    assert "damaged.tif: 2 tiles could not be decoded" in err
    assert json.loads(out)["check"]["places"] == [[0, 1, 1], [0, 2, 2]]


@pytest.mark.slow
def test_a_damaged_slide_is_analysed_and_the_number_of_its_tiles_told(
    run: Run, damaged: Path, tmp_path: Path
) -> None:
    code, _, err = run("run", damaged, "--out", tmp_path / "result")

    result = json.loads((tmp_path / "result" / "result.json").read_text())
    assert code == 0
    assert err.count("damaged.tif: 2 tiles could not be decoded") == 1
    assert result["slide"]["damaged_tiles"] == 2
    assert any("2 tiles could not be" in text for text in result["warnings"])


@pytest.mark.slow
def test_brown_stain_is_warned_of_before_the_model_runs(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though nothing comes of the run: the encoder is taken away."""

    def gone(*_: object, **__: object) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr("napari_gimp.patches.extract.extract", gone)
    monkeypatch.setattr("napari_gimp.patches.features.extract", gone, raising=False)
    slide = write_slide(tmp_path / "brown.tif", BROWN)

    code, _, err = run("run", slide, "--out", tmp_path / "result")

    assert code == 130
    assert "is brown, as after immunohistochemistry" in err
    assert "Give the H&E slide" in err


def full(*_: object, **__: object) -> NoReturn:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.slow
def test_a_full_disk_costs_no_former_result(
    run: Run, slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "result"
    assert run("run", slide, "--out", out)[0] == 0
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    monkeypatch.setattr("napari_gimp.export.write_report", full)

    code, _, err = run("run", slide, "--out", out)

    assert code == 2
    assert f"could not be written to '{out}': No space left on device" in err
    assert "What was there is unchanged. Free some space" in err
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["result", "slide.tif"]


def test_a_full_disk_costs_no_stored_features(
    run: Run, slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = write_slide(tmp_path / "other.tif", (180, 110, 160))
    store = tmp_path / "store"
    assert run("features", slide, "--out", store)[0] == 0
    with monkeypatch.context() as disk:
        disk.setattr("zarr.Array.__setitem__", full)

        code, out, err = run("features", slide, other, "--out", store, "--json")

    assert code == 2
    assert [one["state"] for one in json.loads(out)] == ["stored", "failed"]
    assert f"features cannot be kept in {store} (No space left on device)" in err
    assert run("features", slide, other, "--out", store)[0] == 0


def test_a_store_that_may_not_be_written_to_is_said(
    run: Run, slide: Path, tmp_path: Path
) -> None:
    (tmp_path / "store").write_text("a file")

    code, _, err = run("features", slide, "--out", tmp_path / "store")

    assert code == 2
    assert "give a folder" in err


@pytest.mark.parametrize(("most", "state"), [(8, "done"), (1, "failed")])
def test_a_batch_is_halved_twice_and_then_it_is_said_what_fits(
    run: Run,
    slide: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    most: int,
    state: str,
) -> None:
    from napari_gimp.patches.network import PatchNet

    forward = PatchNet.forward

    def short_of_memory(network: PatchNet, pixels: torch.Tensor) -> torch.Tensor:
        if len(pixels) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return forward(network, pixels)

    monkeypatch.setattr(PatchNet, "forward", short_of_memory)

    code, out, err = run("features", slide, "--out", tmp_path / "store", "--json")

    (one,) = json.loads(out)
    assert one["state"] == state
    assert code == (0 if state == "done" else 2)
    said = "not enough memory for 4 patches at once (nor for 16, 8). 1 "
    assert (said in err) == (state == "failed"), err
    assert (one["done"] == 16) == (state == "done")
