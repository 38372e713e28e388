"""Building blocks of every dock: one look, one spacing, one way to say no."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from psygnal import SignalInstance
from qtpy.QtCore import Qt
from qtpy.QtGui import QDragEnterEvent, QDropEvent
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QFormLayout,
    QFrame,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

MARGIN_PX = 12
GAP_PX = 8
LABEL_PX = 112
MIN_WIDTH_PX = 370

_SHORT = QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon

# Readable on napari's dark and light themes alike: coloured edge, own text colour.
TONES = {"note": "#5c9ded", "warning": "#d9a441", "error": "#e0605e"}


class Dock(QWidget):
    """A dock's page: sections from top to bottom, scrolling when it is small."""

    def __init__(self) -> None:
        super().__init__()
        page = QWidget()
        self.column = QVBoxLayout(page)
        self.column.setContentsMargins(MARGIN_PX, MARGIN_PX, MARGIN_PX, MARGIN_PX)
        self.column.setSpacing(GAP_PX)
        scroll = QScrollArea()
        scroll.setWidget(page)
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.outer = QVBoxLayout(self)
        self.outer.setContentsMargins(0, 0, 0, 0)
        self.outer.addWidget(scroll)
        self.setMinimumWidth(MIN_WIDTH_PX)

    def add(self, *widgets: QWidget) -> None:
        """Put widgets below what is there."""
        for widget in widgets:
            self.column.addWidget(widget)

    def section(self, title: str) -> Form:
        """Start a section and return its form."""
        if self.column.count():
            self.column.addSpacing(GAP_PX)
        self.add(heading(title))
        form = Form()
        self.column.addLayout(form)
        return form

    def hear(
        self,
        signal: SignalInstance,
        slot: Callable[..., object],
        *,
        thread: Literal["main"] | None = None,
    ) -> None:
        """Connect a slot for as long as this dock's widgets exist."""
        if thread is not None:
            slot = self._while_here(slot)
        signal.connect(slot, thread=thread)
        self.destroyed.connect(lambda: signal.disconnect(slot, missing_ok=True))

    def _while_here(self, slot: Callable[..., object]) -> Callable[..., None]:
        """Return a slot that may be called late: what is queued comes after all."""
        here = [True]
        self.destroyed.connect(here.clear)

        def deliver(*args: object) -> None:
            if here:
                slot(*args)

        return deliver

    def keep_in_sight(self, title: str, *widgets: QWidget) -> None:
        """Put a section below the page, where it stays when the page scrolls."""
        foot = QWidget()
        column = QVBoxLayout(foot)
        column.setContentsMargins(MARGIN_PX, GAP_PX, MARGIN_PX, MARGIN_PX)
        column.setSpacing(GAP_PX)
        for widget in (heading(title), *widgets):
            column.addWidget(widget)
        self.outer.addWidget(foot)

    def fill(self) -> None:
        """Push everything up; call it last."""
        self.column.addStretch(1)


