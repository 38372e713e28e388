"""The question how large a pixel is, asked where the file does not say.

An answer can be changed: it is remembered, and a wrong one would come back for ever.
"""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtWidgets import QDoubleSpinBox, QPushButton, QVBoxLayout, QWidget

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
        self.change = QPushButton("Change the µm/px…")
        self.change.setToolTip("The number is your answer; give another one")
        self.use = QPushButton("Use it")
        self.use.setToolTip(
            "The slide is then marked as “user, unverified”; your answer is "
            "remembered for this slide"
        )
        self._asking = QWidget()
        form = Form()
        self._asking.setLayout(form)
        form.addRow(self.reason)
        form.add("One pixel is", self.mpp)
        form.add("", self.use)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self._asking)
        column.addWidget(self.change)
        self.use.clicked.connect(self._give)
        self.change.clicked.connect(self._ask_again)

    def ask(self, facts: Facts | None) -> None:
        """Show the question with a guess; hide it where the file says enough."""
        doubt = "" if facts is None else doubt_about(facts)
        answered = facts is not None and not doubt and not facts.mpp_verified
        self.reason.say(doubt, "warning")
        self._asking.setVisible(bool(doubt))
        self.change.setVisible(answered)
        self.setVisible(bool(doubt) or answered)
        if facts is not None and (doubt or answered):
            self.mpp.setValue(guess_mpp(facts))
            self.mpp.setToolTip(hint_of(facts))

    @property
    def is_asking(self) -> bool:
        """Whether an answer is wanted, or may be given."""
        return not (self.isHidden() or self._asking.isHidden())

    def _ask_again(self) -> None:
        self._asking.show()
        self.change.hide()

    def _give(self) -> None:
        self._answer((self.mpp.value(), self.mpp.value()))
