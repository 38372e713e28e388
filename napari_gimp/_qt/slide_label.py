"""Label and macro images: read and shown only when asked for, and not kept."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import Qt
from qtpy.QtGui import QPixmap
from qtpy.QtWidgets import (
    QDialog,
    QLabel,
    QMenu,
    QMessageBox,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_gimp._qt.overview import as_image
from napari_gimp._qt.overview_picture import eight_bit
from napari_gimp._qt.parts import Dock, Notice, allow
from napari_gimp.jobs import Job, read_job

if TYPE_CHECKING:
    from napari_gimp.slide.source import SlideSource

LONGEST_PX = 720
NOTHING = "The file holds no label, macro or thumbnail image."
TIP = "Label, macro and thumbnail images are not read unless you ask for one here"
TITLE = "May show the patient's name"
CONSENT = (
    "The {name} image of {file} may show the patient's name and number.\n\n"
    "It is shown in a window of its own and kept nowhere. Show it?"
)
Ask = Callable[[QWidget, str], bool]


def ask_consent(parent: QWidget, text: str) -> bool:
    """Ask before something is shown that may name the patient."""
    buttons = QMessageBox.StandardButton
    answer = QMessageBox.question(
        parent, TITLE, text, buttons.Yes | buttons.No, buttons.No
    )
    return answer == buttons.Yes


class LabelButton(QPushButton):
    """Offers the associated images of a slide by name; asks before it shows one.

    Parameters
    ----------
    dock
        The dock; it hears of the picture that was read.
    notice
        Where errors are told.
    consent
        Asks whether to show what may name the patient.
    """

    def __init__(self, dock: Dock, notice: Notice, consent: Ask = ask_consent) -> None:
        super().__init__("Show label image…")
        self._dock, self._notice, self._consent = dock, notice, consent
        self._source: SlideSource | None = None
        self.reading: Job[Any] | None = None
        self.shown: QDialog | None = None
        self.choice = QMenu(self)
        self.setMenu(self.choice)

    def offer(self, source: SlideSource | None) -> None:
        """Offer the images of a slide; nothing is read."""
        self._source = source
        names = () if source is None else source.associated
        self.choice.clear()
        for name in names:
            self.choice.addAction(name).triggered.connect(partial(self.ask, name))
        allow(self, tip=TIP, obstacle="" if names else NOTHING)

    def ask(self, name: str, *_: object) -> None:
        """Show an image if the user consents; it is read in the background."""
        source = self._source
        if source is None:
            return
        text = CONSENT.format(name=name, file=source.path.name)
        if not self._consent(self, text):
            return
        self.reading = job = read_job(partial(source.read_associated, name))
        self._dock.hear(job.event, partial(self._show_picture, name), thread="main")
        self._dock.hear(job.failed, self._fail, thread="main")
        job.start()

    def _show_picture(self, name: str, pixels: NDArray[Any]) -> None:
        self.shown = Picture(self, name, as_rgb(pixels))
        self.shown.show()

    def _fail(self, error: Exception) -> None:
        self._notice.say(str(error), "error")


class Picture(QDialog):
    """A window with one image; closing it forgets it."""

    def __init__(self, parent: QWidget, title: str, pixels: NDArray[np.uint8]) -> None:
        super().__init__(parent)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setWindowTitle(title)
        image, label = QPixmap.fromImage(as_image(pixels)), QLabel()
        if max(image.width(), image.height()) > LONGEST_PX:
            image = image.scaled(
                LONGEST_PX,
                LONGEST_PX,
                Qt.AspectRatioMode.KeepAspectRatio,
                Qt.TransformationMode.SmoothTransformation,
            )
        label.setPixmap(image)
        QVBoxLayout(self).addWidget(label)


def as_rgb(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """Return an image (h, w, C) of 8 or 16 bits as RGB (h, w, 3) of 8 bits."""
    shown = eight_bit(pixels)
    return np.repeat(shown, 3, axis=2) if shown.shape[2] == 1 else shown[:, :, :3]
