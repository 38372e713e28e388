"""Which expression profile goes with the slide: a table's sample, or none."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from psygnal import Signal
from qtpy.QtWidgets import QCheckBox, QComboBox

from napari_gimp._qt.parts import Form, Notice, PathField, allow, ask_file
from napari_gimp._qt.scene import Scene
from napari_gimp.jobs import Job, read_job
from napari_gimp.session import guess_sample, looks_like_spots

if TYPE_CHECKING:
    from napari_gimp.genes.table import GeneTable

PATTERNS = "Gene tables (*.csv *.tsv *.txt *.gz *.zip);;All files (*)"
SLIDE_ONLY = "Without a gene table the slide alone is analysed."


class GeneChoice:
    """The gene rows of a form; the table is read in the background.

    Parameters
    ----------
    scene
        The viewer's scene.
    form
        Where the rows go.
    """

    changed = Signal()

    def __init__(self, scene: Scene, form: Form) -> None:
        self._scene = scene
        self.table: GeneTable | None = None
        self.reading: Job[GeneTable] | None = None
        ask = ask_file("Choose a gene table", PATTERNS)
        self.field = PathField("none: slide only", ask, self._read)
        self.samples, self.sum = QComboBox(), QCheckBox("Sum all rows (pseudobulk)")
        self.report = Notice()
        form.add("Gene table", self.field)
        form.add("Sample", self.samples)
        form.add("", self.sum)
        self.sum.toggled.connect(self._show)
        scene.session.events.slide.connect(self._guess)
        self._show()

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

    def obstacle(self) -> str:
        """Return why an analysis cannot start, "" if it can."""
        if self.path is None or self.table is not None:
            return ""
        if self.reading is not None:
            return "The gene table is still being read."
        return "The gene table cannot be used. Choose another one, or none."

    def choose(self, path: Path | None, sample: str | None = None) -> None:
        """Fill in a table and, once it is read, a sample."""
        self._wanted = sample
        self.field.set_path(path)

    _wanted: str | None = None

    def _read(self, path: Path | None) -> None:
        self.table, self.reading = None, None
        self.samples.clear()
        if path is not None:
            self.report.say(f"Reading {path.name}…")
            self._start(path)
        self._show()

    def _start(self, path: Path) -> None:
        from functools import partial

        self.reading = job = read_job(lambda: _read_table(path))
        job.event.connect(partial(self._take, job.number), thread="main")
        job.failed.connect(partial(self._fail, job.number), thread="main")
        job.start()

    def _take(self, number: int, table: GeneTable) -> None:
        if self.reading is None or self.reading.number != number:
            return
        self.table, self.reading = table, None
        self.samples.addItems(list(table.samples))
        self.sum.setChecked(looks_like_spots(table.samples))
        self._guess()
        self._show()

    def _fail(self, number: int, error: Exception) -> None:
        if self.reading is not None and self.reading.number == number:
            self.reading = None
            self._show()
            self.report.say(str(error), "error")

    def _guess(self) -> None:
        slide, table = self._scene.session.slide, self.table
        if table is None:
            return
        guess = guess_sample(slide.stem, table.samples) if slide else None
        chosen = self._wanted or guess
        self.samples.setCurrentIndex(self.samples.findText(chosen) if chosen else 0)

    def _show(self) -> None:
        ready = "" if self.table else "Choose a gene table first."
        summed = "All rows are summed, so no sample is chosen."
        barred = ready or (summed if self.sum.isChecked() else "")
        allow(self.samples, tip="Guessed from the slide's name", obstacle=barred)
        tip = "For tables of spots or cells of one patient: adds up their counts"
        allow(self.sum, tip=tip, obstacle=ready or counts_only(self.table))
        if self.path is None:
            self.report.say(SLIDE_ONLY)
        elif self.table is not None:
            self.report.say(table_line(self.table))
        self.changed.emit()


def table_line(table: GeneTable) -> str:
    """Return what was found in a table."""
    rows, genes = len(table.samples), len(table.genes)
    return f"{rows:,} samples × {genes:,} genes, scale: {table.scale}."


def counts_only(table: GeneTable | None) -> str:
    """Return why the rows of a table cannot be summed, "" if they can."""
    if table is None or table.scale == "counts":
        return ""
    return f"Only counts can be summed; this table holds {table.scale} values."


def _read_table(path: Path) -> GeneTable:
    from napari_gimp.genes.table import read_table

    return read_table(path)
