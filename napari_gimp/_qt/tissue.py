"""Where the tissue is: found in the background, outlined, mended with the brush."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from psygnal import Signal
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QCheckBox, QPushButton, QWidget

from napari_gimp._qt.folded import Folded
from napari_gimp._qt.parts import Dock, Form, Notice, allow, row
from napari_gimp._qt.scene import Scene
from napari_gimp._qt.tissue_brush import HOW, Brush
from napari_gimp._qt.tissue_layers import OUTLINE
from napari_gimp._qt.tissue_regions import RegionRow
from napari_gimp._qt.tissue_search import (
    Found,
    Wanted,
    choose_painted,
    find,
    keep_and_find,
    tissue_job,
    tissue_line,
)
from napari_gimp.geometry import YX
from napari_gimp.patches.plan import PatchPlan

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_gimp.jobs import Job
    from napari_gimp.patches.tissue import Mask

TITLE = "2  Tissue"
NO_SLIDE = "Tissue is found when a slide is open whose µm/px is known."
LOOKING = "Looking for tissue…"
EDIT, DONE = "Edit", "Done"
RESET, BACK = "Reset", "My painting"
TAKE_AUTOMATIC = "Find the tissue automatically; what you painted is set aside"
TAKE_BACK = "Take what you painted again"
FOLD = "Only inside annotations, or without them"
INSIDE_TIP = "Only tissue inside these QuPath annotations (GeoJSON) or this mask image"
OUT_TIP = "No tissue inside these QuPath annotations (GeoJSON) or this mask image"


class TissueChoice:
    """The tissue rows of a dock.

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
        self.session = scene.session
        self.searching: Job[Found] | None = None
        self.found: Found | None = None
        self._wanted: Wanted | None = None
        self._laid_out: YX | None = None
        self._is_other_slide = True
        self._keeping = False
        self._painting: Path | None = None
        self._set_aside: Path | None = None
        self._error = ""
        self._build(dock)
        self._listen(dock)
        self._look()

    def _build(self, dock: Dock) -> None:
        form = dock.section(TITLE)
        self.line, self.hint = Notice(), Notice()
        self.outline = QCheckBox("Outline")
        self.outline.setToolTip("A green line round the tissue, over the slide")
        self.outline.setChecked(True)
        self.edit, self.reset = QPushButton(EDIT), QPushButton(RESET)
        inside = ("Only inside", "all tissue")
        outside = ("Leave out", "nothing")
        form.addRow(self.line)
        form.addRow(row(self.outline, self.edit, self.reset))
        form.addRow(self.hint)
        page, regions = QWidget(), Form()
        page.setLayout(regions)
        self.include = RegionRow(dock, regions, *inside)
        self.exclude = RegionRow(dock, regions, *outside)
        self.annotations = Folded(FOLD, page)
        form.addRow(self.annotations)
        self.brush = Brush(self._scene.viewer, dock)

    def _listen(self, dock: Dock) -> None:
        self._soon = QTimer(dock)  # one look for all that changes with a slide
        self._soon.setSingleShot(True)
        self._soon.setInterval(0)
        self._soon.timeout.connect(self._look)
        events = self.session.events
        dock.hear(events.slide, self._note_other_slide)
        for signal in (events.mpp, events.srgb, events.plan):
            dock.hear(signal, self._look_soon)
        for region in (self.include, self.exclude):
            region.changed.connect(self._take_regions)
            region.failed.connect(self._say_error)
            region.began.connect(self._show)
        self.outline.toggled.connect(self._show_outline)
        self.edit.clicked.connect(self._edit)
        self.reset.clicked.connect(self._reset)
        self.brush.painted.connect(self._keep)
        self.brush.rested.connect(self._show)

    @property
    def is_editing(self) -> bool:
        """Whether the brush is out for the chosen slide."""
        layer = self.brush.layer(self._painting) if self._painting else None
        return layer is not None

    @property
    def is_about_to_look(self) -> bool:
        """Whether something changed that is not taken up yet."""
        return self._soon.isActive()

    def obstacle(self) -> str:
        """Return why an analysis cannot start, "" if it can."""
        if self.brush.is_waiting or self._is_keeping():
            return "The tissue that you painted is being kept."
        reading = self.include.reading or self.exclude.reading
        if reading or self.searching is not None or self.is_about_to_look:
            return "The tissue is still being looked for."
        return self._error

    def take_whole_slide(self) -> None:
        """Paint the whole slide as tissue; the brush can mend it."""
        if not self.is_editing:
            self._edit()
        if self._painting is not None:
            self.brush.fill(self._painting)

    def _is_keeping(self) -> bool:
        return self.searching is not None and self._keeping

    def _note_other_slide(self) -> None:
        self._is_other_slide = True
        self._look_soon()

    def _look_soon(self) -> None:
        self._soon.start()
        self.changed.emit()

    def _look(self) -> None:
        """Look for tissue if anything that it depends on has changed."""
        if self._is_other_slide or self.session.mpp != self._laid_out:
            self._leave_slide()
        elif self._is_keeping():
            return
        self._follow_plan()
        wanted, last, found = self._want(), self._wanted, self.found
        if wanted is not None and _same(wanted, last):
            self.changed.emit()
            return
        self._wanted = wanted
        if wanted is None:
            self._forget()
        elif found is not None and _switched(wanted, found):
            self._put_brush_away(found.plan.tissue)
            self._start(partial(choose_painted, wanted))
        else:
            self._start(partial(find, wanted))

    def _follow_plan(self) -> None:
        """Forget files that were taken out of the plan, as to have any patch."""
        plan = self.session.plan
        for region, files in (
            (self.include, plan.include),
            (self.exclude, plan.exclude),
        ):
            if region.files and not files:
                region.clear()

    def _put_brush_away(self, set_aside: Path | None) -> None:
        self._set_aside, self._painting = set_aside, None
        self.brush.drop(self.session.slide)

    def _leave_slide(self) -> None:
        self.brush.close(self._painting)
        if self._keeping:  # it ends by itself: the next search may not cancel it
            self.searching, self._keeping = None, False
        self._painting = self._set_aside = self.found = self._wanted = None
        self._is_other_slide, self._laid_out = False, self.session.mpp
        self.include.clear()
        self.exclude.clear()

    def _want(self) -> Wanted | None:
        slide = self.session.slide
        if slide is None or self.session.mpp is None:
            return None
        mpp, recall = self._scene.asked_mpp, self._wanted is None
        plan = PatchPlan() if recall else _regions(self.session.plan)
        return Wanted(slide, mpp, self.session.srgb, plan, recall)

    def _start(self, work: Callable[[], Found], *, keeping: bool = False) -> None:
        """Search; only the newest answer counts, but what is kept is kept."""
        if self.searching is not None and not self._keeping:
            self.searching.cancel()
        self._error, self._keeping = "", keeping
        self.session.tissue = None
        self.searching = job = tissue_job(work)
        take, fail = (partial(act, job.number) for act in (self._take, self._fail))
        self._dock.hear(job.event, take, thread="main")
        self._dock.hear(job.failed, fail, thread="main")
        if keeping:
            self._dock.hear(job.failed, self._say_not_kept, thread="main")
        job.start()
        self._show()

    def _take(self, number: int, found: Found) -> None:
        if self.searching is None or self.searching.number != number:
            return
        self.searching, self.found = None, found
        if self._wanted is not None:
            self._wanted = replace(self._wanted, plan=found.plan, recall=False)
        self.session.plan = replace(self.session.plan, tissue=found.plan.tissue)
        self._scene.plan_layers.show_outline(found.drawing, self.session.mpp)
        self._show_outline()
        self.session.tissue = found.tissue
        self._show()
        self._look_soon()

    def _fail(self, number: int, error: Exception) -> None:
        if self.searching is None or self.searching.number != number:
            return
        self.searching, self._error = None, str(error)
        self._scene.plan_layers.show_outline(None, None)
        self._show()

    def _forget(self) -> None:
        if self.searching is not None and not self._keeping:
            self.searching.cancel()
        self.searching, self._error = None, ""
        self._scene.plan_layers.show_outline(None, None)
        self._show()

    def _take_regions(self) -> None:
        """Put the files and classes that are chosen into the plan."""
        self.session.plan = replace(
            self.session.plan,
            include=self.include.files,
            include_labels=self.include.labels,
            exclude=self.exclude.files,
            exclude_labels=self.exclude.labels,
        )

    def _edit(self) -> None:
        if self.is_editing:
            self.brush.close(self._painting)
            self._painting = None
            self._scene.viewer.layers.selection.active = self._scene.slide_layer
        elif self.found is not None and self.session.slide is not None:
            assert self.session.mpp is not None, "tissue is found with um/px only"
            self._painting = self.session.slide
            self.brush.open(self._painting, self.found.uncut, self.session.mpp)
        self._show()

    def _keep(self, slide: Path, mask: Mask) -> None:
        """Keep what was painted, also on the slide that is being left."""
        found, wanted = self.found, self._wanted
        if found is None or wanted is None or slide != wanted.slide:
            return
        uncut = replace(found.uncut, mask=mask, excluded={})
        self._set_aside = None
        self._start(partial(keep_and_find, wanted, uncut), keeping=True)

    def _reset(self) -> None:
        """Take automatic tissue, or what was painted and set aside."""
        self.brush.flush()
        now = self.session.plan.tissue
        tissue = self._set_aside if now is None else None
        self.session.plan = replace(self.session.plan, tissue=tissue)

    def _say_not_kept(self, error: Exception) -> None:
        """Say that a painting was not written, also of a slide that was left."""
        self.hint.say(str(error), "error")

    def _say_error(self, error: Exception) -> None:
        self.line.say(str(error), "error")

    def _show_outline(self) -> None:
        shown = self.found is not None and self.outline.isChecked()
        self._scene.plan_layers.set_visible(OUTLINE, shown)

    def _show(self) -> None:
        found = None if self.searching is not None else self.found
        self._tell(found)
        nothing = "" if found or self.is_editing else self._why_not()
        self.edit.setText(DONE if self.is_editing else EDIT)
        allow(self.edit, tip=HOW, obstacle=nothing)
        self.hint.say(HOW if self.is_editing else "")
        for region, tip in ((self.include, INSIDE_TIP), (self.exclude, OUT_TIP)):
            allow(region.field, tip=tip, obstacle="" if self._wanted else NO_SLIDE)
        painted = self.session.plan.tissue is not None
        self.reset.setText(RESET if painted or not self._set_aside else BACK)
        tip = TAKE_BACK if self.reset.text() == BACK else TAKE_AUTOMATIC
        barred = "" if painted or self._set_aside else "The tissue is automatic."
        allow(self.reset, tip=tip, obstacle=nothing or barred)
        self.changed.emit()

    def _tell(self, found: Found | None) -> None:
        if self._error:
            self.line.say(self._error, "error")
        elif found is None:
            self.line.say(self._why_not())
        else:
            painted = found.plan.tissue is not None
            line = tissue_line(found.tissue, painted=painted)
            tone = "warning" if found.note else "note"
            self.line.say("\n".join(filter(None, (line, found.note))), tone)

    def _why_not(self) -> str:
        return LOOKING if self.searching is not None else self._error or NO_SLIDE


def _regions(plan: PatchPlan) -> PatchPlan:
    """Return a plan without what only concerns patches."""
    return replace(plan, stride_um=None, min_tissue=PatchPlan().min_tissue)


def _switched(wanted: Wanted, found: Found) -> bool:
    """Whether painted tissue gives way to automatic one, or the reverse."""
    return not wanted.recall and wanted.plan.tissue != found.plan.tissue


def _same(wanted: Wanted, last: Wanted | None) -> bool:
    return last is not None and replace(wanted, recall=last.recall) == last
