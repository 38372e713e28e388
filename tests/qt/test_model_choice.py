"""Choosing a model: what cannot analyse a slide bars the run and says why."""

import json
from pathlib import Path
from typing import Any

import pytest

from napari_gimp._qt.analyse import AnalyseDock


@pytest.fixture
def dock(make_napari_viewer: Any) -> AnalyseDock:
    return AnalyseDock(make_napari_viewer())


def write_card(folder: Path, **fields: object) -> Path:
    folder.mkdir()
    card = {"description": "A model.", "classes": ["A", "B"], **fields}
    (folder / "card.json").write_text(json.dumps(card))
    return folder


@pytest.mark.parametrize("architecture", ["mgi", "subspace"])
def test_a_model_of_another_architecture_bars_the_run_and_says_so_in_place(
    dock: AnalyseDock, tmp_path: Path, architecture: str
) -> None:
    dock.model.choose(write_card(tmp_path / "other", architecture=architecture))

    assert f"of the architecture {architecture}" in dock.model.card.text()
    assert dock.model.card.property("tone") == "error"
    assert "needs gimp" in dock.model.obstacle()
    assert not dock.run.isEnabled()


def test_another_choice_frees_the_run_again(dock: AnalyseDock, tmp_path: Path) -> None:
    dock.model.choose(write_card(tmp_path / "other", architecture="mgi"))
    dock.model.choose(write_card(tmp_path / "mine", architecture="gimp"))

    assert dock.model.obstacle() == ""
    assert dock.model.card.property("tone") == "note"
    assert dock.model.card.text().startswith("A model.")
