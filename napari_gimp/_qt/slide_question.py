"""The question how large a pixel is, asked where the file does not say."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtWidgets import QDoubleSpinBox, QPushButton, QWidget

from napari_gimp._qt.parts import Form, Notice
from napari_gimp._qt.slide_facts import doubt_about, guess_mpp, hint_of
from napari_gimp.geometry import YX
from napari_gimp.slide.describe import Facts
from napari_gimp.slide.resolution import PLAUSIBLE_UM


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
        self.use = QPushButton("Use it")
        self.use.setToolTip(
            "The slide is then marked as “user, unverified”; your answer is "
            "remembered for this slide"
        )
        form = Form()
        self.setLayout(form)
        form.addRow(self.reason)
        form.add("One pixel is", self.mpp)
        form.add("", self.use)
        self.use.clicked.connect(self._give)

    def ask(self, facts: Facts | None) -> None:
        """Show the question with a guess, or hide it where nothing is to be asked."""
        doubt = "" if facts is None else doubt_about(facts)
        self.reason.say(doubt, "warning")
        self.setVisible(bool(doubt))
        if doubt and facts is not None:
            self.mpp.setValue(guess_mpp(facts))
            self.mpp.setToolTip(hint_of(facts))

    def _give(self) -> None:
        self._answer((self.mpp.value(), self.mpp.value()))
