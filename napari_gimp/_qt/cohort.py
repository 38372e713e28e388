"""The Cohort dock: features of many slides, here or on a cluster, slide by slide.

It does what `napari-gimp features` does, and shows the command.
"""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from qtpy.QtGui import QDragEnterEvent, QDropEvent
from qtpy.QtWidgets import (
    QApplication,
    QCheckBox,
    QDoubleSpinBox,
    QLineEdit,
    QProgressBar,
    QPushButton,
    QSpinBox,
    QWidget,
)

from napari_gimp._qt.cohort_encoder import EncoderChoice
from napari_gimp._qt.cohort_order import Order, extract
from napari_gimp._qt.cohort_pace import CohortPace
from napari_gimp._qt.cohort_slides import CohortSlides
from napari_gimp._qt.cohort_table import CohortTable, about
from napari_gimp._qt.exchange import SUFFIXES, ImportPanel
from napari_gimp._qt.folded import Folded
from napari_gimp._qt.parts import (
    Dock,
    Form,
    Notice,
    PathField,
    allow,
    ask_folder,
    dropped_path,
    quiet,
    row,
)
from napari_gimp._qt.scene import scene_of
from napari_gimp._qt.wording import count, failure
from napari_gimp.cohorts.states import SlideState, State
from napari_gimp.jobs import Job
from napari_gimp.patches.plan import PatchPlan
from napari_gimp.sample_data import cache_folder

THREAD = "gimp-model-cohort"
"""Hours of features must not keep an analysis of one slide waiting."""
STEPS = 1000
RUNNING = "Features are being made. Cancel, or wait for the end."
LOADING = "Loading the encoder…"
SIDE_BY_SIDE = "the side of a patch"
AREAS = "Annotations and masks (*.geojson *.json *.png *.tif *.tiff);;All files (*)"


