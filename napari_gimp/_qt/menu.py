"""The menu entry that opens everything.

napari's plugin menu can only open widgets, so this is one: it opens the docks, or
raises them where they are open already, and goes away.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QWidget

from napari_gimp._qt.workspace import FULL_NAME, TITLES, open_workspace


class OpenWorkspace(QWidget):
    """Opens all docks of a viewer, Analyse in front, and removes itself.

    Parameters
    ----------
    napari_viewer
        The viewer.
    """

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__()
        self._viewer = napari_viewer
        analyse = FULL_NAME.format(TITLES[1])
        docks = napari_viewer.window.dock_widgets
        if analyse in docks:
            docks[analyse].parentWidget().raise_()
        else:
            open_workspace(napari_viewer)
        QTimer.singleShot(0, self._leave)

    def _leave(self) -> None:
        with suppress(LookupError):  # closed by hand in the meantime
            self._viewer.window.remove_dock_widget(self)
