"""A place for a matplotlib figure that is replaced as a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import QVBoxLayout, QWidget

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Chart(QWidget):
    """Shows one figure at its own height; empty until it is given one."""

    def __init__(self) -> None:
        super().__init__()
        self.figure: Figure | None = None
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)

    def show_figure(self, figure: Figure) -> None:
        """Replace the figure."""
        from matplotlib.backends.backend_qtagg import FigureCanvasQTAgg

        self.clear()
        canvas = FigureCanvasQTAgg(figure)  # type: ignore[no-untyped-call] # matplotlib
        canvas.setFixedHeight(round(figure.get_figheight() * figure.get_dpi()))
        self._column.addWidget(canvas)
        self.figure = figure

    def clear(self) -> None:
        """Show nothing."""
        self.figure = None
        while (item := self._column.takeAt(0)) is not None:
            if (widget := item.widget()) is not None:
                widget.setParent(None)
                widget.deleteLater()
