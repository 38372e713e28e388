"""A row for annotations: a GeoJSON file or a mask image, and which class of it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from psygnal import Signal
from qtpy.QtWidgets import QComboBox

from napari_gimp._qt.parts import Dock, Form, PathField, ask_file
from napari_gimp._qt.tissue_search import labels_of, tissue_job

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_gimp.jobs import Job

PATTERNS = (
    "Annotations (*.geojson *.json *.png *.tif *.tiff);;"
    "GeoJSON of QuPath (*.geojson *.json);;Mask images (*.png *.tif *.tiff);;"
    "All files (*)"
)
ALL = "all classes"


class RegionRow:
    """Chooses a region file and one of its classes.

    Parameters
    ----------
    dock
        The dock.
    form
        Where the row goes.
    title, placeholder
        What the file is for, what holds without one.
    """

    began = Signal()
    """A file is being read."""
    changed = Signal()
    """Another file that can be read, or another class."""
    failed = Signal(Exception)
    """A file cannot be a region; it is not used."""

    def __init__(
        self,
        dock: Dock,
        form: Form,
        title: str,
        placeholder: str,
    ) -> None:
        self._dock = dock
        self._clearing = False
        self.reading: Job[Mapping[str, int]] | None = None
        ask = ask_file(f"Annotations: {title.lower()}", PATTERNS)
        self.field = PathField(placeholder, ask, self._read)
        self.classes = QComboBox()
        self.classes.setToolTip("Which objects of the file count")
        form.add(title, self.field)
        form.addRow("", self.classes)
        self.classes.hide()
        self.classes.activated.connect(lambda: self.changed.emit())

    @property
    def files(self) -> tuple[Path, ...]:
        """The file whose classes are known: none or one."""
        path = self.field.path
        return () if path is None or self.reading is not None else (path,)

    @property
    def labels(self) -> tuple[str, ...]:
        """The class that counts; none means all."""
        label = self.classes.currentData()
        return (label,) if label and self.files else ()

    def clear(self) -> None:
        """Forget the file; nobody is told."""
        self._clearing = True
        self.field.set_path(None)
        self._clearing = False

    def _read(self, path: Path | None) -> None:
        self.reading = None
        self.classes.clear()
        self.classes.hide()
        if path is not None:
            self._start(path)
        elif not self._clearing:
            self.changed.emit()

    def _start(self, path: Path) -> None:
        self.reading = job = tissue_job(partial(labels_of, path))
        take, fail = partial(self._take, job.number), partial(self._fail, job.number)
        self._dock.hear(job.event, take, thread="main")
        self._dock.hear(job.failed, fail, thread="main")
        job.start()
        self.began.emit()

    def _take(self, number: int, labels: Mapping[str, int]) -> None:
        if self.reading is None or self.reading.number != number:
            return
        self.reading = None
        self.classes.addItem(f"{ALL} ({sum(labels.values()):,})" if labels else ALL)
        for label, n in labels.items():
            self.classes.addItem(f"{label} ({n:,})", label)
        self.classes.setVisible(len(labels) > 1)
        self.changed.emit()

    def _fail(self, number: int, error: Exception) -> None:
        if self.reading is not None and self.reading.number == number:
            self.clear()
            self.changed.emit()
            self.failed.emit(error)
