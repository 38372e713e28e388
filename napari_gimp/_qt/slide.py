"""The Slide dock: open a slide, see its facts, answer for a missing um/px."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from qtpy.QtWidgets import QDoubleSpinBox, QPushButton, QWidget

from napari_gimp._qt.parts import Dock, Form, Notice, ask_file, quiet
from napari_gimp._qt.scene import scene_of
from napari_gimp._qt.slide_choice import PATTERNS
from napari_gimp._qt.slide_facts import doubt_about, facts_of, guess_mpp
from napari_gimp._qt.slide_layers import view_of
from napari_gimp.geometry import YX
from napari_gimp.jobs import Job
from napari_gimp.slide.resolution import PLAUSIBLE_UM
from napari_gimp.slide.source import Resolution

EMPTY = "Open a slide, or drop its file on the canvas."


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
        self.hear(self._scene.session.events.slide, self._show)
        self.hear(self._scene.session.events.mpp, self._show)
        self._show()

    def _build(self) -> None:
        self.section("Slide")
        self.open, self.notice = QPushButton("Open slide…"), Notice()
        self.open.setToolTip("SVS, TIFF, OME-TIFF, NDPI, MRXS, SCN, PNG, JPEG, …")
        self.question = Question(self._scene.give_mpp)
        self.add(self.open, self.notice, self.question)
        self.facts = Form()
        self.column.addLayout(self.facts)
        self.fill()
        self.open.clicked.connect(self._ask)

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

    def _failed(self, error: Exception) -> None:
        self.notice.say(str(error), "error")

    def _show(self) -> None:
        layer = self._scene.slide_layer
        view = None if layer is None else view_of(layer)
        self.notice.say("" if view else EMPTY)
        while self.facts.rowCount():
            self.facts.removeRow(0)
        if view is not None:
            for name, fact in facts_of(view.source).items():
                self.facts.add(name, quiet(fact))
        self.question.ask(None if view is None else view.source.resolution)


class Question(QWidget):
    """Asks in place how large a pixel is.

    Parameters
    ----------
    answer
        Called with um/px (y, x).
    """

    def __init__(self, answer: Callable[[YX], None]) -> None:
        super().__init__()
        self._answer = answer
        self.reason = Notice()
        self.mpp = QDoubleSpinBox()
        self.mpp.setDecimals(4)
        self.mpp.setRange(*PLAUSIBLE_UM)
        self.mpp.setSuffix(" µm/px")
        self.mpp.setToolTip("About 0.25 at 40x, 0.5 at 20x, 1.0 at 10x")
        self.use = QPushButton("Use it")
        self.use.setToolTip("The slide is then marked as “user, unverified”")
        form = Form()
        self.setLayout(form)
        form.addRow(self.reason)
        form.add("One pixel is", self.mpp)
        form.add("", self.use)
        self.use.clicked.connect(self._give)

    def ask(self, stated: Resolution | None) -> None:
        """Show the question with a guess, or hide it where nothing is to be asked."""
        doubt = "" if stated is None else doubt_about(stated)
        self.reason.say(doubt, "warning")
        self.setVisible(bool(doubt))
        if doubt and stated is not None:
            self.mpp.setValue(guess_mpp(stated))

    def _give(self) -> None:
        self._answer((self.mpp.value(), self.mpp.value()))
