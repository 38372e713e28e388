"""The Train dock: describe a run, start it as its own process, watch it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QCheckBox, QPushButton, QWidget
from superqt import QCollapsible

from napari_gimp._qt.chart import Chart
from napari_gimp._qt.parts import (
    Dock,
    Form,
    Notice,
    PathField,
    allow,
    ask_file,
    quiet,
    row,
)
from napari_gimp._qt.train_curve import draw_curves, status
from napari_gimp._qt.train_form import TrainForm, lay_out
from napari_gimp.errors import GimpError
from napari_gimp.training.events import Event, Tail
from napari_gimp.training.launch import launch, running_pid
from napari_gimp.training.run import RunConfig, RunFolder

POLL_MS = 500


class TrainDock(Dock):
    """Fill in a run (or choose a run.toml), start it, stop it, see its curves.

    Parameters
    ----------
    napari_viewer
        The viewer; training needs nothing of it.
    """

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__()
        self._folder: RunFolder | None = None
        self._tail: Tail | None = None
        self._events: list[Event] = []
        self._launched = False
        self._build()
        self._timer = QTimer(self)
        self._timer.timeout.connect(self._poll)
        self._show()

    def _build(self) -> None:
        ask = ask_file("Choose a run", "Run (run.toml);;TOML files (*.toml)")
        self.run_file = PathField("optional: a run.toml", ask, self._read)
        self.section("Run").add("From file", self.run_file)
        self.form = TrainForm()
        self._add_form()
        self.start, self.stop = QPushButton("Start"), QPushButton("Stop")
        self.resume = QCheckBox("Resume from the last checkpoint")
        self.state, self.notice = quiet(), Notice()
        self.chart = Chart()
        self.add(self.resume, row(self.start, self.stop))
        self.add(self.notice, self.state, self.chart)
        self.fill()
        self.start.clicked.connect(self._start)
        self.stop.clicked.connect(self._stop)

    def _add_form(self) -> None:
        for title, group in (
            ("1  Data and folder", self.form.cohort),
            ("2  Starting point", self.form.start),
            ("3  Plan", self.form.usual),
        ):
            lay_out(group, self.section(title))
            group.changed.connect(self._show)
        more = QCollapsible("More")
        rare = QWidget()
        form = Form()
        rare.setLayout(form)
        lay_out(self.form.rare, form)
        more.addWidget(rare)
        self.add(more)

    def _read(self, path: Path | None) -> None:
        if path is None:
            return
        try:
            config = RunConfig.read(path)
        except GimpError as error:
            self.notice.say(str(error), "error")
            return
        self.notice.clear()
        self.form.fill(config)
        self._watch(config.folder)

    def _start(self) -> None:
        try:
            config = self.form.config()
            # Not run.toml: that of a run which is there must outlive a refusal.
            path = config.write(config.folder.asked)
            launch(path, resume=self.resume.isChecked())
        except GimpError as error:
            self.notice.say(str(error), "error")
            return
        self._launched = True
        self.notice.say("Training runs in its own process; closing napari is safe.")
        self._watch(config.folder)

    def _stop(self) -> None:
        if self._folder is not None:
            self._folder.request_stop()
            self.notice.say("Asked for a clean end; the current epoch is finished.")

    def _watch(self, folder: RunFolder) -> None:
        self._folder, self._tail, self._events = folder, Tail(folder.events), []
        self._timer.start(POLL_MS)
        self._poll()

    def _poll(self) -> None:
        assert self._tail is not None
        new = self._tail.read()
        self._events += new
        if new:
            self.chart.show_figure(draw_curves(self._events))
        self._show()
        if not self._running():
            self._timer.stop()
            self._tell_end()

    def _tell_end(self) -> None:
        """Say why a run of ours failed; its last words where it left no event."""
        last = self._events[-1] if self._events else None
        if last is not None and last.kind == "failed":
            self.notice.say(last.text, "error")
        elif last is not None and last.ends:
            self.notice.clear()
        elif self._launched and self._folder is not None:
            self.notice.say(last_words(self._folder.log), "error")

    def _running(self) -> bool:
        return self._folder is not None and running_pid(self._folder.root) is not None

    def _show(self) -> None:
        running = self._running()
        busy = "This run is training already." if running else ""
        barred = busy or self.form.missing()
        allow(self.start, tip="Start a training process", obstacle=barred)
        idle = "" if running else "Nothing is training."
        allow(self.stop, tip="End cleanly after this epoch; keeps it", obstacle=idle)
        used = self._folder is not None and self._folder.used
        fresh = "" if used else "Nothing to resume: the run folder has no run yet."
        allow(self.resume, tip="Go on with the same plan", obstacle=busy or fresh)
        self.state.setText(status(self._events, running))


def last_words(log: Path) -> str:
    """Return the last line that a training process wrote, and where all of it is."""
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    last = next((line for line in reversed(lines) if line.strip()), "no output")
    return f"{last.strip()}\nAll its output is in {log}."
