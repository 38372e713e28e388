"""What people really meet with files: each bad input, its command, its sentence.

Every row goes through the command line as a user would: exit code 2, one sentence on
stderr that names the file and says what to do, nothing left behind. What can still be
used is used, and told of. Gene tables have rows of their own in `test_bad_genes.py`.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from napari_gimp.cli import main

SIDE_PX = 1024
PER_CM = {"resolution": (20000, 20000), "resolutionunit": "CENTIMETER"}
"""0.5 um/px."""
TIFF = {"photometric": "rgb", "tile": (256, 256), **PER_CM}
JBIG = 34661
"""A compression of TIFF that no library decodes."""
Words = list[object]
Make = Callable[[Path], Words]


@dataclass(frozen=True)
class Row:
    """A bad input: what to write into a folder with slide.tif, run, and be told."""

    make: Make
    said: tuple[str, ...]


def tissue(colour: tuple[int, int, int] = (170, 100, 170)) -> NDArray[np.uint8]:
    """Return stained tissue on glass, (1024, 1024, 3)."""
    rng = np.random.default_rng(0)
    pixels = np.full((SIDE_PX, SIDE_PX, 3), 244, np.uint8)
    pixels[128:896, 128:896] = rng.normal(colour, 25, (768, 768, 3)).clip(0, 255)
    return pixels


def run(*words: object) -> Words:
    return ["run", *words, "--out", "OUT"]


def features(*words: object) -> Words:
    return ["features", *words, "--out", "OUT"]


def written(name: str, content: bytes) -> Make:
    """Return what writes a file and runs the model on it."""

    def make(folder: Path) -> Words:
        (folder / name).write_bytes(content)
        return run(folder / name)

    return make


def no_um_per_px(folder: Path) -> Words:
    tifffile.imwrite(folder / "a.tif", tissue(), photometric="rgb", tile=(256, 256))
    return run(folder / "a.tif")


def no_scanners_um_per_px(folder: Path) -> Words:
    slip = {"resolution": (2e6, 2e6), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(folder / "a.tif", tissue(), tile=(256, 256), **slip)
    return run(folder / "a.tif")


def cut_header(folder: Path) -> Words:
    (folder / "a.tif").write_bytes((folder / "slide.tif").read_bytes()[:200])
    return run(folder / "a.tif")


def mirax_without_its_folder(folder: Path) -> Words:
    Image.fromarray(tissue()).save(folder / "a.jpg")
    (folder / "a.jpg").rename(folder / "a.mrxs")
    return run(folder / "a.mrxs")


def unread_compression(folder: Path) -> Words:
    path = folder / "a.tif"
    tifffile.imwrite(path, tissue(), compression="deflate", **TIFF)
    with tifffile.TiffFile(path) as tiff:
        at = tiff.pages[0].tags["Compression"].valueoffset
    stored = bytearray(path.read_bytes())
    stored[at : at + 2] = JBIG.to_bytes(2, "little")
    path.write_bytes(stored)
    return run(path)


def fluorescence(folder: Path) -> Words:
    stains = np.random.default_rng(0).integers(0, 60000, (3, 512, 512), np.uint16)
    um = {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    path = folder / "a.ome.tif"
    tifffile.imwrite(path, stains, tile=(256, 256), metadata={"axes": "CYX", **um})
    return run(path)


def grey(folder: Path) -> Words:
    tifffile.imwrite(folder / "a.tif", tissue()[..., 0], tile=(256, 256), **PER_CM)
    return features(folder / "a.tif")


def empty_glass(folder: Path) -> Words:
    tifffile.imwrite(folder / "a.tif", np.full_like(tissue(), 244), **TIFF)
    return run(folder / "a.tif")


def drawn(path: Path, first: int, last: int, label: str = "Tumor") -> Path:
    """Write a square of QuPath from (first, first) to (last, last), level-0 px."""
    ring = [[first, first], [last, first], [last, last], [first, last], [first, first]]
    drawing = {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {"classification": {"name": label}},
    }
    path.write_text(json.dumps(drawing))
    return path


def planned(*words: object, square: tuple[int, int] | None = None) -> Make:
    """Return a run of the good slide with options; DRAWN stands for a square."""

    def make(folder: Path) -> Words:
        path = drawn(folder / "a.geojson", *square) if square else None
        return run(folder / "slide.tif", *(path if w == "DRAWN" else w for w in words))

    return make


def empty_mask(folder: Path) -> Words:
    Image.fromarray(np.zeros((128, 128), np.uint8)).save(folder / "a.png")
    return run(folder / "slide.tif", "--tissue", folder / "a.png")


def mask_of_another_slide(folder: Path) -> Words:
    Image.fromarray(np.full((100, 30), 255, np.uint8)).save(folder / "a.png")
    return run(folder / "slide.tif", "--tissue", folder / "a.png")


def broken_annotation(folder: Path) -> Words:
    (folder / "a.geojson").write_text("{")
    return run(folder / "slide.tif", "--include", folder / "a.geojson")


def checkpoint(**changes: Any) -> Make:
    """Return a run with the shipped model, its card changed."""

    def make(folder: Path) -> Words:
        from napari_gimp.explain.models import resolve_model

        model = shutil.copytree(resolve_model("demo"), folder / "model")
        card = json.loads((model / "card.json").read_text())
        card |= {k: {**card[k], **v} if k in card else v for k, v in changes.items()}
        (model / "card.json").write_text(json.dumps(card))
        return run(folder / "slide.tif", "--model", model)

    return make


def patches_of_another_size(folder: Path) -> Words:
    words = checkpoint()(folder)
    card = json.loads((folder / "model" / "card.json").read_text())
    (folder / "model" / "card.json").write_text(json.dumps({**card, "patch_um": 256.0}))
    return words


def pickled_checkpoint(folder: Path) -> Words:
    (folder / "model.pt").write_bytes(b"\x80\x04")
    return run(folder / "slide.tif", "--model", folder / "model.pt")


def manifest(text: str) -> Make:
    def make(folder: Path) -> Words:
        (folder / "cohort.csv").write_text(text)
        return features(folder / "cohort.csv")

    return make


def imported(features: Any, coords: Any) -> Make:
    """Return an import of a feature file of another tool for the good slide."""

    def make(folder: Path) -> Words:
        with h5py.File(folder / "a.h5", "w") as file:
            file["features"], file["coords"] = features, coords
        where = ("--slide", folder / "slide.tif", "--store", "OUT", "--yes")
        return ["import-features", folder / "a.h5", *where]

    return make


def no_h5(folder: Path) -> Words:
    (folder / "a.h5").write_text("features")
    where = ("--slide", folder / "slide.tif", "--store", "OUT", "--yes")
    return ["import-features", folder / "a.h5", *where]


def encoded(*words: str) -> Make:
    return lambda folder: features(folder / "slide.tif", "--encoder", *words)


LATTICE = np.stack(np.meshgrid(np.arange(4), np.arange(4)), axis=-1).reshape(-1, 2)
NUMBERS = np.random.default_rng(0).normal(size=(16, 6)).astype("f4")

ROWS = {
    "no um/px": Row(
        no_um_per_px, (r"a\.tif does not say .* um/px", "give it with --mpp")
    ),
    "um/px of no scanner": Row(
        no_scanners_um_per_px,
        (r"0\.005 um/px", "probably 0.5 is meant, so give --mpp 0.5"),
    ),
    "no slide": Row(
        written("a.svs", b"hello"), (r"a\.svs is not a slide: give an SVS",)
    ),
    "nothing in it": Row(
        written("a.svs", b""), (r"a\.svs is empty \(0 bytes\): copy",)
    ),
    "cut off in its header": Row(
        cut_header, (r"a\.tif cannot be read: copy it again", "tifffile: .* cut off")
    ),
    "companions missing": Row(
        mirax_without_its_folder,
        (
            "in a folder called 'a' beside it",
            "copy it there",
        ),
    ),
    "unread compression": Row(
        unread_compression,
        (
            r"tifffile: it is compressed with JBIG \(34661\)",
            "OpenSlide: ",
            "convert it",
        ),
    ),
    "fluorescence": Row(
        fluorescence,
        ("3 separate channels of uint16", r"give the bright-field \(H&E\)"),
    ),
    "without colour": Row(grey, ("1 grey channel of uint8", "as scanned in colour")),
    "no tissue": Row(empty_glass, ("no patch is left", "has 0 mm2 of tissue")),
    "annotation of another slide": Row(
        planned("--include", "DRAWN", square=(5000, 6000)),
        (r"a\.geojson' lie outside the slide 'slide\.tif'", "1024 x 1024 px"),
    ),
    "annotation on glass": Row(
        planned("--include", "DRAWN", square=(0, 100)),
        ("no patch is left", "0.15 mm2 outside the annotations", "--include"),
    ),
    "all annotated to be left out": Row(
        planned("--exclude", "DRAWN", square=(0, 1024)),
        ("no patch is left", "0.15 mm2 annotated to be left out", "--exclude"),
    ),
    "class that is not there": Row(
        planned("--include", "DRAWN", "--include-class", "Stroma", square=(0, 1024)),
        ("has no class 'Stroma'; it has 'Tumor'",),
    ),
    "no full patch": Row(
        planned("--min-tissue", 1, "--include", "DRAWN", square=(100, 400)),
        ("no patch is left", "at least 100% tissue", "--min-tissue 0\\."),
    ),
    "least tissue that is none": Row(
        planned("--min-tissue", 50), ("must be 0 to 1, got 50", "0.5 is usual")
    ),
    "stride that is none": Row(planned("--stride", 0), ("must be .* um.*, got 0",)),
    "empty mask": Row(empty_mask, ("no patch is left",)),
    "mask of another slide": Row(
        mask_of_another_slide, (r"a\.png' does not fit the slide", "Export a mask of")
    ),
    "annotation that is none": Row(
        broken_annotation, (r"a\.geojson' are no GeoJSON", "Export them again")
    ),
    "checkpoint of another encoder": Row(
        checkpoint(encoder={"fingerprint": "0" * 64}),
        ("trained with another patch encoder than 'default'", "fingerprint .*0000"),
    ),
    "checkpoint of other patches": Row(
        patches_of_another_size, ("patch_um is 256", "it must be 128")
    ),
    "pickled checkpoint": Row(
        pickled_checkpoint, ("a pickle, which may run code", r"gimp_models\.save\(")
    ),
    "manifest without a column": Row(
        manifest("case,file\nP1,slide.tif\n"),
        ("lacks the columns patient, slide; it has case, file",),
    ),
    "manifest that leaks": Row(
        manifest("patient,slide\nP1,slide.tif\nP2,slide.tif\n"),
        (r"slides used by two patients \(1\): .*slide\.tif \(P1, P2",),
    ),
    "manifest of a slide that is not there": Row(
        manifest("patient,slide\nP1,absent.svs\n"), (r"no file .*absent\.svs",)
    ),
    "no feature file": Row(no_h5, (r"a\.h5",)),
    "features of another slide": Row(
        imported(NUMBERS, (LATTICE * 4096).astype("i4")),
        (r"begin outside slide\.tif", "give the slide they were made from"),
    ),
    "features that are no numbers": Row(
        imported(np.full_like(NUMBERS, np.nan), (LATTICE * 256).astype("i4")),
        (r"a\.h5", "finite|no number|NaN"),
    ),
    "unknown encoder": Row(encoded("unj"), ("no encoder 'unj'", "known: default, uni")),
    "weights that are not there": Row(
        encoded("uni=absent.pt"), (r"no encoder file absent\.pt; check the path",)
    ),
}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("good") / "slide.tif"
    tifffile.imwrite(path, tissue(), **TIFF)
    return path


@pytest.fixture
def folder(good: Path, tmp_path: Path) -> Path:
    """A folder with a good slide in it."""
    shutil.copy(good, tmp_path / "slide.tif")
    return tmp_path


def told(
    words: Words, folder: Path, capsys: pytest.CaptureFixture[str]
) -> tuple[int, str]:
    """Run a command whose OUT lies in a folder; return its exit code and stderr."""
    placed = [str(folder / "out" if word == "OUT" else word) for word in words]
    code = main(placed)
    return code, capsys.readouterr().err


@pytest.mark.parametrize("name", ROWS)
def test_a_bad_file_is_refused_with_its_sentence(
    name: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ROWS[name].make(folder)
    before = sorted(folder.rglob("*"))

    code, said = told(words, folder, capsys)

    assert code == 2, said
    assert said.count("napari-gimp: ") == 1
    assert "Traceback" not in said
    for pattern in ROWS[name].said:
        assert re.search(pattern, said), f"{pattern!r} is not in: {said}"
    kept = [path for path in sorted(folder.rglob("*")) if ".locks" not in path.parts]
    assert [path for path in kept if path != folder / "out"] == before
