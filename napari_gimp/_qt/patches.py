"""Which patches of the tissue are looked at: how dense, how many, how long it takes."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from psygnal import Signal
from qtpy.QtCore import QSignalBlocker, QTimer
from qtpy.QtWidgets import QCheckBox, QDoubleSpinBox, QPushButton, QSpinBox

from napari_gimp._qt.parts import Dock, Notice, allow, quiet, row
from napari_gimp._qt.patches_count import (
    Counted,
    Seen,
    count,
    count_line,
    patch_line,
    seen_by,
)
from napari_gimp._qt.scene import Scene
from napari_gimp._qt.tissue_search import tissue_job
from napari_gimp.sample_data import cache_folder

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_gimp.explain.models import ListedModel
    from napari_gimp.jobs import Job

TITLE = "3  Patches"
UNKNOWN = "unknown: choose a model"
NO_TISSUE = "Patches are counted once the tissue is found."
NO_ENCODER = "Patches are counted once a model is chosen whose card names its encoder."
COUNTING = "Counting patches…"
ELSEWHERE = (
    "The model's features came from another tool: its patches lie where that tool has "
    "cut them, and tissue and patch settings are not used."
)
SETTLE_MS = 150
"""A number counts once it was left alone that long."""


class PatchChoice:
    """The patch rows of a dock.

    Parameters
    ----------
    scene
        The viewer's scene.
    dock
        The dock; the rows get a section of it.
    take_whole_slide
        Called where the user takes the whole slide for tissue.
    """

    changed = Signal()

    def __init__(
        self, scene: Scene, dock: Dock, take_whole_slide: Callable[[], None]
    ) -> None:
        self._scene, self._dock = scene, dock
        self._take_whole_slide = take_whole_slide
        self.session = scene.session
        self.counting: Job[Counted] | None = None
        self.counted: Counted | None = None
        self._seen: Seen | None = None
        self._build(dock)
        self._listen(dock)
        self._count()

    def _build(self, dock: Dock) -> None:
        form = dock.section(TITLE)
        self.side = quiet(UNKNOWN)
        self.side.setToolTip("The side that the model's encoder was trained with")
        self.stride = QDoubleSpinBox()
        self.stride.setRange(0, 10_000)
        self.stride.setDecimals(1)
        self.stride.setSingleStep(16)
        self.stride.setSuffix(" µm")
        self.stride.setSpecialValueText("side by side")
        self.stride.setToolTip("Distance of neighbouring patches; smaller ones overlap")
        self.least = QSpinBox()
        self.least.setRange(0, 100)
        self.least.setSingleStep(5)
        self.least.setSuffix(" %")
        self.least.setToolTip("A patch with less tissue is left out")
        for number in (self.stride, self.least):
            number.setKeyboardTracking(False)
        self.preview = QCheckBox("Show patches")
        self.line, self.relax = Notice(), QPushButton()
        form.add("Patch", self.side)
        form.add("Distance", self.stride)
        form.add("Least tissue", row(self.least, self.preview))
        form.addRow(self.line)
        form.addRow(self.relax)
        self._show_plan()

    def _listen(self, dock: Dock) -> None:
        self._soon = QTimer(dock)
        self._soon.setSingleShot(True)
        self._soon.setInterval(SETTLE_MS)
        self._soon.timeout.connect(self._count)
        dock.hear(self.session.events.tissue, self._count)
        dock.hear(self.session.events.plan, self._show_plan)
        dock.hear(self.session.events.result, self._learn_time)
        self.stride.valueChanged.connect(self._take_numbers)
        self.least.valueChanged.connect(self._take_numbers)
        self.preview.toggled.connect(self._count)
        self.relax.clicked.connect(self._relax)

    @property
    def is_about_to_count(self) -> bool:
        """Whether a number changed that is not taken up yet."""
        return self._soon.isActive()

    def fit_to(self, model: ListedModel | None) -> None:
        """Take the patches of a model's encoder."""
        seen = None if model is None else seen_by(model.card)
        if seen != self._seen:
            self._seen = seen
            self.side.setText(patch_line(seen) if seen else UNKNOWN)
            self._count()

    def obstacle(self) -> str:
        """Return why an analysis cannot start, "" if it can."""
        return "" if self.counted is None else self.counted.shortage

    def _take_numbers(self) -> None:
        stride = self.stride.value() or None
        plan = replace(
            self.session.plan, stride_um=stride, min_tissue=self.least.value() / 100
        )
        if plan != self.session.plan:
            self.session.plan = plan
            self._soon.start()

    def _learn_time(self) -> None:
        """Estimate anew once the first run has told how fast the encoder is."""
        estimate = None if self.counted is None else self.counted.estimate
        if self.session.result and estimate and estimate.seconds is None:
            self._count()

    def _show_plan(self) -> None:
        """Show the plan's numbers, as after a remedy."""
        plan = self.session.plan
        with QSignalBlocker(self.stride), QSignalBlocker(self.least):
            self.stride.setValue(plan.stride_um or 0)
            self.least.setValue(round(plan.min_tissue * 100))

    def _count(self) -> None:
        self._soon.stop()
        if self.counting is not None:
            self.counting.cancel()
        self.counting = self.counted = self.session.patches = None
        tissue, seen = self.session.tissue, self._seen
        if tissue is not None and seen is not None and not seen.is_imported:
            store = cache_folder() / "features"
            preview = self.preview.isChecked()
            plan = self.session.plan
            self._start(partial(count, tissue, plan, seen, store, preview=preview))
        else:
            self._scene.plan_layers.show_squares(None, None)
        self._show()

    def _start(self, work: Callable[[], Counted]) -> None:
        self.counting = job = tissue_job(work)
        take, fail = partial(self._take, job.number), partial(self._fail, job.number)
        self._dock.hear(job.event, take, thread="main")
        self._dock.hear(job.failed, fail, thread="main")
        job.start()

    def _take(self, number: int, counted: Counted) -> None:
        if self.counting is None or self.counting.number != number:
            return
        self.counting, self.counted = None, counted
        self._scene.plan_layers.show_squares(counted.drawing, self.session.mpp)
        self.session.patches = counted.patches
        self._show()

    def _fail(self, number: int, error: Exception) -> None:
        if self.counting is not None and self.counting.number == number:
            self.counting = None
            self._show()
            self.line.say(str(error), "error")

    def _relax(self) -> None:
        remedy = None if self.counted is None else self.counted.remedy
        if remedy is None:
            return
        if remedy.plan is None:
            self._take_whole_slide()
        else:
            self.session.plan = remedy.plan
            self._count()

    def _show(self) -> None:
        counted, seen = self.counted, self._seen
        self.relax.setVisible(bool(counted and counted.remedy))
        self.line.setToolTip("")
        if seen is not None and seen.is_imported:
            self.line.say(ELSEWHERE)
        elif counted is None:
            self.line.say(self._why_not())
        elif counted.patches is None or counted.estimate is None:
            self.line.say(counted.shortage, "error")
            self.relax.setText(counted.remedy.text if counted.remedy else "")
        else:
            self.line.say(count_line(len(counted.patches), counted.estimate))
            self.line.setToolTip(f"Judged from {counted.estimate.from_}")
        tip = "Blue squares, each one patch (of overlapping ones, their cells)"
        allow(self.preview, tip=tip, obstacle="" if seen else NO_ENCODER)
        self.changed.emit()

    def _why_not(self) -> str:
        if self.counting is not None:
            return COUNTING
        return NO_ENCODER if self._seen is None else NO_TISSUE
