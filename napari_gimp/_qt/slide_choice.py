"""Which slide to analyse: one of the viewer's slide layers, or a file."""

from __future__ import annotations

from pathlib import Path

from psygnal import Signal
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QComboBox, QPushButton

from napari_gimp._qt.parts import Dock, Notice, allow, ask_file, beside
from napari_gimp._qt.scene import Scene
from napari_gimp._qt.slide_layers import mpp_of, path_of
from napari_gimp._qt.wording import resolution

PATTERNS = (
    "Slides (*.svs *.tif *.tiff *.ndpi *.scn *.bif *.mrxs *.vms *.vmu *.svslide "
    "*.czi *.dcm *.png *.jpg *.jpeg);;All files (*)"
)
NO_LAYER = "No slide is open. Open one, or drop its file on the canvas."


class SlideChoice:
    """The slide rows of a dock.

    Parameters
    ----------
    scene
        The viewer's scene.
    dock
        The dock; the rows get a section of it.
    """

    changed = Signal()

    def __init__(self, scene: Scene, dock: Dock) -> None:
        self._scene = scene
        form = dock.section("1  Slide")
        self.layers, self.open = QComboBox(), QPushButton("Open…")
        self.notice = Notice()
        self.open.setToolTip("Open a slide file in the viewer")
        form.add("Slide", beside(self.layers, self.open))
        form.addRow(self.notice)
        self.layers.activated.connect(self._choose)
        self.open.clicked.connect(self._ask)
        dock.hear(scene.slides.changed, self._fill)
        dock.hear(scene.session.events.slide, self._show)
        dock.hear(scene.session.events.mpp, self._fill)
        self._fill()

    def open_path(self, path: Path) -> None:
        """Open a slide file in the background; its layer is then chosen."""
        self.notice.say(f"Opening {path.name}…")
        self._scene.open_slide(path, opened=self.notice.clear, failed=self._failed)

    def _ask(self) -> None:
        if chosen := ask_file("Open a slide", PATTERNS)(self.open):
            self.open_path(Path(chosen))

    def _failed(self, error: Exception) -> None:
        self.notice.say(str(error), "error")

    def _fill(self) -> None:
        self.layers.clear()
        for layer in self._scene.slides.slides:
            mpp = mpp_of(layer)
            size = "µm/px unknown" if mpp is None else resolution(mpp)
            self.layers.addItem(path_of(layer).name, layer)
            tip = f"{path_of(layer)}\n{size}"
            self.layers.setItemData(
                self.layers.count() - 1, tip, Qt.ItemDataRole.ToolTipRole
            )
        obstacle = "" if self.layers.count() else NO_LAYER
        allow(self.layers, tip="The slide that is analysed", obstacle=obstacle)
        self._show()

    def _show(self) -> None:
        self.layers.setCurrentIndex(self.layers.findData(self._scene.slide_layer))
        self.changed.emit()

    def _choose(self, index: int) -> None:
        self._scene.choose_slide(self.layers.itemData(index))
