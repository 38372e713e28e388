"""Gene rows: what was found in a table, what bars a run, what other docks hear."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_gimp._qt.gene_choice import GeneChoice
from napari_gimp._qt.gene_report import find, percent
from napari_gimp._qt.parts import Dock
from napari_gimp._qt.scene import scene_of
from napari_gimp.explain.models import ListedModel
from napari_gimp.genes.sets import hallmarks
from napari_gimp.genes.table import read_table

Deliver = Callable[[Any], None]
GENES = hallmarks()["HALLMARK_E2F_TARGETS"][:50]
CARD: dict[str, Any] = {
    "genes": GENES,
    "gene_mean": [8.0] * 50,
    "gene_sd": [1.0] * 50,
    "gene_scale": "log2",
}


def write_table(path: Path, genes: tuple[str, ...], values: Any) -> Path:
    """Write samples A, B, ... in rows."""
    values = np.asarray(values)
    lines = [",".join(("sample", *genes))]
    for name, row in zip("ABCDEFGH", values, strict=False):
        lines.append(",".join((name, *(f"{v:.3f}" for v in row))))
    path.write_text("\n".join(lines))
    return path


def expression(samples: int, genes: int) -> Any:
    return np.random.default_rng(5).normal(8, 1, (samples, genes)).clip(0.1)


@pytest.fixture
def rows(qtbot: Any) -> GeneChoice:
    """The rows with a model of 50 genes."""
    dock = Dock()
    qtbot.addWidget(dock)
    choice = GeneChoice(scene_of(ViewerModel()), dock)
    choice.fit_to(ListedModel("m", Path("m"), CARD))
    choice.dock = dock  # type: ignore[attr-defined] # nobody else holds it
    return choice


@pytest.fixture
def read(rows: GeneChoice, deliver: Deliver) -> Callable[[Path], GeneChoice]:
    """Choose a table and wait until it is compared."""

    def choose(path: Path) -> GeneChoice:
        rows.choose(path)
        deliver(rows.reading)
        if rows.comparing is not None:
            deliver(rows.comparing)
        return rows

    return choose


def facts(rows: GeneChoice) -> dict[str, str]:
    return rows.facts.texts()


def test_the_report_is_one_line_until_it_is_opened(
    read: Callable[[Path], GeneChoice], tmp_path: Path
) -> None:
    rows = read(write_table(tmp_path / "t.csv", GENES, expression(1, 50)))

    assert rows.report.text() == (
        "1 sample × 50 genes, log2 expression. 100\u00a0% of the model's 50 genes "
        "found."
    )
    assert rows.folded.inside.isHidden()
    assert rows.question.isHidden()
    assert rows.obstacle() == ""

    rows.folded.open()

    assert not rows.folded.inside.isHidden()
    assert facts(rows)["Matched"] == "50 of 50 (100\u00a0%)"
    assert "judged from numbers from" in facts(rows)["Scale"]


def test_what_is_missing_renamed_and_duplicated_is_listed(
    read: Callable[[Path], GeneChoice], tmp_path: Path
) -> None:
    from napari_gimp.genes.identifiers import identifiers

    known = identifiers()
    before = {now: old for old, (now, *_) in known.previous.items()}
    renamed = next(
        g for g in GENES[5:] if g in before and known.current(before[g]) == g
    )
    written = tuple(before[g] if g == renamed else g for g in GENES[:48])
    genes = (*written, GENES[0])
    rows = read(write_table(tmp_path / "t.csv", genes, expression(1, 49)))

    found = facts(rows)
    assert found["Missing"].startswith(f"2 genes: {GENES[48]}, {GENES[49]}; taken as")
    assert found["Renamed"] == f"1 gene: {renamed} as {before[renamed]}"
    assert found["Duplicated"] == f"1 gene: {GENES[0]}; only the first is used"
    assert rows.obstacle() == ""


def test_a_run_with_little_of_the_panel_needs_a_tick(
    read: Callable[[Path], GeneChoice], tmp_path: Path
) -> None:
    rows = read(write_table(tmp_path / "t.csv", GENES[:35], expression(1, 35)))

    assert "only 35 of the model's 50 genes (70 %)" in rows.question.text().lower()
    assert rows.consent.text() == "Run with 70 % of the panel"
    assert "tick “Run with 70 % of the panel”" in rows.obstacle()
    assert not rows.allow_missing

    rows.consent.setChecked(True)

    assert rows.obstacle() == ""
    assert rows.allow_missing


def test_a_tick_for_one_table_is_none_for_the_next(
    read: Callable[[Path], GeneChoice], tmp_path: Path
) -> None:
    rows = read(write_table(tmp_path / "t.csv", GENES[:35], expression(1, 35)))
    rows.consent.setChecked(True)

    read(write_table(tmp_path / "u.csv", GENES[:30], expression(1, 30)))

    assert not rows.allow_missing
    assert "tick “Run with 60 % of the panel”" in rows.obstacle()


def test_z_scores_for_a_model_of_log2_are_refused_before_the_run(
    read: Callable[[Path], GeneChoice], tmp_path: Path
) -> None:
    rows = read(write_table(tmp_path / "t.csv", GENES, expression(8, 50) - 8))
    rows.samples.setCurrentText("C")
    assert rows.comparing is not None
    rows.comparing.wait(30)
    from psygnal import emit_queued

    emit_queued()

    assert rows.report.property("tone") == "error"
    assert "z-scores" in rows.report.text()
    assert "z-scores" in rows.obstacle()


def test_numbers_that_look_like_another_scale_stand_out(
    read: Callable[[Path], GeneChoice], tmp_path: Path
) -> None:
    rows = read(write_table(tmp_path / "t.csv", GENES, expression(1, 50) / 4))

    assert rows.report.property("tone") == "warning"
    assert "sd below the training mean" in rows.report.text()


def test_a_mouse_s_table_is_told_in_place(
    read: Callable[[Path], GeneChoice], tmp_path: Path
) -> None:
    mouse = tuple(gene.capitalize() for gene in GENES)
    rows = read(write_table(tmp_path / "t.csv", mouse, expression(1, 50)))

    assert "mouse or another species" in rows.report.text()
    assert rows.folded.isHidden()
    assert "cannot be used" in rows.obstacle()


def test_a_table_with_genes_in_rows_says_that_it_was_turned(
    read: Callable[[Path], GeneChoice], tmp_path: Path
) -> None:
    path = tmp_path / "t.csv"
    lines = [f"{g},{8 + k % 5}.25,7.5" for k, g in enumerate(GENES)]
    path.write_text("\n".join(("gene,S1,S2", *lines)))

    rows = read(path)

    assert "Genes were read from the rows" in facts(rows)["Read so"]


def test_the_session_holds_the_chosen_sample_and_the_panel(
    rows: GeneChoice,
    read: Callable[[Path], GeneChoice],
    tmp_path: Path,
    deliver: Deliver,
) -> None:
    session = rows._scene.session
    read(write_table(tmp_path / "t.csv", GENES, expression(3, 50)))
    session = rows._scene.session
    assert session.profile is None  # none was chosen

    rows.samples.setCurrentText("B")
    deliver(rows.comparing)

    assert session.profile is not None
    assert session.profile.sample == "B"
    assert session.panel is not None
    assert session.panel.genes == GENES

    rows.choose(None)

    assert session.profile is None
    assert rows.folded.isHidden()


def test_without_a_model_the_table_alone_is_reported(tmp_path: Path) -> None:
    table = read_table(write_table(tmp_path / "t.csv", GENES, expression(2, 50)))

    found = find(table, "A", summed=False, card={})

    assert found.line == "2 samples × 50 genes, log2 expression."
    assert (found.panel, found.question, found.refusal) == (None, "", "")
    assert found.profile is not None


@pytest.mark.parametrize(("share", "text"), [(1, "100"), (0.799, "79"), (0, "0")])
def test_percentages_are_never_rounded_up(share: float, text: str) -> None:
    assert percent(share) == f"{text}\u00a0%"
