"""Bad input on the command line: one clear sentence, exit 2, nothing left behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import IO

import numpy as np
import pytest
import tifffile

from napari_gimp.cli import main

SIDE_PX = 1024


@pytest.fixture
def slide(tmp_path: Path) -> Path:
    """A small tiled slide: purple tissue on glass, 0.5 um/px."""
    rng = np.random.default_rng(0)
    pixels = np.full((SIDE_PX, SIDE_PX, 3), 244, np.uint8)
    tissue = rng.normal((170, 100, 170), 25, (768, 768, 3))
    pixels[128:896, 128:896] = tissue.clip(0, 255)
    path = tmp_path / "slide.tif"
    tifffile.imwrite(
        path,
        pixels,
        photometric="rgb",
        tile=(256, 256),
        resolution=(20000, 20000),
        resolutionunit="CENTIMETER",
    )
    return path


@pytest.fixture
def genes(tmp_path: Path) -> Path:
    """A gene table with two samples, log2 scale."""
    path = tmp_path / "genes.csv"
    path.write_text("sample,TP53,ESR1,MKI67,CD8A\nA1,5.1,2.2,3.3,4.0\nA2,4,1,6,2\n")
    return path


def refuse(capsys: pytest.CaptureFixture[str], *argv: object) -> str:
    """Run a command that must exit with 2; return its sentence."""
    assert main([str(a) for a in argv]) == 2
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err
    assert printed.err.startswith("napari-gimp: ")
    return printed.err


def left_behind(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_file_that_is_no_slide(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a slide")
    text = refuse(capsys, "run", path, "--out", tmp_path / "out")
    assert "notes.txt" in text
    assert left_behind(tmp_path) == {"notes.txt"}


def test_a_slide_that_does_not_exist(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = refuse(capsys, "info", tmp_path / "absent.svs")
    assert "absent.svs" in text


def test_a_gene_table_without_the_sample(
    slide: Path, genes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = left_behind(tmp_path)
    where = ("--genes", genes, "--sample", "A3", "--out", tmp_path / "out")
    text = refuse(capsys, "run", slide, *where)
    assert "A3" in text
    assert "A1" in text, "the samples that are there should be named"
    assert left_behind(tmp_path) == before


def test_a_gene_table_without_a_word_which_sample(
    slide: Path, genes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = refuse(capsys, "run", slide, "--genes", genes, "--out", tmp_path / "out")
    assert "--sample" in text


def test_a_model_folder_that_is_none(
    slide: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "folder").mkdir()
    before = left_behind(tmp_path)
    where = ("--model", tmp_path / "folder", "--out", tmp_path / "out")
    text = refuse(capsys, "run", slide, *where)
    assert "card.json" in text
    assert left_behind(tmp_path) == before


def test_a_model_name_that_nobody_has(
    slide: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = refuse(capsys, "run", slide, "--model", "dmeo", "--out", tmp_path / "out")
    assert "demo" in text


def test_an_output_folder_that_belongs_to_someone_else(
    slide: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "thesis"
    out.mkdir()
    (out / "chapter1.txt").write_text("precious")
    assert "thesis" in refuse(capsys, "run", slide, "--out", out)
    assert left_behind(out) == {"chapter1.txt"}


def test_a_slide_whose_resolution_is_unknown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "nompp.tif"
    tifffile.imwrite(path, np.full((512, 512, 3), 200, np.uint8), tile=(256, 256))
    text = refuse(capsys, "run", path, "--out", tmp_path / "out")
    assert "um/px" in text
    assert "--mpp" in text


def test_a_slide_whose_resolution_no_scanner_has(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "slip.tif"
    wrong = {"resolution": (1e4 / 0.00499,) * 2, "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(path, np.full((512, 512, 3), 200, np.uint8), **wrong)
    text = refuse(capsys, "run", path, "--out", tmp_path / "out")
    assert "0.00499 um/px" in text
    assert "--mpp 0.499" in text
    assert left_behind(tmp_path) == {"slip.tif"}


def test_a_run_file_with_an_unknown_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run.toml"
    path.write_text('stage = "pretrain"\nlearning_rat = 1\n')
    assert "learning_rat" in refuse(capsys, "train", path)


def test_a_viewer_without_a_display(
    slide: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    opened: list[object] = []
    monkeypatch.setattr("napari_gimp.desktop.open_desktop", opened.append)

    assert "no display" in refuse(capsys, "view", slide)
    assert opened == []


@pytest.mark.parametrize("choice", [("--sample", "A1"), ("--pseudobulk",)])
def test_a_sample_without_a_table(
    slide: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], choice: list[str]
) -> None:
    text = refuse(capsys, "run", slide, *choice, "--out", tmp_path / "out")
    assert "--genes" in text


@pytest.mark.parametrize("command", ["run", "features"])
def test_a_store_that_is_a_file(
    slide: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    (tmp_path / "file").write_text("")
    option = "--store" if command == "run" else "--out"
    where = [option, tmp_path / "file"]
    where += ["--out", tmp_path / "out"] if command == "run" else []
    assert "file" in refuse(capsys, command, slide, *where)
    assert left_behind(tmp_path) == {"slide.tif", "file"}


def test_a_device_that_nobody_has(
    slide: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ("--out", tmp_path / "store", "--device", "abacus")
    assert "abacus" in refuse(capsys, "features", slide, *where)


def test_a_tiff_cut_off_before_its_directory(slide: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.tif"
    path.write_bytes(b"II*\0\xff\xff\x00\x00" + bytes(64))
    told = run_apart("info", path)
    assert told.returncode == 2
    assert "cut off" in told.stderr
    assert len(told.stderr.splitlines()) == 1, "one sentence, no library's noise"


def test_a_reader_that_goes_away_is_no_error() -> None:
    ends = os.pipe()
    os.close(ends[0])
    with os.fdopen(ends[1], "w") as closed_pipe:
        told = run_apart("models", stdout=closed_pipe)
    assert (told.returncode, told.stderr) == (0, "")


def run_apart(
    *argv: object, stdout: IO[str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command in its own process, its output buffered as in a pipe."""
    command = [sys.executable, "-m", "napari_gimp.cli", *map(str, argv)]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    return subprocess.run(
        command,
        stdout=stdout or subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        check=False,
    )


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as told:
        main(["--version"])
    assert told.value.code == 0
    assert capsys.readouterr().out.strip()
