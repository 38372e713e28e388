"""Rows that are opened on demand."""

from __future__ import annotations

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QSizePolicy, QToolButton, QVBoxLayout, QWidget

CLOSED, OPEN = Qt.ArrowType.RightArrow, Qt.ArrowType.DownArrow


class Folded(QWidget):
    """A line to click, with what it stands for under it.

    Parameters
    ----------
    title
        What is inside.
    inside
        Shown while it is open; it is closed at first.
    """

    def __init__(self, title: str, inside: QWidget) -> None:
        super().__init__()
        self.inside, self.button = inside, QToolButton()
        self.button.setText(title)
        self.button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.button.setSizePolicy(
            QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed
        )
        self.button.setStyleSheet(
            "QToolButton { border: none; background: transparent; padding: 2px 0; }"
        )
        self.button.setCheckable(True)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addWidget(self.button)
        column.addWidget(inside)
        self.button.toggled.connect(self._show)
        self._show(False)

    def open(self) -> None:
        """Show what is inside."""
        self.button.setChecked(True)

    def _show(self, is_open: bool) -> None:
        self.button.setArrowType(OPEN if is_open else CLOSED)
        self.inside.setVisible(is_open)
