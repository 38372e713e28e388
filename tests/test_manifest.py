"""The manifest and the package agree."""

from __future__ import annotations

import importlib
import subprocess
import sys
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


@pytest.mark.parametrize(
    "module", ["napari_gimp", "napari_gimp.reader", "napari_gimp.cli", "gimp_models"]
)
def test_importing_does_not_load_torch_or_the_viewer(module: str) -> None:
    code = f"import sys, {module}; print(*sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    loaded = set(run.stdout.split())
    assert not loaded & {"torch", "napari", "qtpy", "matplotlib.pyplot"}