class Form(QFormLayout):
    """Labels on the left in a column of one width in all docks, fields right."""

    def __init__(self) -> None:
        super().__init__()
        self.setContentsMargins(0, 0, 0, 0)
        self.setFieldGrowthPolicy(self.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        self.setHorizontalSpacing(GAP_PX)
        self.setVerticalSpacing(GAP_PX)
        self.setLabelAlignment(
            Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter
        )

    def add(self, label: str, field: QWidget) -> None:
        """Add a labelled field, or one without a label under the other fields."""
        name = QLabel(label)
        name.setFixedWidth(LABEL_PX)
        name.setWordWrap(True)
        if isinstance(field, QComboBox):  # no entry makes a dock wider
            field.setSizeAdjustPolicy(_SHORT)
        self.addRow(name, field)
        if item := self.itemAt(self.rowCount() - 1, self.ItemRole.FieldRole):
            item.setAlignment(Qt.AlignmentFlag.AlignVCenter)

    def add_fact(self, name: str, text: str, tip: str = "") -> None:
        """Add a line of text under a name, both from the top."""
        label, fact = QLabel(name), quiet(text)
        label.setFixedWidth(LABEL_PX)
        for one in (label, fact):
            one.setAlignment(Qt.AlignmentFlag.AlignTop)
            one.setStyleSheet("padding: 0;")  # napari's would part the lines
            one.setToolTip(tip)
        self.addRow(label, fact)

    def texts(self) -> dict[str, str]:
        """Return the texts of the fields by label, as far as they are labels."""
        return {
            self._text(row, self.ItemRole.LabelRole): fact
            for row in range(self.rowCount())
            if (fact := self._text(row, self.ItemRole.FieldRole))
        }

    def _text(self, row: int, role: QFormLayout.ItemRole) -> str:
        item = self.itemAt(row, role)
        label = None if item is None else item.widget()
        return label.text() if isinstance(label, QLabel) else ""


class Notice(QLabel):
    """A sentence in place: a note, a warning or an error; hidden while empty."""

    def __init__(self) -> None:
        super().__init__()
        self.setWordWrap(True)
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.clear()

    def say(self, text: str, tone: str = "note") -> None:
        """Show a text; tone is "note", "warning" or "error"."""
        self.setProperty("tone", tone)
        self.setStyleSheet(
            f"QLabel {{ border-left: 3px solid {TONES[tone]}; padding: 4px 8px; }}"
        )
        self.setText(text)
        self.setVisible(bool(text))

    def clear(self) -> None:
        """Hide it."""
        self.say("")


class PathField(QWidget):
    """A path to type or to drop, with a button that opens a file dialog.

    Parameters
    ----------
    placeholder
        What belongs here.
    choose
        Asks for a path: gets the parent, returns the path or "".
    accept
        Called with each path that was entered; None once the field is emptied.
    """

    def __init__(
        self,
        placeholder: str,
        choose: Callable[[QWidget], str],
        accept: Callable[[Path | None], None],
    ) -> None:
        super().__init__()
        self._choose, self._accept = choose, accept
        self.edit = QLineEdit()
        self.edit.setPlaceholderText(placeholder)
        self.edit.setAcceptDrops(False)  # it would take the file's address as text
        self.setAcceptDrops(True)
        self.button = QPushButton("Choose…")
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.edit, 1)
        row.addWidget(self.button)
        self.edit.editingFinished.connect(self._entered)
        self.button.clicked.connect(self._browse)
        self._last: Path | None = None

    @property
    def path(self) -> Path | None:
        """The path entered last."""
        return self._last

    def set_path(self, path: Path | None) -> None:
        """Show a path by its name, in full as tooltip, and accept it."""
        self.edit.setText("" if path is None else path.name)
        self.edit.setCursorPosition(0)  # a long name shows how it begins
        self.edit.setToolTip("" if path is None else str(path))
        if path != self._last:
            self._last = path
            self._accept(path)

    def dragEnterEvent(self, event: QDragEnterEvent | None) -> None:  # noqa: N802 # Qt's
        """Take a file or a folder."""
        if event is not None and dropped_path(event):
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent | None) -> None:  # noqa: N802 # Qt's name
        """Accept what is dropped as if it were chosen."""
        if event is not None and (path := dropped_path(event)):
            self.set_path(path)

    def _browse(self) -> None:
        if chosen := self._choose(self):
            self.set_path(Path(chosen))

    def _entered(self) -> None:
        """Take what was typed; a bare name means a neighbour of the last path."""
        text = self.edit.text().strip()
        folder = Path() if self._last is None else self._last.parent
        self.set_path(folder / Path(text).expanduser() if text else None)


def dropped_path(event: QDropEvent) -> Path | None:
    """Return the first file or folder that is dropped, None if none is."""
    content = event.mimeData()
    urls = content.urls() if content is not None else []
    return next((Path(u.toLocalFile()) for u in urls if u.isLocalFile()), None)


def ask_file(title: str, patterns: str) -> Callable[[QWidget], str]:
    """Return a function that asks for an existing file."""
    return lambda parent: QFileDialog.getOpenFileName(parent, title, "", patterns)[0]


def ask_folder(title: str) -> Callable[[QWidget], str]:
    """Return a function that asks for a folder."""
    return lambda parent: QFileDialog.getExistingDirectory(parent, title)


def row(*widgets: QWidget) -> QWidget:
    """Return widgets side by side, of equal width."""
    side_by_side = QWidget()
    layout = QHBoxLayout(side_by_side)
    layout.setContentsMargins(0, 0, 0, 0)
    for widget in widgets:
        layout.addWidget(widget, 1)
    return side_by_side


def beside(field: QWidget, button: QPushButton) -> QWidget:
    """Return a field that takes all the width that a button after it leaves."""
    both = QWidget()
    layout = QHBoxLayout(both)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.addWidget(field, 1)
    layout.addWidget(button)
    return both


def heading(text: str) -> QLabel:
    """Return a section's title."""
    label = QLabel(text)
    label.setStyleSheet("font-weight: 600; font-size: 13px;")
    return label


def quiet(text: str = "") -> QLabel:
    """Return a wrapped label that does not ask for width; its text can be copied."""
    label = QLabel(text)
    label.setWordWrap(True)
    label.setTextFormat(Qt.TextFormat.PlainText)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    label.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
    return label


def allow(widget: QWidget, *, tip: str, obstacle: str = "") -> None:
    """Enable a control, or disable it and say why in its tooltip."""
    widget.setEnabled(not obstacle)
    widget.setToolTip(obstacle or tip)
