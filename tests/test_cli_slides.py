"""convert, features and run on slides: what is written, said, and left behind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import ImageCms

from napari_gimp.cli import main
from napari_gimp.commands.progress import Bar
from napari_gimp.slide.source import open_slide

SIDE_PX, TILE = 1024, 256


def write_slide(path: Path, **kwargs: object) -> Path:
    """Write purple tissue on glass, JPEG, 0.5 um/px."""
    rng = np.random.default_rng(0)
    pixels = np.full((SIDE_PX, SIDE_PX, 3), 244, np.uint8)
    tissue = rng.normal((170, 100, 170), 25, (768, 768, 3))
    pixels[128:896, 128:896] = tissue.clip(0, 255)
    tifffile.imwrite(
        path,
        pixels,
        photometric="rgb",
        compression="jpeg",
        tile=(TILE, TILE),
        resolution=(20000, 20000),
        resolutionunit="CENTIMETER",
        **kwargs,
    )
    return path


@pytest.fixture
def slide(tmp_path: Path) -> Path:
    return write_slide(tmp_path / "slide.tif")


@pytest.fixture
def damaged(slide: Path) -> Path:
    """A slide of 16 tiles of which two in the tissue are no JPEG any more."""
    with tifffile.TiffFile(slide) as tiff:
        page = tiff.pages[0]
        places = [(page.dataoffsets[i], page.databytecounts[i]) for i in (5, 6)]
    with slide.open("r+b") as file:
        for offset, count in places:
            file.seek(offset)
            file.write(bytes(count))
    return slide


@pytest.fixture
def profiled(tmp_path: Path) -> Path:
    """A slide that carries a colour profile."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return write_slide(tmp_path / "profiled.tif", iccprofile=profile)


def test_a_converted_slide_has_the_pixels_and_the_um_per_px(
    slide: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.ome.tif"
    words = ["convert", str(slide), str(out), "--compression", "deflate"]

    assert main([*words, "--tile", "128"]) == 0

    assert capsys.readouterr().out.strip() == str(out)
    with open_slide(slide) as before, open_slide(out) as after:
        assert after.mpp == pytest.approx(before.mpp)
        assert after.levels[0].tile == (128, 128)
        assert len(after.levels) > 1
        whole = (0, 0, 0, SIDE_PX, SIDE_PX)
        np.testing.assert_array_equal(
            before.read_region(*whole), after.read_region(*whole)
        )


def test_a_file_that_is_there_is_only_replaced_on_request(
    slide: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.tif"
    out.write_text("precious")

    assert main(["convert", str(slide), str(out)]) == 2
    assert "out.tif exists already" in capsys.readouterr().err
    assert out.read_text() == "precious"

    assert main(["convert", str(slide), str(out), "--overwrite"]) == 0
    assert out.read_bytes()[:2] == b"II"


@pytest.mark.parametrize(
    ("option", "value"), [("--compression", "jpg"), ("--quality", "0"), ("--tile", "5")]
)
def test_a_conversion_that_cannot_be_is_refused_before_anything_is_written(
    slide: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    option: str,
    value: str,
) -> None:
    out = tmp_path / "out.tif"
    assert main(["convert", str(slide), str(out), option, value]) == 2
    assert value in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [slide]


def test_an_interrupted_conversion_leaves_nothing(
    slide: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupt(bar: Bar, done: int, total: int, text: str | None = None) -> None:
        if done > 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(Bar, "to", interrupt)

    assert main(["convert", str(slide), str(tmp_path / "out.tif")]) == 130
    assert "interrupted" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [slide]


@pytest.mark.parametrize(
    ("words", "code", "start"),
    [
        (["convert", "SLIDE", "OUT"], 0, "warning: "),
        (["info", "--check", "SLIDE"], 2, "napari-gimp: "),
    ],
    ids=["convert", "check"],
)
def test_damaged_tiles_are_told_in_one_line_of_a_real_process(
    damaged: Path, tmp_path: Path, words: list[str], code: int, start: str
) -> None:
    paths = {"SLIDE": str(damaged), "OUT": str(tmp_path / "out.tif")}
    command = [sys.executable, "-m", "napari_gimp.cli"]
    told = subprocess.run(
        [*command, *(paths.get(word, word) for word in words)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == code
    (line,) = told.stderr.splitlines()
    assert line.startswith(f"{start}slide.tif: 2 tiles could not be decoded")


@pytest.mark.slow
def test_a_damaged_slide_has_no_whole_features_and_is_told_once(
    damaged: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["features", str(damaged), "--out", str(tmp_path / "store")]) == 2
    said = capsys.readouterr()
    assert said.err.count(f"{damaged}: 2 tiles could not be decoded") == 1
    assert "1 slide: 1 damaged" in said.out


@pytest.mark.slow
def test_a_run_on_a_damaged_slide_records_the_tiles_and_tells_them_once(
    damaged: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["run", str(damaged), "--out", str(out), "--device", "cpu"]) == 0

    assert capsys.readouterr().err.count("could not be decoded") == 1
    result = json.loads((out / "result.json").read_text())
    assert result["slide"]["damaged_tiles"] == 2
    told = [text for text in result["warnings"] if "could not be decoded" in text]
    assert len(told) == 1
    report = (out / "report.html").read_text()
    assert report.count("2 tiles could not be decoded") == 1


@pytest.mark.slow
def test_a_run_records_what_became_of_the_colour_profile(
    profiled: Path, tmp_path: Path
) -> None:
    store = ["--store", str(tmp_path / "store"), "--device", "cpu"]
    for words, icc in [([], "embedded, not applied"), (["--srgb"], "applied")]:
        out = tmp_path / icc.split(",")[0]
        assert main(["run", str(profiled), *words, "--out", str(out), *store]) == 0
        result = json.loads((out / "result.json").read_text())
        assert result["slide"]["icc"] == icc
    assert len(list((tmp_path / "store").glob("*.zarr"))) == 2, "kept under two keys"


@pytest.mark.parametrize("command", ["run", "features"])
def test_fluorescence_is_refused_before_anything_is_computed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    path = tmp_path / "dapi.ome.tif"
    tifffile.imwrite(
        path,
        np.zeros((2, 512, 512), np.uint16),
        ome=True,
        tile=(256, 256),
        metadata={"axes": "CYX", "Channel": {"Name": ["DAPI", "CD8"]}},
    )
    words = [command, str(path), "--mpp", "0.5", "--out", str(tmp_path / "out")]
    assert main(words) == 2
    said = capsys.readouterr().err
    for part in ("DAPI, CD8", "uint16", "H&E", "viewed, not analysed"):
        assert part in said
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.slow
def test_a_brown_slide_is_warned_of_once_and_before_it_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    brown = np.full((SIDE_PX, SIDE_PX, 3), (120, 80, 50), np.uint8)
    path = tmp_path / "dab.tif"
    tifffile.imwrite(path, brown, photometric="rgb", tile=(TILE, TILE))
    words = ["run", str(path), "--mpp", "0.5", "--device", "cpu", "--out"]

    assert main([*words, str(tmp_path / "out")]) == 0

    said = capsys.readouterr().err
    assert said.count("immunohistochemistry") == 1
    assert said.splitlines()[0].startswith("warning: 100% of the tissue is brown")