class CohortDock(Dock):
    """Name slides and an encoder, see what is wrong with them, make features.

    Parameters
    ----------
    napari_viewer
        The viewer, or napari's proxy of it.
    """

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__()
        self._scene = scene_of(napari_viewer)
        self.job: Job[SlideState] | None = None
        self.pace: CohortPace | None = None
        self._build()
        self._listen()
        self._show()

    def _build(self) -> None:
        self.slides = CohortSlides(self, self.section("1  Slides"), self._order_of)
        self.table, self.detail = CohortTable(), Notice()
        self.add(self.table, self.detail)
        self.encoder = EncoderChoice(self, self.section("2  Encoder"))
        self._build_patches(self.section("3  Patches"))
        self._build_place(self.section("4  Features"))
        self.section("Features of other tools")
        self.imports = ImportPanel(self, self._scene, lambda: self.store.path)
        self.importing = Folded("Import a file of CLAM, TRIDENT or STAMP", self.imports)
        self.add(self.importing)
        self.fill()
        self._build_run()
        self.setAcceptDrops(True)
        self._inputs = [(widget, widget.toolTip()) for widget in self._widgets()]
        self.store.set_path(cache_folder() / "features")

    def _widgets(self) -> tuple[QWidget, ...]:
        """Return what says which features are to be made."""
        return (
            *(self.slides.field, self.slides.folder),
            *(self.encoder.names, self.encoder.browse),
            *(self.tissue, self.stride, self.include, self.exclude),
            *(self.inside_classes, self.outside_classes),
            *(self.store, self.srgb, self.scheduler),
        )

    def _build_run(self) -> None:
        self.start, self.cancel = QPushButton("Start"), QPushButton("Cancel")
        self.copy = QPushButton("Copy command")
        self.bar, self.stage, self.notice = QProgressBar(), quiet(), Notice()
        self.bar.setTextVisible(False)
        self.bar.setRange(0, STEPS)
        buttons = row(self.start, self.cancel, self.copy)
        self.keep_in_sight("5  Run", buttons, self.bar, self.stage, self.notice)

    def _build_patches(self, form: Form) -> None:
        self.tissue, self.stride = QSpinBox(), QDoubleSpinBox()
        self.tissue.setRange(0, 100)
        self.tissue.setValue(round(100 * PatchPlan().min_tissue))
        self.tissue.setSuffix(" %")
        self.tissue.setToolTip("A patch with less tissue than this is left out")
        self.stride.setRange(0, 5000)
        self.stride.setDecimals(1)
        self.stride.setSuffix(" µm")
        self.stride.setSpecialValueText(SIDE_BY_SIDE)
        self.stride.setToolTip("From one patch to the next; less makes them overlap")
        form.add("Least tissue", self.tissue)
        form.add("Distance", self.stride)
        self.include, self.exclude = (self._area() for _ in range(2))
        inside, areas = QWidget(), Form()
        inside.setLayout(areas)
        self.inside_classes, self.outside_classes = (self._classes() for _ in range(2))
        areas.add("Only inside", self.include)
        areas.add("Classes", self.inside_classes)
        areas.add("Leave out", self.exclude)
        areas.add("Classes", self.outside_classes)
        self.areas = Folded("Annotations or masks", inside)
        self.areas.setToolTip(
            "One file for all, or a folder with one named as each slide"
        )
        form.addRow(self.areas)

    def _area(self) -> PathField:
        ask = ask_folder("Choose a folder with a file for each slide")
        return PathField("file, or folder of files", ask, lambda _: self.slides.check())

    def _classes(self) -> QLineEdit:
        names = QLineEdit()
        names.setPlaceholderText("all")
        names.setToolTip("Names of QuPath's classes, separated by commas")
        names.editingFinished.connect(self._check_classes)
        return names

    def _check_classes(self) -> None:
        """Look into the slides again if other classes count now."""
        if self.slides.checked and self.slides.checked.plan != self.plan:
            self.slides.check()

    def _build_place(self, form: Form) -> None:
        ask = ask_folder("Choose the folder that keeps features")
        self.store = PathField("folder", ask, lambda _: self._show())
        self.srgb = QCheckBox("Convert to sRGB (ICC)")
        self.srgb.setToolTip("Convert colours from the slides' own profiles")
        self.scheduler = QLineEdit()
        self.scheduler.setPlaceholderText("none: on this computer")
        self.scheduler.setToolTip(
            "Address of a dask cluster, such as tcp://host:8786, that sees slides and "
            "features under the same paths"
        )
        form.add("Kept in", self.store)
        form.add("Colours", self.srgb)
        form.add("Cluster", self.scheduler)

    def _listen(self) -> None:
        self.slides.changed.connect(self._show_slides)
        self.slides.told.connect(self._show_state)
        self.encoder.changed.connect(self._show)
        self.start.clicked.connect(self._start)
        self.cancel.clicked.connect(self._cancel)
        self.copy.clicked.connect(self._copy)
        if (selection := self.table.selectionModel()) is not None:
            selection.selectionChanged.connect(self._show_detail)
        self.hear(self._scene.cancel_asked, self._cancel)

    def dragEnterEvent(self, event: QDragEnterEvent | None) -> None:  # noqa: N802 # Qt's
        """Take files."""
        if event is not None and dropped_path(event):
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent | None) -> None:  # noqa: N802 # Qt's name
        """Read a feature file that is dropped; anything else names the slides."""
        path = dropped_path(event) if event is not None else None
        if path is not None and path.suffix.lower() in SUFFIXES:
            self.importing.open()
            self.imports.choose(path)
        elif path is not None and self.job is None:
            self.slides.field.set_path(path)

    @property
    def plan(self) -> PatchPlan:
        """Where patches are to lie."""
        include, exclude = self.include.path, self.exclude.path
        inside, outside = names_in(self.inside_classes), names_in(self.outside_classes)
        return PatchPlan(
            stride_um=self.stride.value() or None,
            min_tissue=self.tissue.value() / 100,
            include=(include,) if include else (),
            exclude=(exclude,) if exclude else (),
            include_labels=inside if include else (),
            exclude_labels=outside if exclude else (),
        )

    def order(self) -> Order | None:
        """Return what is asked for, None while slides or store are missing."""
        path = self.slides.path
        ready = path is not None and self.store.path is not None and self.encoder.name
        return self._order_of(path) if ready and path is not None else None

    def _order_of(self, path: Path) -> Order:
        return Order(
            path,
            self.encoder.name,
            self.store.path or cache_folder(),
            self.plan,
            self.srgb.isChecked(),
            self.scheduler.text().strip(),
        )

    def obstacle(self) -> str:
        """Return why features cannot be made, "" if they can."""
        if self.job is not None:
            return RUNNING
        if barred := self.slides.obstacle() or self.encoder.obstacle():
            return barred
        return "" if self.store.path else "Choose the folder that keeps the features."

    def _start(self) -> None:
        order, entries = self.order(), self.slides.entries
        if order is None or self.obstacle():
            return
        self.notice.clear()
        self.table.slides.reset(entries)
        self.pace = CohortPace(len(entries))
        self.job = job = Job(lambda: extract(order, entries), thread=THREAD)
        self.hear(job.event, partial(self._take, job.number), thread="main")
        self.hear(job.failed, partial(self._fail, job.number), thread="main")
        self.hear(job.finished, partial(self._end, job.number), thread="main")
        self.hear(job.cancelled, partial(self._end, job.number), thread="main")
        self.destroyed.connect(job.cancel)  # nobody could stop it any more
        begin = "Connecting to the cluster…" if order.scheduler else LOADING
        self.stage.setText(begin)
        self.bar.setRange(0, 0)  # busy, no end known
        self._show()
        job.start()

    def _take(self, number: int, state: SlideState) -> None:
        if self.job is None or self.job.number != number or self.pace is None:
            return
        self.pace.hear(state, time.monotonic())
        self._show_state(state)
        if not self.job.is_cancelling:
            self.bar.setRange(0, STEPS)
            part = self.pace.patches / max(self.pace.expected, 1)
            self.bar.setValue(round(STEPS * min(part, 1)))
            self.stage.setText(self.pace.text)

    def _fail(self, number: int, error: Exception) -> None:
        if self.job is not None and self.job.number == number:
            self.job = None
            self._show()
            self.notice.say(failure(error, "What was made is kept."), "error")

    def _end(self, number: int) -> None:
        if self.job is None or self.job.number != number or self.pace is None:
            return
        self.job = None
        self._close_open_states()
        self._show()
        self.notice.say(*ending(self.pace))

    def _close_open_states(self) -> None:
        """Show as cancelled what has not ended by now."""
        assert self.pace is not None
        for number in range(self.pace.slides):
            state = self.table.slides.states[number]
            if not state.ended:
                cancelled = replace(state, state=State.CANCELLED)
                self.pace.hear(cancelled, time.monotonic())
                self._show_state(cancelled)

    def _cancel(self) -> None:
        if self.job is not None:
            self.job.cancel()
            self.stage.setText("Cancelling…")
            self._show()

    def _copy(self) -> None:
        order, clipboard = self.order(), QApplication.clipboard()
        if order is not None and clipboard is not None:
            clipboard.setText(order.command)
            self.notice.say(f"Copied:\n{order.command}")

    def _show_slides(self) -> None:
        if self.table.slides.entries != self.slides.entries:
            self.table.slides.reset(self.slides.entries)
        self._show()

    def _show_state(self, state: SlideState) -> None:
        self.table.slides.take(state)
        self._show_detail()

    def _show_detail(self) -> None:
        slides = self.table.slides
        trouble = (State.FAILED, State.DAMAGED)
        bad = [s for s in slides.states if s.state in trouble]
        number = self.table.chosen
        if number is not None:
            state = slides.states[number]
            tone = "warning" if state.state in trouble else "note"
            self.detail.say(about(slides.entries[number], state), tone)
        elif len(bad) == 1:
            self.detail.say(about(slides.entries[bad[0].number], bad[0]), "warning")
        elif bad:
            text = f"{len(bad):,} slides need a look: choose one to read why."
            self.detail.say(text, "warning")
        else:
            self.detail.clear()

    def _show(self) -> None:
        running = self.job is not None
        for widget, tip in self._inputs:
            allow(widget, tip=tip, obstacle=RUNNING if running else "")
        allow(self.start, tip="Make the features", obstacle=self.obstacle())
        idle = "" if running else "Nothing is running."
        if self.job is not None and self.job.is_cancelling:
            idle = "Cancelling; the current step ends first."
        allow(self.cancel, tip="Stop; what is stored stays", obstacle=idle)
        unready = "" if self.order() else "Choose slides and an encoder first."
        allow(self.copy, tip="The same as a command for a terminal", obstacle=unready)
        self.bar.setVisible(running)
        self.stage.setVisible(running)
        self.table.setVisible(bool(self.table.slides.entries))
        self._show_detail()


def names_in(field: QLineEdit) -> tuple[str, ...]:
    """Return the names of a list with commas."""
    return tuple(name for part in field.text().split(",") if (name := part.strip()))


def ending(pace: CohortPace) -> tuple[str, str]:
    """Return how a run ended, and the tone to say it in."""
    states = [state.state for state in pace.states.values()]
    parts = [f"{count(pace.slides, 'slide')}: {pace.tally}."]
    if State.CANCELLED in states:
        parts.append("What was made is kept; start again to go on from there.")
    if State.FAILED in states:
        parts.append("Mend the failed ones or leave them out; the others are kept.")
    doubtful = State.FAILED in states or State.DAMAGED in states
    return " ".join(parts), "warning" if doubtful else "note"
