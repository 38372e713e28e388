"""The Analyse dock: slide, tissue, patches, genes, model, run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QProgressBar, QPushButton
from superqt.utils import qthrottled

from napari_gimp._qt.gene_choice import GeneChoice
from napari_gimp._qt.model_choice import ModelChoice
from napari_gimp._qt.pace import Pace, advance
from napari_gimp._qt.parts import Dock, Notice, allow, quiet, row
from napari_gimp._qt.patches import PatchChoice
from napari_gimp._qt.scene import scene_of
from napari_gimp._qt.slide_choice import SlideChoice
from napari_gimp._qt.tissue import TissueChoice
from napari_gimp.errors import SlideError
from napari_gimp.patches.brightfield import check_brightfield

if TYPE_CHECKING:
    from napari_gimp.explain.inference import Event, Request

PAINT_MS = 100
"""Shortest time between two paints of the progress, which may come faster."""
Analyse = Callable[["Request"], Iterator["Event"]]


class AnalyseDock(Dock):
    """Choose a slide, its patches, genes and a model; run and watch.

    Parameters
    ----------
    napari_viewer
        The viewer, or napari's proxy of it.
    analyse
        What to run; `explain.inference.analyse` if None.
    """

    def __init__(self, napari_viewer: Any, analyse: Analyse | None = None) -> None:
        super().__init__()
        self._scene = scene_of(napari_viewer)
        self.session = self._scene.session
        self._analyse = analyse or _analyse
        self._pace: Pace | None = None
        self._start_when_ready = False
        self._unfit_told = ""
        self._build()
        self._listen()
        self._show_job()

    def _build(self) -> None:
        self.slide = SlideChoice(self._scene, self)
        self.tissue = TissueChoice(self._scene, self)
        whole = self.tissue.take_whole_slide
        self.patches = PatchChoice(self._scene, self, whole)
        self.genes = GeneChoice(self._scene, self)
        self.model = ModelChoice(self)
        self._fit_to_model()
        self.fill()
        self.run, self.cancel = QPushButton("Run"), QPushButton("Cancel")
        self.bar, self.stage, self.notice = QProgressBar(), quiet(), Notice()
        self.bar.setTextVisible(False)
        buttons = row(self.run, self.cancel)
        self.keep_in_sight("6  Run", buttons, self.bar, self.stage, self.notice)

    def _listen(self) -> None:
        events = self.session.events
        self.hear(events.job, self._show_job)
        self._soon = qthrottled(self._show_progress, timeout=PAINT_MS)
        self.hear(events.progress, self._hear_progress)
        self.hear(events.error, self._show_error)
        self.hear(events.warnings, self._show_warnings)
        self.hear(events.result, self._show_end)
        self.model.changed.connect(self._fit_to_model)
        choices = (self.slide, self.tissue, self.patches, self.genes, self.model)
        for choice in choices:
            choice.changed.connect(self._show_job)
            choice.changed.connect(self._start_if_ready)
        self.run.clicked.connect(self.start)
        self.cancel.clicked.connect(self._cancel)
        self.hear(self._scene.run_asked, self._run_by_key)
        self.hear(self._scene.cancel_asked, self._show_cancelling)
        self.destroyed.connect(self.session.cancel)  # nobody could stop it any more

    def _fit_to_model(self) -> None:
        """Lay the patches and compare the genes that the chosen model takes."""
        self.patches.fit_to(self.model.listed)
        self.genes.fit_to(self.model.listed)

    def prepare(self, genes: Path | None, sample: str | None, *, start: bool) -> None:
        """Fill in a gene table and a sample; with `start`, run when all is read."""
        self._start_when_ready = start
        self.genes.choose(genes, sample)
        self._start_if_ready()

    def start(self) -> None:
        """Run the analysis of what is chosen; nothing happens while that is barred."""
        if not self.obstacle():
            self._pace = None
            self.notice.clear()
            self.stage.setText("Starting…")
            self.session.analyse(partial(self._analyse, self.request()))

    def request(self) -> Request:
        """Return what is chosen."""
        from napari_gimp.explain.inference import Request
        from napari_gimp.sample_data import cache_folder

        assert self.session.slide is not None
        return Request(
            slide=self.session.slide,
            model=self.model.chosen,
            genes=self.genes.path,
            sample=self.genes.sample,
            pseudobulk=self.genes.pseudobulk,
            allow_missing=self.genes.allow_missing,
            plan=self.session.plan,
            mpp=self._scene.asked_mpp,
            srgb=self.session.srgb,
            store=cache_folder() / "features",
        )

    def obstacle(self) -> str:
        """Return why the analysis cannot start, "" if it can."""
        if self.session.job is not None:
            return "An analysis is running. Cancel it or wait for its end."
        if self.session.slide is None:
            return "No slide is chosen. Open one, or drop its file on the canvas."
        if barred := self._unfit():
            return barred
        if self.session.mpp is None:
            return "How large a pixel is, is not known. Answer in the Slide dock."
        choices = (self.tissue, self.patches, self.genes, self.model)
        return next(filter(None, (choice.obstacle() for choice in choices)), "")

    def _unfit(self) -> str:
        """Return why no model takes the slide, as fluorescence; "" if one may."""
        view = self._scene.view
        try:
            if view is not None:
                check_brightfield(view.source)
        except SlideError as error:
            return str(error)
        return ""

    def _tell_unfit(self) -> None:
        """Say in place why the slide cannot be analysed, until another is chosen."""
        if (unfit := self._unfit()) != self._unfit_told:
            self._unfit_told = unfit
            self.notice.say(unfit, "warning")

    def _start_if_ready(self) -> None:
        if self._start_when_ready and not self.obstacle():
            self._start_when_ready = False
            self.start()

    def _show_job(self) -> None:
        self._tell_unfit()
        job, obstacle = self.session.job, self.obstacle()
        allow(self.run, tip="Find tissue, compute features, explain", obstacle=obstacle)
        idle = "" if job else "Nothing is running."
        allow(self.cancel, tip="Stop after the current step", obstacle=idle)
        self.bar.setVisible(job is not None)
        if job is None:
            self.bar.setRange(0, 1)
            self.bar.reset()
            self.stage.clear()

    def _hear_progress(self) -> None:
        self._soon()

    def _show_progress(self) -> None:
        event = self.session.progress
        if event is None or self.session.job is None:
            return
        now_s = time.monotonic()
        self._pace = advance(
            self._pace, event.stage, event.done, event.total, now_s=now_s
        )
        steps = self._pace.total if self._pace.total > 1 else 0  # 0: busy, no end known
        self.bar.setRange(0, steps)
        self.bar.setValue(self._pace.done)
        self.stage.setText(self._pace.text)

    def _show_end(self) -> None:
        if self.session.result is not None:
            self.notice.say("Done. See Results, Maps and Genes.")

    def _show_warnings(self) -> None:
        if self.session.warnings:
            self.notice.say("\n".join(self.session.warnings), "warning")

    def _show_error(self) -> None:
        error = self.session.error
        self.notice.say("" if error is None else error_text(error), "error")

    def _run_by_key(self) -> None:
        if obstacle := self.obstacle():
            self.notice.say(obstacle, "warning")
        self.start()

    def _cancel(self) -> None:
        self.session.cancel()
        self._show_cancelling()

    def _show_cancelling(self) -> None:
        if self.session.job is None:
            return
        allow(self.cancel, tip="", obstacle="Cancelling; the current step ends first.")
        self.stage.setText("Cancelling…")


def error_text(error: Exception) -> str:
    """Return what happened, what was kept and what to do next."""
    from napari_gimp.errors import GimpError

    if isinstance(error, GimpError):
        return str(error)
    return (
        f"The analysis stopped at an unexpected error: {type(error).__name__}: "
        f"{error}\nThe slide and the maps shown so far are kept. Run it again; if it "
        "stops again, report this text."
    )


def _analyse(request: Request) -> Iterator[Event]:
    from napari_gimp.explain.inference import analyse  # torch: on the model thread

    yield from analyse(request)
