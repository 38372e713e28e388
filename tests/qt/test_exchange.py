"""Importing features of other tools: what they mean is shown, corrected, confirmed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtWidgets import QWidget

from napari_gimp._qt.exchange import ImportPanel
from napari_gimp._qt.parts import Dock
from napari_gimp._qt.scene import scene_of
from napari_gimp.patches.imported import find_imported
from napari_gimp.patches.store import FeatureStore
from napari_gimp.slide.source import open_slide
from small_slides import write_slide

Deliver = Callable[[Any], None]
PLACES = np.stack(np.meshgrid(np.arange(4), np.arange(3)), axis=-1).reshape(-1, 2)


def write_features(path: Path, *, step: float = 256, **said: Any) -> Path:
    """Write 12 patches x 6 features as CLAM does, or with TRIDENT's attributes."""
    rng = np.random.default_rng(0)
    coords = PLACES * step
    whole = float(step).is_integer()
    with h5py.File(path, "w") as file:
        file["features"] = rng.normal(size=(12, 6)).astype("f4")
        file["coords"] = coords.astype("i4" if whole else "f4")
        file["coords"].attrs.update(said)
    return path


@pytest.fixture
def panel(qtbot: Any, tmp_path: Path) -> Iterator[ImportPanel]:
    """A panel whose slide has 1024 x 1024 px of 0.5 um, whose store is `store`."""
    window, dock = QWidget(), Dock()
    qtbot.addWidget(window)
    dock.setParent(window)
    scene = scene_of(ViewerModel())
    made = ImportPanel(dock, scene, lambda: tmp_path / "store")
    made.setParent(dock)
    made.slide.set_path(write_slide(tmp_path / "slide.tif", seed=1))
    yield made
    window.close()


@pytest.fixture
def read(panel: ImportPanel, deliver: Deliver) -> Callable[[Path], ImportPanel]:
    def choose(path: Path) -> ImportPanel:
        panel.choose(path)
        deliver(panel.reading)
        return panel

    return choose


def stored(tmp_path: Path) -> Any:
    with closing(open_slide(tmp_path / "slide.tif")) as source:
        (found,) = find_imported(FeatureStore(tmp_path / "store"), source.fingerprint)
    return found


def test_what_was_concluded_is_shown_and_must_be_confirmed(
    read: Callable[[Path], ImportPanel], tmp_path: Path, deliver: Deliver
) -> None:
    panel = read(write_features(tmp_path / "slide.h5"))

    assert panel.head.text() == (
        "A file of CLAM: 12 patches × 6 features for slide.tif."
    )
    assert panel.unit.currentText() == "level-0 pixels"
    assert panel.side.value() == 128.0
    assert panel.says["unit"].text().startswith("Concluded: whole numbers")
    assert "reach 0.512 × 0.384 mm" in panel.says["rest"].text()
    assert not panel.button.isEnabled()
    assert "tick" in panel.button.toolTip()
    assert not (tmp_path / "store").exists()

    panel.confirm.setChecked(True)
    panel.button.click()
    deliver(panel.keeping)

    assert "imported:unnamed-6:6" in panel.notice.text()
    found = stored(tmp_path)
    assert found.patches.patch_um == 128.0
    assert np.allclose(found.patches.coords_um[0], (64, 64))


def test_what_the_file_states_needs_no_confirmation(
    read: Callable[[Path], ImportPanel], tmp_path: Path
) -> None:
    said = {"patch_size": 128, "patch_size_level0": 256, "target_magnification": 10}
    folder = tmp_path / "features_uni"
    folder.mkdir()
    path = write_features(folder / "slide.h5", **said)
    with h5py.File(path, "a") as file:
        file.attrs["encoder"] = "uni_v1"

    panel = read(path)

    assert panel.head.text().startswith("A file of TRIDENT")
    assert panel.confirm.isHidden()
    assert panel.encoder.text() == "uni_v1"
    assert panel.says["patch_um"].text().startswith("From the file: attribute")
    assert panel.button.isEnabled()


def test_a_correction_is_read_again_and_kept(
    read: Callable[[Path], ImportPanel], tmp_path: Path, deliver: Deliver
) -> None:
    panel = read(write_features(tmp_path / "slide.h5"))
    panel.confirm.setChecked(True)

    panel.encoder.setText("uni2")
    panel.encoder.editingFinished.emit()
    assert not panel.confirm.isChecked()
    deliver(panel.reading)
    panel.side.setValue(112.0)
    panel.side.editingFinished.emit()
    deliver(panel.reading)

    assert panel.says["encoder"].text() == "As you said"
    assert panel.says["patch_um"].text() == "As you said"
    panel.confirm.setChecked(True)
    panel.button.click()
    deliver(panel.keeping)
    found = stored(tmp_path)
    assert (found.encoder, found.patches.patch_um) == ("uni2", 112.0)


def test_a_wrong_unit_is_refused_and_can_be_put_right(
    read: Callable[[Path], ImportPanel], tmp_path: Path, deliver: Deliver
) -> None:
    panel = read(write_features(tmp_path / "slide.h5"))

    panel.unit.setCurrentIndex(panel.unit.findData("um"))
    panel.unit.activated.emit(panel.unit.currentIndex())
    deliver(panel.reading)

    assert "begin outside slide.tif" in panel.head.text()
    assert panel.head.property("tone") == "error"
    assert "cannot be imported with these values" in panel.button.toolTip()

    panel.unit.setCurrentIndex(panel.unit.findData("px"))
    panel.unit.activated.emit(panel.unit.currentIndex())
    deliver(panel.reading)
    panel.confirm.setChecked(True)

    assert panel.button.isEnabled()


def test_a_side_that_nothing_tells_is_asked_for(
    read: Callable[[Path], ImportPanel], tmp_path: Path, deliver: Deliver
) -> None:
    path = tmp_path / "slide.h5"
    with h5py.File(path, "w") as file:
        file["features"] = np.ones((1, 6), "f4")
        file["coords"] = np.zeros((1, 2), "i4")
    panel = read(path)

    assert "how large its patches are" in panel.head.text()
    assert panel.side.text() == "not known"

    panel.side.setValue(128.0)
    panel.side.editingFinished.emit()
    deliver(panel.reading)

    assert panel.head.text().startswith("A file of CLAM: 1 patch × 6 features")


def test_a_file_that_is_none_is_told_in_place(
    read: Callable[[Path], ImportPanel], tmp_path: Path
) -> None:
    path = tmp_path / "notes.h5"
    path.write_text("no features")

    panel = read(path)

    assert "cannot be read as HDF5" in panel.head.text()
    assert not panel.button.isEnabled()


def test_without_a_slide_the_panel_asks_for_it(
    panel: ImportPanel, tmp_path: Path
) -> None:
    panel.slide.set_path(None)
    panel.choose(write_features(tmp_path / "slide.h5"))

    assert panel.reading is None
    assert "Open the slide of these features" in panel.head.text()
