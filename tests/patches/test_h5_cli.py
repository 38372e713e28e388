"""import-features and export-features: what is asked, written and said."""

from __future__ import annotations

import io
import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile

from napari_gimp.cli import main

COLS, ROWS = np.meshgrid(np.arange(5), np.arange(4))
LATTICE = np.stack([COLS.ravel(), ROWS.ravel()], axis=1)
"""(x, y) places of 20 patches in raster order."""


class Terminal(io.StringIO):
    """A terminal at which somebody types an answer."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def slides(tmp_path: Path) -> Path:
    """A folder with one slide of 400 x 500 px at 0.5 um/px, and a note."""
    folder = tmp_path / "slides"
    folder.mkdir()
    pixels = np.random.default_rng(1).integers(0, 255, (400, 500, 3), dtype=np.uint8)
    tifffile.imwrite(
        folder / "slide.tif",
        pixels,
        photometric="rgb",
        tile=(64, 64),
        resolution=(20000, 20000),
        resolutionunit="CENTIMETER",
    )
    (folder / "note.txt").write_text("no slide")
    return folder


def clam(path: Path, *, step: int = 64) -> Path:
    """Write CLAM's features and its patch file for 20 patches."""
    coords = (LATTICE * step).astype("i4")
    patches = path.parent / "patches" / path.name
    patches.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["features"] = np.random.default_rng(0).normal(size=(20, 6)).astype("f4")
        file["coords"] = coords
    with h5py.File(patches, "w") as file:
        file["coords"] = coords
        said = {"patch_size": 32, "patch_level": 1, "downsample": (2.0, 2.0)}
        file["coords"].attrs.update(said)
    return path


def words(path: Path, slides: Path, *more: str) -> list[str]:
    store = str(path.parent / "store")
    head = ["import-features", str(path), "--slides", str(slides)]
    return [*head, "--store", store, *more]


def test_nothing_is_imported_without_a_yes(
    slides: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = clam(tmp_path / "slide.h5")

    assert main(words(path, slides)) == 2

    said = capsys.readouterr().err
    assert "CLAM, 20 patches x 6 features of slide.tif" in said
    assert "inferred: the distance of neighbours, 64" in said
    assert "repeat the command with --yes" in said
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("\n", 2), ("", 2)])
def test_a_terminal_is_asked(
    answer: str,
    code: int,
    slides: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = clam(tmp_path / "slide.h5")
    monkeypatch.setattr("sys.stdin", Terminal(answer))

    assert main(words(path, slides)) == code

    assert (tmp_path / "store").exists() == (code == 0)


def test_what_flags_and_the_patch_file_say_is_no_guess(
    slides: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = clam(tmp_path / "slide.h5")
    more = ["--patches", str(tmp_path / "patches"), "--encoder", "resnet50", "--yes"]

    assert main(words(path, slides, *more, "--json")) == 0

    (done,) = json.loads(capsys.readouterr().out)
    assert all(fact["stated"] for fact in done["meaning"].values())
    assert done["meaning"]["patch_um"]["value"] == 32
    assert done["meaning"]["mpp"]["value"] == 1
    assert done["meaning"]["encoder"]["value"] == "resnet50"


def test_imports_are_exported_under_the_names_of_their_slides(
    slides: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(clam(tmp_path / "slide.h5"), slides, "--yes")) == 0
    capsys.readouterr()

    export = ["export-features", str(tmp_path / "store"), "--out", str(tmp_path / "o")]
    export += ["--layout", "trident", "--slides", str(slides), "--json"]
    assert main(export) == 0

    (written,) = map(Path, json.loads(capsys.readouterr().out))
    assert written.relative_to(tmp_path / "o") == Path(
        "unnamed-6_32um_every_32um/slide.h5"
    )
    with h5py.File(written) as file:
        said = dict(file["coords"].attrs)
        np.testing.assert_array_equal(file["coords"], LATTICE * 64)
    assert (said["level0_width"], said["level0_height"]) == (500, 400)
    assert (said["patch_size_level0"], said["level0_magnification"]) == (64, 20)


def test_one_bad_file_of_several_stops_before_anything_is_written(
    slides: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = clam(tmp_path / "slide.h5"), clam(tmp_path / "other.h5")

    command, *rest = words(good, slides, "--yes")
    assert main([command, str(bad), *rest]) == 2

    assert "needs one slide named other" in capsys.readouterr().err
    assert not (tmp_path / "store").exists()


def test_one_slide_goes_with_one_file(
    slides: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [str(clam(tmp_path / name)) for name in ("a.h5", "b.h5")]
    more = ["--slide", str(slides / "slide.tif"), "--store", str(tmp_path / "s")]

    assert main(["import-features", *files, *more]) == 2

    assert "--slide goes with one file, 2 were given" in capsys.readouterr().err


def test_an_empty_store_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--layout", "clam", "--out", str(tmp_path / "out")]

    assert main(["export-features", str(tmp_path / "none"), *out]) == 2

    assert "holds no complete features" in capsys.readouterr().err


def test_damaged_entries_are_named_after_the_others_were_exported(
    slides: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b", "c"):
        more = ["--yes", "--encoder", name]
        assert main(words(clam(tmp_path / "slide.h5"), slides, *more)) == 0
    first, second, _ = sorted((tmp_path / "store").glob("*.zarr"))
    chunk = first / "features" / "c" / "0" / "0"
    chunk.write_bytes(chunk.read_bytes()[:-9])
    (second / "zarr.json").write_text("{")
    capsys.readouterr()

    export = ["export-features", str(tmp_path / "store"), "--out", str(tmp_path / "o")]
    assert main([*export, "--layout", "clam"]) == 2

    said = capsys.readouterr().err
    assert f"of {tmp_path / 'store'} was left out what is damaged" in said
    assert f"{first.name}, {second.name}" in said
    assert len(list((tmp_path / "o").glob("*/*.h5"))) == 1
