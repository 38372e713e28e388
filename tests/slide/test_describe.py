"""A slide's facts for the command line and the dock."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_gimp.cli import main
from napari_gimp.slide.describe import describe
from napari_gimp.slide.source import open_slide


@pytest.fixture
def slide(tmp_path: Path) -> Path:
    path = tmp_path / "slide.tif"
    pixels = np.full((512, 768, 3), 200, np.uint8)
    tifffile.imwrite(path, pixels, photometric="rgb", tile=(256, 256))
    return path


def test_size_is_told_in_mm_where_the_resolution_is_known(slide: Path) -> None:
    with open_slide(slide, mpp=0.5) as source:
        facts = describe(source)
    assert facts["size"].startswith("768 x 512 px")
    assert "0.5" in facts["um/px"]


def test_an_unknown_resolution_is_said_and_never_guessed(slide: Path) -> None:
    with open_slide(slide) as source:
        facts = describe(source)
    assert "not in the file" in facts["um/px"]
    assert "mm" not in facts["size"]


def test_info_prints_the_same_facts_as_json(
    slide: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["info", str(slide), "--json"]) == 0
    with open_slide(slide) as source:
        assert json.loads(capsys.readouterr().out) == describe(source)
