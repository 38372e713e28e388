"""Which expression profile goes with the slide: a table's sample, or none."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from psygnal import Signal
from qtpy.QtWidgets import QCheckBox, QComboBox

from napari_gimp._qt.parts import Dock, Notice, PathField, allow, ask_file
from napari_gimp._qt.scene import Scene
from napari_gimp.jobs import Job, read_job
from napari_gimp.session import guess_sample, looks_like_spots

if TYPE_CHECKING:
    from napari_gimp.genes.table import GeneTable

PATTERNS = "Gene tables (*.csv *.tsv *.txt *.gz *.zip);;All files (*)"
SLIDE_ONLY = "Without a gene table the slide alone is analysed."


class GeneChoice:
    """The gene rows of a dock; the table is read in the background.

    Parameters
    ----------
    scene
        The viewer's scene.
    dock
        The dock; the rows get a section of it.
    """

    changed = Signal()

    def __init__(self, scene: Scene, dock: Dock) -> None:
        self._scene, self._dock = scene, dock
        form = dock.section("2  Genes")
        self.table: GeneTable | None = None
        self.reading: Job[GeneTable] | None = None
        self._wanted: str | None = None
        ask = ask_file("Choose a gene table", PATTERNS)
        self.field = PathField("none: slide only", ask, self._read)
        self.samples, self.sum = QComboBox(), QCheckBox("Sum all rows (pseudobulk)")
        self.report = Notice()
        form.add("Gene table", self.field)
        form.add("Sample", self.samples)
        form.add("", self.sum)
        dock.add(self.report)
        self.samples.currentIndexChanged.connect(lambda: self.changed.emit())
        self.sum.toggled.connect(self._guess)
        self.sum.toggled.connect(self._show)
        dock.hear(scene.session.events.slide, self._guess)
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
        if self.path is None:
            return ""
        if self.reading is not None:
            return "The gene table is still being read."
        if self.table is None:
            return "The gene table cannot be used. Choose another one, or none."
        if self.sample is None and not self.pseudobulk:
            return "Choose the sample that belongs to this slide."
        return ""

    def choose(self, path: Path | None, sample: str | None = None) -> None:
        """Fill in a table and, once it is read, a sample."""
        self._wanted = sample
        self.field.set_path(path)

    def _read(self, path: Path | None) -> None:
        self.table, self.reading = None, None
        self.samples.clear()
        if path is not None:
            self.report.say(f"Reading {path.name}…")
            self._start(path)
        self._show()

    def _start(self, path: Path) -> None:
        self.reading = job = read_job(lambda: _read_table(path))
        taken, failed = partial(self._take, job.number), partial(self._fail, job.number)
        self._dock.hear(job.event, taken, thread="main")
        self._dock.hear(job.failed, failed, thread="main")
        job.start()

    def _take(self, number: int, table: GeneTable) -> None:
        if self.reading is None or self.reading.number != number:
            return
        self.table, self.reading = table, None
        self.samples.blockSignals(True)  # nobody may take the first for the chosen one
        self.samples.addItems(list(table.samples))
        self.sum.setChecked(looks_like_spots(table.samples))
        self._guess()
        self._wanted = None  # the next slide is another patient's
        self.samples.blockSignals(False)
        self._show()

    def _fail(self, number: int, error: Exception) -> None:
        if self.reading is not None and self.reading.number == number:
            self.reading = None
            self._show()
            self.report.say(str(error), "error")

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
        elif self.table is not None:
            self.report.say(table_line(self.table))
        self.changed.emit()


def table_line(table: GeneTable) -> str:
    """Return what was found in a table."""
    rows, genes = len(table.samples), len(table.genes)
    what = "spot" if looks_like_spots(table.samples) else "sample"
    what += "s" if rows != 1 else ""
    line = f"{rows:,} {what} × {genes:,} genes, scale: {table.scale}."
    return "\n".join((line, *table.notes))


def counts_only(table: GeneTable | None) -> str:
    """Return why the rows of a table cannot be summed, "" if they can."""
    if table is None or table.scale == "counts":
        return ""
    return f"Only counts can be summed; this table holds {table.scale} values."


def _read_table(path: Path) -> GeneTable:
    from napari_gimp.genes.table import read_table

    return read_table(path)
