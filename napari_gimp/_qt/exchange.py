"""Features of CLAM, TRIDENT or STAMP: what they mean, shown, corrected, confirmed.

Nothing is kept before a person has seen what the numbers of the file were taken for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QLabel,
    QLineEdit,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_gimp._qt.exchange_reading import Asked, Taken, keep, take
from napari_gimp._qt.parts import Dock, Form, Notice, PathField, allow, ask_file, quiet
from napari_gimp._qt.slide_choice import PATTERNS as SLIDES
from napari_gimp._qt.wording import count, failure, size_mm
from napari_gimp.jobs import Job

if TYPE_CHECKING:
    from napari_gimp._qt.scene import Scene
    from napari_gimp.patches.h5_units import Inferred

SUFFIXES = (".h5", ".hdf5")
PATTERNS = "Feature files (*.h5 *.hdf5);;All files (*)"
UNITS = {"px": "level-0 pixels", "um": "µm", "stamp1": "STAMP 1's 224 to 256 µm"}
LAYOUTS = {"clam": "CLAM", "trident": "TRIDENT", "stamp": "STAMP"}
THREAD = "gimp-read-import"
CONFIRM = "I have looked at what was concluded"


class ImportPanel(QWidget):
    """Rows that bring the features of one file into a store.

    Parameters
    ----------
    dock
        The dock.
    scene
        The viewer's scene: the open slide is the file's, unless another is named.
    store
        Returns the folder that keeps features, None where none is chosen.
    """

    def __init__(self, dock: Dock, scene: Scene, store: Callable[[], Path | None]):
        super().__init__()
        self._dock, self._scene, self._store = dock, scene, store
        self.reading: Job[Taken] | None = None
        self.keeping: Job[int] | None = None
        self.taken: Taken | None = None
        self._asked: Asked | None = None
        self._refused = False
        self._build()
        self._listen()
        self._show()

    def _build(self) -> None:
        column, form = QVBoxLayout(self), Form()
        column.setContentsMargins(0, 0, 0, 0)
        ask = ask_file("Choose a feature file", PATTERNS)
        self.file = PathField("a .h5 file, or drop it", ask, self._named)
        ask = ask_file("Choose the slide of these features", SLIDES)
        self.slide = PathField("the open slide", ask, self._named)
        ask = ask_file("Choose CLAM's file of patches", PATTERNS)
        self.patches = PathField("optional: CLAM's patches", ask, self._named)
        self.unit, self.side = QComboBox(), QDoubleSpinBox()
        self.encoder, self.confirm = QLineEdit(), QCheckBox(CONFIRM)
        self.says = {name: quiet() for name in ("unit", "patch_um", "encoder", "rest")}
        for value, text in UNITS.items():
            self.unit.addItem(text, value)
        self.side.setRange(0, 99_999)
        self.side.setSpecialValueText("not known")
        self.side.setSuffix(" µm")
        self.meaning = QWidget()
        column.addLayout(form)
        for name, field in (
            ("Features", self.file),
            ("Slide", self.slide),
            ("Patches", self.patches),
        ):
            form.add(name, field)
        self.head, self.notice = Notice(), Notice()
        self.button = QPushButton("Import")
        column.addWidget(self.head)
        column.addWidget(self.meaning)
        for widget in (self.confirm, self.button, self.notice):
            column.addWidget(widget)
        self._build_meaning()

    def _build_meaning(self) -> None:
        form = Form()
        self.meaning.setLayout(form)
        form.add("Places count in", self.unit)
        form.add("", self.says["unit"])
        form.add("Side of a patch", self.side)
        form.add("", self.says["patch_um"])
        form.add("Made by", self.encoder)
        form.add("", self.says["encoder"])
        form.addRow(self.says["rest"])
        self.encoder.setToolTip("Features of one name are taken to be of one encoder")

    def _listen(self) -> None:
        self.unit.activated.connect(
            lambda _: self._correct(unit=self.unit.currentData())
        )
        self.side.editingFinished.connect(self._correct_side)
        self.encoder.editingFinished.connect(self._correct_encoder)
        self.confirm.toggled.connect(self._show)
        self.button.clicked.connect(self._keep)
        self._dock.hear(self._scene.session.events.slide, self._follow_slide)

    def choose(self, path: Path) -> None:
        """Read a feature file."""
        self.file.set_path(path)

    def obstacle(self) -> str:
        """Return why nothing can be imported, "" if it can."""
        if self.file.path is None:
            return "Choose a feature file first."
        if self._slide_path() is None:
            return "Open the slide of these features, or name its file."
        if self.reading is not None:
            return "The file is being read."
        if self.keeping is not None:
            return "The features are being kept."
        if self.taken is None or self._refused:
            return "The file cannot be imported with these values; see above."
        if not self.taken.meaning.stated and not self.confirm.isChecked():
            return f"Look at the values, correct what is wrong, then tick “{CONFIRM}”."
        return "" if self._store() else "Choose the folder that keeps the features."

    def _slide_path(self) -> Path | None:
        return self.slide.path or self._scene.session.slide

    def _follow_slide(self) -> None:
        if self.slide.path is None:
            self._named()

    def _named(self, _: Path | None = None) -> None:
        """Read the file afresh: what was said of another one does not hold."""
        file, slide = self.file.path, self._slide_path()
        self.taken = self.reading = self._asked = None
        self._refused = False
        self._forget_values()
        if file is not None and slide is not None:
            is_open = self.slide.path is None
            session = self._scene.session
            self._read(
                Asked(
                    file,
                    slide,
                    self.patches.path,
                    self._scene.asked_mpp if is_open else None,
                    session.srgb and is_open,
                )
            )
        self._show()

    def _correct(self, **said: Any) -> None:
        if self._asked is not None:
            self._read(replace(self._asked, **said))
            self._show()

    def _correct_side(self) -> None:
        shown = self.taken.meaning.patch_um.value if self.taken else 0.0
        if abs(self.side.value() - shown) > 0.005:
            self._correct(patch_um=self.side.value() or None)

    def _correct_encoder(self) -> None:
        shown = self.taken.meaning.encoder.value if self.taken else ""
        if (name := self.encoder.text().strip()) != shown:
            self._correct(encoder=name or None)

    def _forget_values(self) -> None:
        self.unit.setCurrentIndex(-1)
        self.side.setValue(0)
        self.encoder.clear()
        for label in self.says.values():
            label.clear()

    def _read(self, asked: Asked) -> None:
        self._asked, self._refused = asked, False
        self.head.say(f"Reading {asked.file.name}…")
        self.notice.clear()
        self.confirm.setChecked(False)
        self.reading = job = _once(lambda: take(asked))
        self._dock.hear(job.event, partial(self._take, job.number), thread="main")
        self._dock.hear(job.failed, partial(self._refuse, job.number), thread="main")
        job.start()

    def _take(self, number: int, taken: Taken) -> None:
        if self.reading is not None and self.reading.number == number:
            self.taken, self.reading = taken, None
            self._fill(taken)
            self._show()

    def _refuse(self, number: int, error: Exception) -> None:
        if self.reading is not None and self.reading.number == number:
            self.reading, self._refused = None, True
            self._show()
            self.head.say(failure(error, "Nothing was kept."), "error")

    def _fill(self, taken: Taken) -> None:
        meaning = taken.meaning
        self.head.say(headline(taken))
        self.unit.setCurrentIndex(self.unit.findData(meaning.unit.value))
        self.side.setValue(meaning.patch_um.value)
        self.encoder.setText(meaning.encoder.value)
        for name in ("unit", "patch_um", "encoder"):
            _say(self.says[name], getattr(meaning, name))
        self.says["rest"].setText(rest(taken))

    def _show(self) -> None:
        taken = self.taken
        if self.file.path is None:
            self.head.clear()
        elif self._slide_path() is None:
            self.head.say("Open the slide of these features, or name its file above.")
        self.meaning.setVisible(taken is not None or self._refused)
        doubt = taken is not None and not self._refused and not taken.meaning.stated
        self.confirm.setVisible(doubt)
        tip = "Keep the features; nothing is changed in the file"
        allow(self.button, tip=tip, obstacle=self.obstacle())

    def _keep(self) -> None:
        taken, store = self.taken, self._store()
        if taken is None or store is None or self.obstacle():
            return
        self.notice.say("Keeping the features…")
        self.keeping = job = _once(lambda: keep(taken, store))
        self._dock.hear(job.event, partial(self._kept, taken), thread="main")
        self._dock.hear(job.failed, self._lost, thread="main")
        self._show()
        job.start()

    def _kept(self, taken: Taken, patches: int) -> None:
        self.keeping = None
        self.notice.say(kept(taken, patches))
        self._show()

    def _lost(self, error: Exception) -> None:
        self.keeping = None
        self.notice.say(failure(error, "Nothing was kept."), "error")
        self._show()


def headline(taken: Taken) -> str:
    """Return whose file it is and how much it holds."""
    file = taken.file
    return (
        f"A file of {LAYOUTS[file.layout]}: {count(len(file), 'patch', 'es')} × "
        f"{count(file.width, 'feature')} for {taken.asked.slide.name}."
    )


def rest(taken: Taken) -> str:
    """Return what follows from the rest: distance, um/px, how far patches reach."""
    meaning = taken.meaning
    stride, mpp = meaning.stride_um, meaning.mpp
    return "\n".join(
        (
            f"Distance of patches: {stride.value:.4g} µm ({stride.evidence}).",
            f"Seen at {mpp.value:.4g} µm/px ({mpp.evidence}).",
            f"The patches reach {size_mm(taken.reach_um)} from the slide's upper left "
            f"corner; the slide has {size_mm(taken.size_um)}.",
        )
    )


def kept(taken: Taken, patches: int) -> str:
    """Return what was kept and how it is used."""
    return (
        f"Kept {count(patches, 'patch', 'es')}. As an encoder these features are "
        f"called {taken.encoder}: name it in a training's run file."
    )


def _say(label: QLabel, fact: Inferred[Any]) -> None:
    """Show what a value rests on; what was only concluded stands out."""
    label.setText(f"{'From the file' if fact.stated else 'Concluded'}: {fact.evidence}")
    if fact.evidence == "as given":
        label.setText("As you said")
    label.setStyleSheet("" if fact.stated else "color: #d9a441;")


def _once(step: Callable[[], Any]) -> Job[Any]:
    return Job(lambda: iter([step()]), thread=THREAD)
