"""Small bars with their number written on them."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtWidgets import QGridLayout, QLabel, QProgressBar, QWidget

BAR_HEIGHT_PX = 18


class BarTable(QWidget):
    """Rows of named bars in one or more columns, each 0 to 1."""

    def __init__(self) -> None:
        super().__init__()
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setHorizontalSpacing(10)
        self._grid.setVerticalSpacing(6)

    def fill(
        self,
        columns: Sequence[str],
        rows: Sequence[tuple[str, Sequence[float]]],
        *,
        strong: int | None = None,
    ) -> None:
        """Show fractions.

        Parameters
        ----------
        columns
            Titles of the bar columns.
        rows
            Name and fractions (0 to 1), one per column.
        strong
            Row to write in bold.
        """
        self._clear()
        for column, title in enumerate(columns, start=1):
            self._grid.addWidget(QLabel(title), 0, column)
            self._grid.setColumnStretch(column, 1)
        for row, (name, fractions) in enumerate(rows, start=1):
            self._grid.addWidget(_name(name, bold=row - 1 == strong), row, 0)
            for column, fraction in enumerate(fractions, start=1):
                self._grid.addWidget(bar(fraction), row, column)

    def texts(self) -> list[str]:
        """Return what is written on the bars, row by row."""
        return [x.text() for x in self.findChildren(QProgressBar)]

    def _clear(self) -> None:
        while (item := self._grid.takeAt(0)) is not None:
            if (widget := item.widget()) is not None:
                widget.setParent(None)
                widget.deleteLater()


def bar(fraction: float) -> QProgressBar:
    """Return a bar filled to a fraction, with its percentage."""
    made = QProgressBar()
    made.setRange(0, 1000)
    made.setValue(round(fraction * 1000))
    made.setFormat(f"{100 * fraction:.1f} %")
    made.setFixedHeight(BAR_HEIGHT_PX)
    return made


def _name(text: str, *, bold: bool) -> QLabel:
    label = QLabel(text)
    label.setStyleSheet("font-weight: 600;" if bold else "")
    return label
