"""`napari-gimp info` on every format there is a writer for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from formats import EVERY, KINDS, Format
from napari_gimp.cli import main


@pytest.mark.parametrize("kind", EVERY, ids=lambda kind: kind.name)
def test_every_format_is_told_as_json_that_a_program_can_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: Format
) -> None:
    slide = kind.sample(tmp_path)

    assert main(["info", "--json", str(slide.path)]) == 0

    told = json.loads(capsys.readouterr().out)
    assert told["file"] == slide.path.name
    assert told["rgb"] is KINDS[kind.kind].colour
    assert told["mpp"] == pytest.approx([slide.mpp] * 2, rel=1e-3)
    assert told["mpp_usable"] is True
    assert told["size_mm"][1] == pytest.approx(
        told["size_px"][1] * told["mpp"][1] / 1000
    )
    assert told["levels"][0]["size_px"] == told["size_px"]
    assert all(level["factor"][0] >= 1 for level in told["levels"])
    assert all(isinstance(text, str) for text in told["properties"].values())
    assert told["check"] is None
