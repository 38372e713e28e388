"""Which slides a cohort has: a manifest or a folder, checked before anything runs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from psygnal import Signal
from qtpy.QtWidgets import QPushButton

from napari_gimp._qt.cohort_order import Listed, Order, check
from napari_gimp._qt.parts import Dock, Form, Notice, PathField, ask_file, ask_folder
from napari_gimp._qt.wording import count, failure
from napari_gimp.cohorts.states import SlideState, State
from napari_gimp.jobs import Job

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_gimp.cohorts.manifest import Entry

PATTERNS = "Manifests (*.csv *.tsv *.txt);;All files (*)"
TIP = "A table with the columns patient and slide (.csv, .tsv), or a folder of slides"
THREAD = "gimp-read-cohort"
"""Opening hundreds of slides must not keep the viewer's next slide waiting."""


class CohortSlides:
    """The slide rows of a dock; the slides are opened in the background.

    Parameters
    ----------
    dock
        The dock.
    form
        Where the rows go.
    order
        Returns how they are to be opened, of a path.
    """

    changed = Signal()
    told = Signal(SlideState)
    """What opening one slide showed."""

    def __init__(self, dock: Dock, form: Form, order: Callable[[Path], Order]) -> None:
        self._dock, self._order = dock, order
        self.entries: tuple[Entry, ...] = ()
        self.checking: Job[Listed | SlideState] | None = None
        self.refused: dict[int, str] = {}
        self.checked: Order | None = None
        self._seen = 0
        self._error = ""
        ask = ask_file("Choose a manifest", PATTERNS)
        self.field = PathField("a table, or a folder", ask, lambda _: self.check())
        self.folder = QPushButton("Choose a folder of slides…")
        self.folder.setToolTip("Every slide in it and in the folders inside is taken")
        self.notice = Notice()
        form.add("Manifest", self.field)
        self.field.setToolTip(TIP)
        form.add("", self.folder)
        form.addRow(self.notice)
        self.folder.clicked.connect(self._ask)
        dock.destroyed.connect(self._stop)

    @property
    def path(self) -> Path | None:
        """The manifest or folder that was named."""
        return self.field.path

    def obstacle(self) -> str:
        """Return why features cannot be made, "" if they can."""
        if self.path is None:
            return "Choose a manifest or a folder of slides first."
        if self.checking is not None:
            return "The slides are being looked into."
        if self._error:
            return "The slides cannot be used as they are named; see above."
        if len(self.refused) == len(self.entries):
            return "None of the slides can be used; the table says why."
        return ""

    def check(self) -> None:
        """Look into the slides, as the order says; an earlier look is given up."""
        self._stop()
        self.entries, self.refused, self._error = (), {}, ""
        self._seen = 0
        if self.path is not None:
            self.checked = order = self._order(self.path)
            self.checking = job = Job(lambda: check(order), thread=THREAD)
            number = job.number
            self._dock.hear(job.event, partial(self._take, number), thread="main")
            self._dock.hear(job.failed, partial(self._fail, number), thread="main")
            self._dock.hear(job.finished, partial(self._end, number), thread="main")
            job.start()
        self._show()

    def _take(self, number: int, found: Listed | SlideState) -> None:
        if not self._is_current(number):
            return
        if isinstance(found, Listed):
            self.entries = found.entries
            self.changed.emit()
        else:
            self._seen += 1
            if found.state is State.FAILED:
                self.refused[found.number] = found.text
            self.told.emit(found)
        self._say()

    def _fail(self, number: int, error: Exception) -> None:
        if self._is_current(number):
            self.checking, self._error = None, failure(error, "")
            self._show()

    def _end(self, number: int) -> None:
        if self._is_current(number):
            self.checking = None
            self._show()

    def _is_current(self, number: int) -> bool:
        return self.checking is not None and self.checking.number == number

    def _stop(self) -> None:
        if self.checking is not None:
            self.checking.cancel()
            self.checking = None

    def _show(self) -> None:
        self._say()
        self.changed.emit()

    def _say(self) -> None:
        if self._error:
            self.notice.say(self._error, "error")
        elif self.checking is not None:
            seen = f"{self._seen:,} of {count(len(self.entries), 'slide')}"
            self.notice.say(f"Looking into the slides: {seen}…")
        elif self.refused:
            text = f"{in_short(self.entries)} {unusable(len(self.refused))}"
            self.notice.say(text, "warning")
        else:
            self.notice.say(in_short(self.entries) if self.entries else "")

    def _ask(self) -> None:
        if chosen := ask_folder("Choose a folder of slides")(self.folder):
            self.field.set_path(Path(chosen))


def in_short(entries: Sequence[Entry]) -> str:
    """Return how many slides, patients and sites there are."""
    parts = [count(len(entries), "slide")]
    patients = {entry.patient for entry in entries} - {""}
    sites = {entry.site for entry in entries} - {""}
    if patients:
        parts.append(f"of {count(len(patients), 'patient')}")
    if sites:
        parts.append(f"from {count(len(sites), 'site')}")
    return f"{' '.join(parts)}."


def unusable(number: int) -> str:
    """Return how many slides will be left out."""
    them = (
        "slide cannot be used and is"
        if number == 1
        else "slides cannot be used and are"
    )
    return f"{number:,} {them} left out: the table says why."
