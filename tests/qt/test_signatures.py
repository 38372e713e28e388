"""Signature scores in the Genes dock: of whom, by what, and what is said of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_gimp._qt.genes import GenesDock
from napari_gimp._qt.signature_chart import furthest, title
from napari_gimp.genes.panel import Panel
from napari_gimp.genes.sets import hallmarks
from napari_gimp.genes.signatures import ssgsea
from napari_gimp.genes.table import Profile

Deliver = Callable[[Any], None]
GENES = tuple(sorted({gene for genes in hallmarks().values() for gene in genes}))
UP = "HALLMARK_HYPOXIA"


def profile(up: float = 3.0) -> Profile:
    """A patient in whom the genes of one hallmark are raised."""
    values = np.random.default_rng(2).normal(8, 1, len(GENES)).astype(np.float32)
    raised = np.isin(GENES, hallmarks()[UP])
    return Profile("P1", GENES, values + np.float32(up) * raised, "log2")


@pytest.fixture
def panel() -> Panel:
    flat = np.ones(len(GENES), np.float32)
    return Panel(GENES, 8 * flat, flat)


@pytest.fixture
def dock(qtbot: Any) -> GenesDock:
    made = GenesDock(ViewerModel())
    qtbot.addWidget(made)
    return made


def names(dock: GenesDock) -> list[str]:
    figure = dock.signatures.chart.figure
    assert figure is not None
    return [label.get_text() for label in figure.axes[0].get_yticklabels()]


def test_without_a_sample_the_rows_say_what_is_missing(dock: GenesDock) -> None:
    rows = dock.signatures
    assert "Choose a gene table and a sample" in rows.hint.text()
    assert not rows.method.isEnabled()
    assert rows.chart.figure is None


@pytest.mark.parametrize("method", [0, 1])
def test_a_planted_set_stands_on_top_by_either_method(
    dock: GenesDock, panel: Panel, deliver: Deliver, method: int
) -> None:
    dock.session.panel = panel
    dock.session.profile = profile()
    dock.signatures.method.setCurrentIndex(method)
    deliver(dock.signatures.scoring)

    assert names(dock)[0] == "HYPOXIA"
    assert len(names(dock)) == 15
    assert dock.signatures.hint.text() == ""


def test_the_chart_shows_the_scores_of_the_engine(
    dock: GenesDock, panel: Panel, deliver: Deliver
) -> None:
    dock.session.profile = profile()
    dock.signatures.method.setCurrentIndex(1)
    dock.signatures.count.setValue(50)
    deliver(dock.signatures.scoring)

    figure = dock.signatures.chart.figure
    assert figure is not None
    bars = [bar.get_width() for bar in figure.axes[0].patches]
    expected = np.sort(ssgsea(profile(), hallmarks()).scores[0])[::-1]
    assert np.allclose(bars, expected)


def test_the_mean_z_without_a_model_says_what_to_do(
    dock: GenesDock, deliver: Deliver
) -> None:
    dock.session.profile = profile()
    deliver(dock.signatures.scoring)

    assert "needs a model with genes" in dock.signatures.hint.text()
    assert "or score by ssGSEA" in dock.signatures.hint.text()
    assert dock.signatures.chart.figure is None


def test_sets_of_a_file_take_the_place_of_the_hallmarks(
    dock: GenesDock, panel: Panel, deliver: Deliver, tmp_path: Path
) -> None:
    path = tmp_path / "own.gmt"
    path.write_text("MINE\tabout\t" + "\t".join(GENES[:9]))
    dock.session.panel = panel
    dock.session.profile = profile()

    dock.signatures.sets.set_path(path)
    deliver(dock.signatures.scoring)

    assert names(dock) == ["MINE"]
    texts = {text.get_text() for text in dock.signatures.chart.figure.axes[0].texts}
    assert texts == {"9/9"}


def test_a_file_without_sets_is_told_in_place(
    dock: GenesDock, deliver: Deliver, tmp_path: Path
) -> None:
    path = tmp_path / "own.gmt"
    path.write_text("no sets")
    dock.session.profile = profile()

    dock.signatures.sets.set_path(path)
    deliver(dock.signatures.scoring)

    assert dock.signatures.hint.property("tone") == "error"
    assert "own.gmt, line 1" in dock.signatures.hint.text()


def test_another_patient_s_scores_take_the_place_of_the_first_s(
    dock: GenesDock, panel: Panel, deliver: Deliver
) -> None:
    dock.session.panel = panel
    dock.session.profile = profile()
    first = dock.signatures.scoring

    dock.session.profile = profile(up=-3.0)
    deliver(first)
    late = dock.signatures.chart.figure
    assert late is None or names(dock)[0] != "HYPOXIA"
    deliver(dock.signatures.scoring)

    assert names(dock)[-1] == "HYPOXIA"

    dock.session.profile = None

    assert dock.signatures.chart.figure is None


def test_the_sets_furthest_from_the_middle_are_shown_highest_first() -> None:
    scores = np.array([0.1, 0.9, np.nan, 0.0, -0.8, 0.05])

    assert furthest(scores, 2) == [1, 4]
    assert furthest(np.array([np.nan, np.nan]), 5) == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("HALLMARK_MYC_TARGETS_V1", "MYC TARGETS V1"),
        ("Stromal signature", "Stromal signature"),
        ("A" * 40, "A" * 25 + "…"),
    ],
)
def test_names_of_sets_are_made_readable_and_short(name: str, text: str) -> None:
    assert title(name) == text
