"""Which expression profile goes with the slide: a table's sample, or none."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psygnal import Signal
from qtpy.QtCore import QSignalBlocker
from qtpy.QtWidgets import QCheckBox, QComboBox, QWidget

from napari_gimp._qt.folded import Folded
from napari_gimp._qt.gene_report import Found, find
from napari_gimp._qt.parts import Dock, Form, Notice, PathField, allow, ask_file
from napari_gimp._qt.scene import Scene
from napari_gimp._qt.wording import failure, sentence
from napari_gimp.jobs import Job, read_job
from napari_gimp.session import guess_sample, looks_like_spots

if TYPE_CHECKING:
    from napari_gimp.explain.models import ListedModel
    from napari_gimp.genes.table import GeneTable

TEXT_PX = 5
"""napari insets the text of its labels by this."""
TITLE = "4  Genes"
PATTERNS = (
    "Gene tables (*.csv *.tsv *.txt *.gct *.parquet *.h5ad *.gz *.zip);;All files (*)"
)
SLIDE_ONLY = "Without a gene table the slide alone is analysed."


class GeneChoice:
    """The gene rows of a dock; tables are read and compared in the background.

    Parameters
    ----------
    scene
        The viewer's scene; its session gets the profile and the panel.
    dock
        The dock; the rows get a section of it.
    """

    changed = Signal()

    def __init__(self, scene: Scene, dock: Dock) -> None:
        self._scene, self._dock = scene, dock
        self.table: GeneTable | None = None
        self.reading: Job[GeneTable] | None = None
        self.comparing: Job[Found] | None = None
        self.found: Found | None = None
        self._card: dict[str, Any] = {}
        self._wanted: str | None = None
        self._build(dock)
        self.samples.currentIndexChanged.connect(self._compare)
        self.sum.toggled.connect(self._sum_or_choose)
        self.consent.toggled.connect(lambda: self.changed.emit())
        dock.hear(scene.session.events.slide, self._guess)
        self._show()

    def _build(self, dock: Dock) -> None:
        form = dock.section(TITLE)
        ask = ask_file("Choose a gene table", PATTERNS)
        self.field = PathField("none: slide only", ask, self._read)
        self.samples, self.sum = QComboBox(), QCheckBox("Sum all rows (pseudobulk)")
        self.field.setToolTip(
            "A table, or a folder of GDC's STAR files; or drop it here"
        )
        form.add("Gene table", self.field)
        form.add("Sample", self.samples)
        form.add("", self.sum)
        self.report, self.question, self.consent = Notice(), Notice(), QCheckBox()
        self.consent.setToolTip(
            "Missing genes count as the mean of the training cohort"
        )
        self.facts = Form()
        self.facts.setContentsMargins(TEXT_PX, 0, 0, 0)
        inside = QWidget()
        inside.setLayout(self.facts)
        self.folded = Folded("What was found in the table", inside)
        dock.add(self.report, self.folded, self.question, self.consent)

    @property
    def path(self) -> Path | None:
        """The table to use, None for "slide only"."""
        return self.field.path

    @property
    def sample(self) -> str | None:
        """The sample to use, None for "slide only" and pseudobulk."""
        chosen = self.path is not None and not self.pseudobulk
        return self.samples.currentText() or None if chosen else None

    @property
    def pseudobulk(self) -> bool:
        """Whether the rows of the table are summed to one profile."""
        return self.path is not None and self.sum.isChecked()

    @property
    def allow_missing(self) -> bool:
        """Whether the user runs a model though much of its panel is missing."""
        asked = self.found is not None and bool(self.found.question)
        return asked and self.consent.isChecked()

    def obstacle(self) -> str:
        """Return why an analysis cannot start, "" if it can."""
        if self.path is None:
            return ""
        if self.reading is not None:
            return "The gene table is still being read."
        if self.table is None:
            return "The gene table cannot be used. Choose another one, or none."
        if self.sample is None and not self.pseudobulk:
            return "Choose the sample that belongs to this slide."
        return self._mismatch()

    def _mismatch(self) -> str:
        """Return why table and model do not go together, "" where they do."""
        if self.found is None:
            waits = self.comparing is not None and self._card.get("genes")
            return "The genes are still compared with the model's." if waits else ""
        if self.found.refusal:
            return self.found.refusal
        if self.found.question and not self.allow_missing:
            return f"Much of the panel is missing: tick “{self.found.consent}” first."
        return ""

    def choose(self, path: Path | None, sample: str | None = None) -> None:
        """Fill in a table and, once it is read, a sample."""
        self._wanted = sample
        self.field.set_path(path)

    def fit_to(self, model: ListedModel | None) -> None:
        """Compare with the panel of another model."""
        card = {} if model is None else model.card
        if card is not self._card:
            self._card = card
            self._compare()

    def _read(self, path: Path | None) -> None:
        self.table, self.reading = None, None
        self.samples.clear()
        if path is not None:
            self.report.say(f"Reading {path.name}…")
            self.reading = read_job(lambda: _read_table(path))
            self._follow(self.reading, self._take, self._fail)
        self._compare()
        self._show()

    def _follow(
        self,
        job: Job[Any],
        taken: Callable[[int, Any], None],
        failed: Callable[[int, Exception], None],
    ) -> None:
        self._dock.hear(job.event, partial(taken, job.number), thread="main")
        self._dock.hear(job.failed, partial(failed, job.number), thread="main")
        job.start()

    def _take(self, number: int, table: GeneTable) -> None:
        if self.reading is None or self.reading.number != number:
            return
        self.table, self.reading = table, None
        with QSignalBlocker(self.samples), QSignalBlocker(self.sum):
            self.samples.addItems(list(table.samples))
            self.sum.setChecked(looks_like_spots(table.samples))
            self._guess()
        self._wanted = None  # the next slide is another patient's
        self._compare()
        self._show()

    def _fail(self, number: int, error: Exception) -> None:
        if self.reading is not None and self.reading.number == number:
            self.reading = None
            self._show()
            self.report.say(failure(error, "Nothing was changed."), "error")

    def _sum_or_choose(self) -> None:
        with QSignalBlocker(self.samples):
            self._guess()
        self._compare()
        self._show()

    def _guess(self) -> None:
        """Choose the sample by the slide's name; none rather than a wrong one."""
        table = self.table
        if table is None or self.sum.isChecked():
            self.samples.setCurrentIndex(-1)
            return
        slide = self._scene.session.slide
        guess = guess_sample(slide.stem, table.samples) if slide else None
        only = table.samples[0] if len(table.samples) == 1 else None
        chosen = self._wanted or guess or only
        self.samples.setCurrentIndex(self.samples.findText(chosen) if chosen else -1)

    def _compare(self) -> None:
        """Find out in the background what table, sample and model have in common."""
        table, sample, summed = self.table, self.sample, self.pseudobulk
        card = self._card
        self.found = self.comparing = None
        self._give(None)
        self.consent.setChecked(False)
        if table is not None:
            self.comparing = read_job(
                lambda: find(table, sample, summed=summed, card=card)
            )
            self._follow(self.comparing, self._take_found, self._lose)
        self._show_found()

    def _take_found(self, number: int, found: Found) -> None:
        if self.comparing is None or self.comparing.number != number:
            return
        self.found, self.comparing = found, None
        self._give(found)
        self._show_found()

    def _lose(self, number: int, error: Exception) -> None:
        self._take_found(number, Found("", (), refusal=str(error)))

    def _give(self, found: Found | None) -> None:
        """Let the other docks know the patient's profile."""
        session = self._scene.session
        session.panel = None if found is None else found.panel
        session.profile = None if found is None else found.profile

    def _show_found(self) -> None:
        found = self.found
        self.folded.setVisible(found is not None and bool(found.facts))
        self.question.say(found.question if found else "", "warning")
        self.consent.setVisible(found is not None and bool(found.question))
        if found is not None:
            self.consent.setText(found.consent)
            self._show_facts(found)
        self.changed.emit()

    def _show_facts(self, found: Found) -> None:
        if found.refusal:
            self.report.say(sentence(found.refusal), "error")
        else:
            tone = "warning" if found.doubts else "note"
            self.report.say("\n".join((found.line, *found.doubts)), tone)
        while self.facts.rowCount():
            self.facts.removeRow(0)
        for fact in found.facts:
            self.facts.add_fact(fact.name, fact.text, fact.tip)

    def _show(self) -> None:
        ready = "" if self.table else "Choose a gene table first."
        summing = "all rows" if self.sum.isChecked() else "choose one"
        self.samples.setPlaceholderText(summing if self.table else "none")
        summed = "All rows are summed, so no sample is chosen."
        barred = ready or (summed if self.sum.isChecked() else "")
        allow(self.samples, tip="Guessed from the slide's name", obstacle=barred)
        tip = "For tables of spots or cells of one patient: adds up their counts"
        allow(self.sum, tip=tip, obstacle=ready or counts_only(self.table))
        if self.path is None:
            self.report.say(SLIDE_ONLY)
        self.changed.emit()


def counts_only(table: GeneTable | None) -> str:
    """Return why the rows of a table cannot be summed, "" if they can."""
    if table is None or table.scale == "counts":
        return ""
    return f"Only counts can be summed; this table holds {table.scale} values."


def _read_table(path: Path) -> GeneTable:
    from napari_gimp.genes.table import read_table

    return read_table(path)
