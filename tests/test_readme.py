"""The README is true: its script runs, its commands and files exist."""

from __future__ import annotations

import contextlib
import io
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from napari_gimp.cli import parser

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, flags=re.DOTALL)


@pytest.mark.slow
def test_the_five_line_script_runs() -> None:
    (script,) = blocks("python")
    assert len(script.splitlines()) == 5
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "basal-like" in done.stdout


def test_every_command_it_names_exists() -> None:
    named = set(re.findall(r"napari-gimp ([a-z][a-z-]*)", TEXT))
    assert {"run", "import-features"} <= named
    assert named - commands() == set()


def test_every_option_it_names_exists() -> None:
    """Of the commands in its shell blocks, word by word."""
    lines = re.findall(r"^napari-gimp ([a-z-]+) (.*)$", "\n".join(blocks("sh")), re.M)
    used = [(name, set(re.findall(r"--[a-z-]+", rest))) for name, rest in lines]
    assert any(options for _, options in used)
    assert [(n, o - options_of(n)) for n, o in used if o - options_of(n)] == []
    anywhere = set().union(*map(options_of, commands()))
    assert set(re.findall(r"`(--[a-z-]+)", TEXT)) <= anywhere


def commands() -> set[str]:
    """Return the names of all commands."""
    return set(re.findall(r"^    ([a-z][a-z-]*)(?: |$)", parser().format_help(), re.M))


def options_of(command: str) -> set[str]:
    """Return the long options that a command's help lists."""
    told = io.StringIO()
    with contextlib.redirect_stdout(told), pytest.raises(SystemExit):
        parser().parse_args([command, "--help"])
    return set(re.findall(r"--[a-z-]+", told.getvalue()))


def test_every_file_it_links_to_exists() -> None:
    links = re.findall(r"\]\((?!http)([^)#]+)\)", TEXT)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_its_run_file_is_valid(tmp_path: Path) -> None:
    from napari_gimp.training.run import RunConfig

    (content,) = blocks("toml")
    assert tomllib.loads(content)["stage"] == "finetune"
    path = tmp_path / "finetune.toml"
    path.write_text(content)
    assert RunConfig.read(path).plan.epochs == 30
