"""The Slide dock: open a slide, see what it is, mend what its file does not say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qtpy.QtWidgets import QPushButton

from napari_gimp._qt.parts import Dock, Form, Notice, ask_file, ask_folder, row
from napari_gimp._qt.scene import scene_of
from napari_gimp._qt.slide_choice import PATTERNS
from napari_gimp._qt.slide_colours import ColourSwitch
from napari_gimp._qt.slide_facts import facts_of
from napari_gimp._qt.slide_label import LabelButton
from napari_gimp._qt.slide_question import Question
from napari_gimp._qt.slide_saving import Saving
from napari_gimp._qt.slide_trouble import trouble_of
from napari_gimp.jobs import Job
from napari_gimp.slide.describe import describe

TEXT_PX = 5
"""napari insets the text of its labels by this."""
EMPTY = "Open a slide, or drop its file or folder on the canvas."


class SlideDock(Dock):
    """Open a slide and see what it is.

    Parameters
    ----------
    napari_viewer
        The viewer, or napari's proxy of it.
    """

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__()
        self._scene = scene_of(napari_viewer)
        self._build()
        events = self._scene.session.events
        for signal in (events.slide, events.mpp, events.srgb):
            self.hear(signal, self._show)
        self.hear(self._scene.trouble.changed, self._show_trouble)
        self.hear(self._scene.cancel_asked, self.saving.stop)
        self._show()

    def _build(self) -> None:
        self.section("Slide")
        self.open = QPushButton("Open slide…")
        self.open_folder = QPushButton("Open folder…")
        self.open.setToolTip("SVS, TIFF, OME-TIFF, NDPI, MRXS, SCN, PNG, JPEG, …")
        self.open_folder.setToolTip("Open a folder that is a slide: DICOM, OME-Zarr")
        self.notice, self.trouble = Notice(), Notice()
        self.question = Question(self._scene.give_mpp)
        buttons = row(self.open, self.open_folder)
        self.add(buttons, self.notice, self.trouble, self.question)
        self.facts = Form()
        self.facts.setContentsMargins(TEXT_PX, 0, 0, 0)
        self.column.addLayout(self.facts)
        self.colours = ColourSwitch(self._scene, self)
        self.saving, self.label = Saving(self), LabelButton(self, self.notice)
        self.add(self.saving.advice, row(self.label, self.saving.button))
        self.add(self.saving.going, self.saving.stage, self.saving.notice)
        self.fill()
        self.open.clicked.connect(self._ask)
        self.open_folder.clicked.connect(self._ask_folder)

    def open_path(self, path: Path) -> Job[Any]:
        """Open a slide in the background."""
        self.notice.say(f"Opening {path.name}…")
        return self._scene.open_slide(path, opened=self._show, failed=self._failed)

    def texts(self) -> dict[str, str]:
        """Return the facts on display."""
        return self.facts.texts()

    def _ask(self) -> None:
        if chosen := ask_file("Open a slide", PATTERNS)(self):
            self.open_path(Path(chosen))

    def _ask_folder(self) -> None:
        if chosen := ask_folder("Open a slide that is a folder")(self):
            self.open_path(Path(chosen))

    def _failed(self, error: Exception) -> None:
        self.notice.say(str(error), "error")

    def _show(self) -> None:
        view = self._scene.view
        source = None if view is None else view.source
        facts = None if source is None else describe(source)
        self.notice.say("" if view else EMPTY)
        while self.facts.rowCount():
            self.facts.removeRow(0)
        for title, fact in (facts_of(facts) if facts else {}).items():
            self.facts.add_fact(title, fact.text, fact.tip)
        self.question.ask(facts)
        self.colours.show()
        self.label.offer(source)
        self.saving.offer(source)
        self._show_trouble()

    def _show_trouble(self) -> None:
        view = self._scene.view
        self.trouble.say(*(("",) if view is None else trouble_of(view)))
