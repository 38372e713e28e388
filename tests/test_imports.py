"""What is imported when: starting stays quick because libraries come on use.

No times are asserted (`benchmarks/bench_start.py` measures them): only which modules
a fresh interpreter has loaded.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

HEAVY = {
    *("torch", "napari", "dask", "pandas", "numpy", "scipy", "skimage", "sklearn"),
    *("matplotlib", "zarr", "tifffile", "imagecodecs", "openslide", "wsidicom"),
    *("pydicom", "PIL", "qtpy", "PySide6", "psygnal", "magicgui", "captum", "h5py"),
}
NEVER_FOR_SLIDES = {
    *("torch", "captum", "lightning_fabric", "torchmetrics", "sklearn", "skimage"),
    *("pandas", "matplotlib", "napari", "qtpy", "PySide6", "magicgui", "distributed"),
}


def loaded_by(code: str) -> set[str]:
    """Return the top-level modules that a fresh interpreter has after some code."""
    told = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport json, sys\n"
         "print(json.dumps([*{name.partition('.')[0] for name in sys.modules}]))"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return set(json.loads(told.stdout.splitlines()[-1]))


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("imports") / "slide.tif"
    pixels = np.full((512, 512, 3), 200, np.uint8)
    per_cm = {"resolution": (2e4, 2e4), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(path, pixels, photometric="rgb", tile=(256, 256), **per_cm)
    return path


@pytest.mark.parametrize(
    "module",
    [
        "napari_gimp",
        "napari_gimp.reader",
        "napari_gimp.cli",
        "napari_gimp.desktop",
        "napari_gimp.sample_data",
        "gimp_models",
    ],
)
def test_importing_loads_no_heavy_library(module: str) -> None:
    assert loaded_by(f"import {module}") & HEAVY == set()


def test_the_help_of_the_command_line_loads_no_heavy_library() -> None:
    code = "from napari_gimp.cli import parser; parser().format_help()"
    assert loaded_by(code) & HEAVY == set()


def test_asking_whether_a_path_is_a_slide_loads_no_heavy_library(
    slide: Path, tmp_path: Path
) -> None:
    (tmp_path / "folder").mkdir()
    paths = [str(slide), str(tmp_path / "folder"), "notes.txt"]
    code = f"from napari_gimp.reader import get_reader; [*map(get_reader, {paths!r})]"
    assert loaded_by(code) & HEAVY == set()


def test_making_a_layer_without_a_window_loads_no_viewer_and_no_model(
    slide: Path,
) -> None:
    code = f"from napari_gimp.reader import read_slides; read_slides({str(slide)!r})"
    loaded = loaded_by(code)
    assert loaded & NEVER_FOR_SLIDES == set()
    assert "tifffile" in loaded, "the layer was not made"


def test_describing_a_slide_loads_no_viewer_and_no_model(slide: Path) -> None:
    code = f"from napari_gimp.cli import main; main(['info', {str(slide)!r}])"
    loaded = loaded_by(code)
    assert loaded & (NEVER_FOR_SLIDES | {"dask"}) == set()
    assert "tifffile" in loaded, "the slide was not opened"
