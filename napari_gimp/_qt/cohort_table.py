"""The slides of a cohort as a table that can be sorted, with the reason of the chosen.

The table is a Qt model over states: a thousand slides make no thousand widgets.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QAbstractTableModel, QModelIndex, QSortFilterProxyModel, Qt
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTableView

from napari_gimp._qt.cohort_pace import WORDS
from napari_gimp._qt.parts import TONES
from napari_gimp._qt.wording import duration
from napari_gimp.cohorts.states import SlideState, State

if TYPE_CHECKING:
    from napari_gimp.cohorts.manifest import Entry

HEADS = ("Slide", "State", "Patches", "Time")
COLOURS = {State.FAILED: TONES["error"], State.DAMAGED: TONES["warning"]}
LEAST_ROWS, MOST_ROWS = 4, 10
Index = QModelIndex
_NOWHERE = QModelIndex()


class CohortModel(QAbstractTableModel):
    """Slides in rows; `HEADS` in columns."""

    def __init__(self) -> None:
        super().__init__()
        self.entries: tuple[Entry, ...] = ()
        self.states: list[SlideState] = []

    def reset(self, entries: Sequence[Entry]) -> None:
        """Show other slides, all waiting."""
        self.beginResetModel()
        self.entries = tuple(entries)
        self.states = [SlideState(k, State.QUEUED) for k in range(len(entries))]
        self.endResetModel()

    def take(self, state: SlideState) -> None:
        """Show a new state of a slide."""
        self.states[state.number] = state
        left, right = (self.index(state.number, k) for k in (0, len(HEADS) - 1))
        self.dataChanged.emit(left, right)

    def rowCount(self, parent: Index = _NOWHERE) -> int:  # type: ignore[override] # noqa: N802 # Qt's name; it may be persistent
        """Return how many slides there are."""
        return 0 if parent.isValid() else len(self.entries)

    def columnCount(self, parent: Index = _NOWHERE) -> int:  # type: ignore[override] # noqa: N802 # as above
        """Return how many columns there are."""
        return 0 if parent.isValid() else len(HEADS)

    def headerData(  # noqa: N802 # Qt's name
        self,
        section: int,
        orientation: Qt.Orientation,
        role: int = Qt.ItemDataRole.DisplayRole,
    ) -> Any:
        """Return a column's title."""
        across = orientation == Qt.Orientation.Horizontal
        shown = across and role == Qt.ItemDataRole.DisplayRole
        return HEADS[section] if shown else None

    def data(self, index: Any, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return what a cell shows, is sorted by, is coloured in or tells."""
        entry, state = self.entries[index.row()], self.states[index.row()]
        if role == Qt.ItemDataRole.DisplayRole:
            return cells(entry, state)[index.column()]
        if role == Qt.ItemDataRole.UserRole:
            return _order(entry, state)[index.column()]
        if role == Qt.ItemDataRole.ToolTipRole:
            return about(entry, state)
        if role == Qt.ItemDataRole.ForegroundRole and state.state in COLOURS:
            return QColor(COLOURS[state.state])
        if role == Qt.ItemDataRole.TextAlignmentRole and index.column() > 1:
            return Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
        return None


class CohortTable(QTableView):
    """The table; a click on a title sorts by it."""

    def __init__(self) -> None:
        super().__init__()
        self.slides = CohortModel()
        sorted_slides = QSortFilterProxyModel(self)
        sorted_slides.setSourceModel(self.slides)
        sorted_slides.setSortRole(Qt.ItemDataRole.UserRole)
        self.setModel(sorted_slides)
        self.setSortingEnabled(True)
        self.sortByColumn(-1, Qt.SortOrder.AscendingOrder)  # the manifest's order
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setWordWrap(False)
        self.setTextElideMode(Qt.TextElideMode.ElideMiddle)  # names end alike
        self.setShowGrid(False)
        if (rows := self.verticalHeader()) is not None:
            rows.hide()
            rows.setDefaultSectionSize(rows.minimumSectionSize())
        if (columns := self.horizontalHeader()) is not None:
            columns.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
            columns.setResizeContentsPrecision(0)  # of the rows in sight
            columns.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        self.slides.modelReset.connect(self._fit_height)
        self._fit_height()

    def _fit_height(self) -> None:
        """Be as high as the slides need; from `MOST_ROWS` on they scroll."""
        rows, columns = self.verticalHeader(), self.horizontalHeader()
        assert rows is not None
        assert columns is not None
        shown = min(max(self.slides.rowCount(), LEAST_ROWS), MOST_ROWS)
        height = shown * rows.defaultSectionSize() + columns.sizeHint().height()
        self.setFixedHeight(height + 2 * self.frameWidth())

    @property
    def chosen(self) -> int | None:
        """The place of the slide that is selected, None for none."""
        selection = self.selectionModel()
        rows = selection.selectedRows() if selection is not None else []
        proxy = self.model()
        assert isinstance(proxy, QSortFilterProxyModel)
        return proxy.mapToSource(rows[0]).row() if rows else None

    def texts(self) -> list[list[str]]:
        """Return what is shown, row by row in its present order."""
        model = self.model()
        assert model is not None
        return [
            [str(model.index(row, column).data()) for column in range(len(HEADS))]
            for row in range(model.rowCount())
        ]


def cells(entry: Entry, state: SlideState) -> tuple[str, ...]:
    """Return what a row shows."""
    patches = f"{state.done:,} of {state.total:,}" if state.total else ""
    if state.total and state.done == state.total:
        patches = f"{state.total:,}"
    taken = duration(state.seconds) if state.seconds >= 1 or state.ended else ""
    return entry.slide.name, WORDS[state.state], patches, taken if patches else ""


def about(entry: Entry, state: SlideState) -> str:
    """Return all that is known of a slide: whose it is, where, and what went wrong."""
    patient = f"{entry.slide.name}, patient {entry.patient}" if entry.patient else ""
    head = f"{patient or entry.slide.name}: {WORDS[state.state]}."
    return "\n".join(filter(None, (head, state.text, str(entry.slide))))


def _order(entry: Entry, state: SlideState) -> tuple[Any, ...]:
    """Return what columns are sorted by: what needs a look comes first."""
    first = (State.FAILED, State.DAMAGED, State.CANCELLED, State.BUSY, State.RUNNING)
    rank = first.index(state.state) if state.state in first else len(first)
    return entry.slide.name.lower(), rank, state.done, state.seconds
