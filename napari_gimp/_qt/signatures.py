"""How active sets of genes are in the patient: rows of the Genes dock."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QComboBox, QSpinBox

from napari_gimp._qt.chart import Chart
from napari_gimp._qt.parts import Dock, Notice, PathField, allow, ask_file, quiet
from napari_gimp._qt.signature_chart import Scored, Wanted, score
from napari_gimp._qt.wording import failure
from napari_gimp.jobs import Job, read_job
from napari_gimp.session import Session

if TYPE_CHECKING:
    from napari_gimp.genes.signatures import Method

NO_PROFILE = "Choose a gene table and a sample in the Analyse dock."
PATTERNS = "Gene sets (*.gmt);;All files (*)"
METHODS: tuple[tuple[str, Method], ...] = (
    ("Mean z of the genes", "mean z"),
    ("ssGSEA", "ssGSEA"),
)


class SignatureRows:
    """The signature rows of a dock; scores are made in the background.

    Parameters
    ----------
    session
        Whose profile and panel are used.
    dock
        The dock; the rows get a section of it.
    """

    def __init__(self, session: Session, dock: Dock) -> None:
        self._session, self._dock = session, dock
        self.scoring: Job[Scored] | None = None
        form = dock.section("Signatures of the patient")
        ask = ask_file("Choose gene sets", PATTERNS)
        self.sets = PathField("MSigDB hallmarks", ask, self._choose)
        self.method, self.count = QComboBox(), QSpinBox()
        for text, method in METHODS:
            self.method.addItem(text, method)
        self.count.setRange(5, 60)
        self.count.setValue(15)
        form.add("Gene sets", self.sets)
        form.add("Score", self.method)
        form.add("Sets shown", self.count)
        self.hint, self.chart, self.text = Notice(), Chart(), quiet()
        dock.add(self.hint, self.chart, self.text)
        self.sets.setToolTip("A GMT file; without one, the 50 hallmarks of MSigDB")
        self.method.currentIndexChanged.connect(self._score)
        self.count.valueChanged.connect(self._score)
        for signal in (session.events.profile, session.events.panel):
            dock.hear(signal, self._score)
        self._score()

    def _choose(self, _: Path | None) -> None:
        self._score()

    def _score(self) -> None:
        """Have the scores made in the background; the newest order wins."""
        self.scoring = None
        profile = self._session.profile
        obstacle = "" if profile else NO_PROFILE
        tip = "Those furthest from the middle, above or below"
        allow(self.count, tip=tip, obstacle=obstacle)
        allow(
            self.method, tip="What a score says is under the chart", obstacle=obstacle
        )
        if profile is None:
            self._clear(NO_PROFILE)
            return
        wanted = Wanted(
            profile,
            self._session.panel,
            self.method.currentData(),
            self.sets.path,
            self.count.value(),
        )
        self.scoring = job = read_job(lambda: score(wanted))
        self._dock.hear(job.event, partial(self._take, job.number), thread="main")
        self._dock.hear(job.failed, partial(self._fail, job.number), thread="main")
        job.start()

    def _clear(self, text: str, tone: str = "note") -> None:
        self.hint.say(text, tone)
        self.chart.clear()
        self.text.clear()

    def _take(self, number: int, scored: Scored) -> None:
        if self.scoring is not None and self.scoring.number == number:
            self.hint.clear()
            self.chart.show_figure(scored.figure)
            self.text.setText(scored.text)

    def _fail(self, number: int, error: Exception) -> None:
        if self.scoring is not None and self.scoring.number == number:
            self._clear(failure(error, "The table is kept."), "error")
