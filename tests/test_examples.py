"""Every example runs as it stands, and prints what its docstring promises."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("[0-9]*.py"))
MAX_LINES = 60

pytestmark = pytest.mark.slow


def run(name: str, *arguments: object) -> str:
    """Run an example as a user does; return what it prints."""
    (script,) = [path for path in EXAMPLES if path.name.startswith(name)]
    command = [sys.executable, str(script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_example_01_analyses_the_sample(tmp_path: Path) -> None:
    printed = run("01", tmp_path / "analysis")
    assert "with genes" in printed
    assert "leading genes:" in printed
    assert (tmp_path / "analysis" / "report.html").is_file()


def test_example_02_trains_and_measures(tmp_path: Path) -> None:
    printed = run("02", tmp_path)
    assert "fine-tuned:" in printed
    assert "balanced accuracy" in printed.lower()


def test_example_03_reads_a_slide(tmp_path: Path) -> None:
    from napari_gimp.sample_data import sample_slide

    printed = run("03", sample_slide())
    assert "centre at 1 um/px: (256, 256, 3) uint8" in printed


def number(printed: str, label: str) -> float:
    """Return the first number that an example prints after a label."""
    (found,) = re.findall(rf"{re.escape(label)}\D*?(-?[\d.]+)", printed)
    return float(found)


def test_example_04_trains_gimp_on_tensors() -> None:
    printed = run("04")
    hidden = number(printed, "error on hidden patches:")
    assert hidden < number(printed, "error of interpolation:")
    both = number(printed, "accuracy, both:")
    assert both > 0.9
    assert both > number(printed, "accuracy, image:")
    assert "accuracy, logistic regression:" in printed
    assert number(printed, "among the 100 leading ones:") > 50


def test_example_05_segments_with_genes() -> None:
    printed = run("05")
    own = number(printed, "Dice with own genes:")
    assert own > number(printed, "Dice with another's genes:") + 0.05
    assert number(printed, "among the 50 leading ones:") > 5


def test_example_06_tells_gliomas_apart() -> None:
    printed = run("06")
    together = number(printed, "told by genes and patches in")
    assert together > number(printed, "told by patches alone in")
    assert number(printed, "C-index of the model") > 0.65
    found = number(printed, "best evidence in the planted tissues")
    assert found > number(printed, f"planted tissues {found:g}%, by chance")


def test_example_07_encodes_once_where_it_is_told(tmp_path: Path) -> None:
    first = run("07", tmp_path)
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.zarr/**/*")}
    again = run("07", tmp_path)

    assert number(first, "in the circle:") > 300
    assert number(first, "blue or green ink") > 0.1
    assert kept
    assert {p: p.stat().st_mtime_ns for p in tmp_path.glob("*.zarr/**/*")} == kept
    assert first.splitlines()[-1] == again.splitlines()[-1]


def test_examples_are_short() -> None:
    lengths = {path.name: len(path.read_text().splitlines()) for path in EXAMPLES}
    assert lengths
    assert max(lengths.values()) <= MAX_LINES, lengths
