"""The manifest and the package agree."""

from __future__ import annotations

import importlib
from pathlib import Path

import npe2
import pytest

ROOT = Path(__file__).parents[1]
MANIFEST = npe2.PluginManifest.from_file(ROOT / "napari.yaml")
COMMANDS = {c.id: c.python_name for c in MANIFEST.contributions.commands or ()}


def test_npe2_discovers_the_installed_plugin() -> None:
    manager = npe2.PluginManager()
    manager.discover(include_npe1=False)
    assert manager.get_manifest("napari-gimp").display_name == MANIFEST.display_name


@pytest.mark.parametrize("python_name", COMMANDS.values(), ids=COMMANDS.keys())
def test_every_command_of_the_manifest_can_be_imported(python_name: str) -> None:
    module, _, name = str(python_name).partition(":")
    assert callable(getattr(importlib.import_module(module), name))


def test_every_contribution_names_a_command_of_the_manifest() -> None:
    contributions = MANIFEST.contributions
    used = [
        c.command
        for c in (
            *(contributions.readers or ()),
            *(contributions.widgets or ()),
            *(contributions.sample_data or ()),
        )
    ]
    assert used
    assert set(used) <= set(COMMANDS)


def test_every_ending_the_reader_takes_has_a_pattern() -> None:
    from napari_gimp.reader import ENDINGS

    (reader,) = MANIFEST.contributions.readers or ()
    assert {f"*{ending}" for ending in ENDINGS} == set(reader.filename_patterns)
    assert reader.accepts_directories
