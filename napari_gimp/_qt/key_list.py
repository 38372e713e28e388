"""The list of keys, over the window until the next key or click."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFrame, QGridLayout, QLabel, QWidget

from napari_gimp._qt.keys import listed_keys
from napari_gimp._qt.parts import heading

if TYPE_CHECKING:
    from qtpy.QtGui import QKeyEvent

PADDING_PX = 22
GROUP_PX = 34
"""Height of a heading's row, px: more room above it than below."""
WHERE = "To change them: File > Preferences > Shortcuts"


class KeyList(QFrame):
    """A panel with all keys; any key or a click beside it closes it.

    Parameters
    ----------
    window
        The window in whose middle it opens.
    """

    def __init__(self, window: QWidget) -> None:
        super().__init__(window, Qt.WindowType.Popup)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setStyleSheet("KeyList { border: 1px solid #8c8c8c; }")
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(PADDING_PX, PADDING_PX, PADDING_PX, PADDING_PX)
        self._grid.setHorizontalSpacing(PADDING_PX)
        self._grid.setVerticalSpacing(6)
        for group, rows in groupby(listed_keys(), key=lambda row: row[0]):
            self._add(heading(group), height=GROUP_PX if self._grid.count() else 0)
            for _, keys, what in rows:
                self._add(_key_cap(keys), QLabel(what))
        self._add(_faint(WHERE))
        self.adjustSize()
        middle = window.mapToGlobal(window.rect().center())
        self.move(middle - self.rect().center())

    def texts(self) -> list[str]:
        """Return all that is written on it."""
        return [label.text() for label in self.findChildren(QLabel)]

    def keyPressEvent(self, event: QKeyEvent | None) -> None:  # noqa: N802 # Qt's name
        """Close at any key."""
        if event is not None:
            event.accept()
        self.close()

    def _add(self, *labels: QLabel, height: int = 0) -> None:
        """Add a row of at least a height, px; a single label takes the whole of it."""
        row = self._grid.rowCount()
        self._grid.setRowMinimumHeight(row, height)
        if len(labels) == 1:
            bottom = Qt.AlignmentFlag.AlignBottom
            self._grid.addWidget(labels[0], row, 0, 1, 2, bottom)
        else:
            for column, label in enumerate(labels):
                self._grid.addWidget(label, row, column)


def _key_cap(text: str) -> QLabel:
    label = QLabel(text)
    label.setStyleSheet("font-weight: 600;")
    return label


def _faint(text: str) -> QLabel:
    label = QLabel(text)
    label.setStyleSheet("font-size: 11px; padding-top: 8px;")
    return label
