"""The Slide dock: facts, colours, labels, saving, trouble; channels are one slide."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from psygnal import emit_queued

from icc_profiles import lab_profile, swapped_profile
from napari_gimp._qt.analyse import AnalyseDock
from napari_gimp._qt.scene import scene_of
from napari_gimp._qt.slide import SlideDock
from napari_gimp._qt.slide_choice import SlideChoice
from napari_gimp._qt.slide_colours import reopened
from napari_gimp._qt.slide_facts import Fact, doubt_about, facts_of, hint_of
from napari_gimp._qt.slide_label import as_rgb
from napari_gimp._qt.slide_layers import view_of
from napari_gimp._qt.slide_saving import FLAT_PX, pyramid_name
from napari_gimp.errors import SlideError
from napari_gimp.reader import read_slides
from napari_gimp.slide.describe import Facts, IccFacts, LevelFacts
from napari_gimp.slide.source import open_slide
from napari_gimp.slide.tiles import tile_cache

Deliver = Callable[[Any], None]
Make = Callable[..., Path]
SHAPE = (700, 900)


@pytest.fixture
def viewer(make_napari_viewer: Any) -> Any:
    viewer = make_napari_viewer()
    scene_of(viewer)
    return viewer


@pytest.fixture
def dock(viewer: Any, qtbot: Any) -> Any:
    dock = SlideDock(viewer)
    qtbot.addWidget(dock)
    return dock


def show_slide(viewer: Any, path: Path) -> list[Any]:
    return [viewer.add_image(levels, **kw) for levels, kw, _ in read_slides(str(path))]


def write(path: Path, profile: bytes | None = None) -> Path:
    """Write a reddish tiled slide of 0.5 um/px."""
    pixels = np.full((*SHAPE, 3), (200, 120, 40), dtype=np.uint8)
    um = {"resolution": (2e4, 2e4), "resolutionunit": 3}
    tifffile.imwrite(
        path, pixels, tile=(256, 256), photometric="rgb", iccprofile=profile, **um
    )
    return path


@pytest.fixture
def channels(tmp_path: Path) -> Path:
    """Write fluorescence: two channels of 16 bits with names."""
    path = tmp_path / "cells.ome.tif"
    pixels = np.zeros((2, *SHAPE), dtype=np.uint16)
    pixels[0, 100:200, 100:200], pixels[1, 300:400, 300:400] = 4000, 9000
    about = {
        "axes": "CYX",
        "Channel": {"Name": ["DAPI", "CD8"]},
        "PhysicalSizeX": 0.5,
        "PhysicalSizeY": 0.5,
    }
    tifffile.imwrite(
        path, pixels, tile=(256, 256), photometric="minisblack", metadata=about
    )
    return path


def some_facts(**changed: Any) -> Facts:
    known: dict[str, Any] = {
        "file": "a.svs",
        "size_px": (1000, 2000),
        "size_mm": (0.5, 1.0),
        "mpp": (0.5, 0.5),
        "mpp_origin": "Aperio MPP",
        "mpp_verified": True,
        "mpp_usable": True,
        "likely_mpp": None,
        "objective": 20.0,
        "vendor": "aperio",
        "scanner": "",
        "compression": "JPEG",
        "photometric": "YCBCR",
        "reader": "tifffile",
        "refused": (),
        "levels": (LevelFacts((1000, 2000), (1.0, 1.0), (256, 240)),),
        "rgb": True,
        "channels": 3,
        "channel_names": (),
        "dtype": "uint8",
        "icc": None,
        "associated": (),
        "fingerprint": "abc",
    }
    return Facts(**(known | changed))


def test_facts_have_units_and_what_is_silent_is_left_out() -> None:
    facts = facts_of(some_facts())

    assert facts["Size"].text == "2,000 × 1,000 px\n1.00 × 0.500 mm"
    assert facts["Resolution"].text == "0.5 µm/px (Aperio MPP)"
    assert facts["Objective"].text == "20×"
    assert facts["Tiles"].text == "240 × 256 px"
    assert facts["Colour profile"].text == "none"
    assert "Scanner" not in facts
    assert "Label images" not in facts


def test_an_implausible_resolution_is_flagged_with_the_likely_one() -> None:
    facts = some_facts(
        mpp=(0.00499, 0.00499),
        mpp_verified=False,
        mpp_usable=False,
        size_mm=None,
        likely_mpp=0.499,
    )

    text = facts_of(facts)["Resolution"].text
    assert "implausible; probably 0.499 is meant" in text
    assert "no slide scanner has" in doubt_about(facts)
    assert hint_of(facts).startswith("Probably 0.499 µm/px")


def test_refusals_of_readers_are_told_in_the_tooltip() -> None:
    facts = some_facts(refused=("tifffile: overlapping tiles.",), reader="openslide")

    assert facts_of(facts)["Reader"] == Fact(
        "openslide (1 other refused the file)", "tifffile: overlapping tiles."
    )


def test_the_colour_profile_is_named_and_whether_it_is_applied() -> None:
    off, on = (IccFacts("ScanScope v1", 3144, applied) for applied in (False, True))

    assert facts_of(some_facts(icc=off))["Colour profile"].text == (
        "ScanScope v1 (not applied)"
    )
    assert "converted to sRGB" in facts_of(some_facts(icc=on))["Colour profile"].text


def test_the_colour_switch_shows_the_slide_converted_in_the_same_layer(
    viewer: Any, dock: SlideDock, tmp_path: Path, deliver: Deliver
) -> None:
    show_slide(viewer, write(tmp_path / "other.tif"))
    (layer,) = show_slide(viewer, write(tmp_path / "scan.tif", swapped_profile()))
    show_slide(viewer, write(tmp_path / "third.tif"))
    scene = scene_of(viewer)
    scene.choose_slide(layer)
    viewer.scene.camera.zoom, viewer.scene.camera.center = 3.0, (0.0, 40.0, 50.0)
    layer.opacity = 0.8
    old = view_of(layer)
    assert dock.colours.box.isEnabled()
    assert not dock.colours.box.isChecked()

    dock.colours.box.click()
    assert "opened anew" in dock.colours.box.toolTip()
    deliver(dock.colours.opening)

    view = view_of(layer)
    assert view is not old
    assert view is not None
    assert view.source.srgb
    assert scene.session.srgb
    assert scene.session.slide == tmp_path / "scan.tif"
    assert np.asarray(layer.data[-1])[5, 5].tolist() == [40, 120, 200]
    assert list(viewer.layers).index(layer) == 1
    assert layer.opacity == 0.8
    assert viewer.scene.camera.zoom == 3.0
    assert viewer.scene.camera.center == (0.0, 40.0, 50.0)
    assert dock.colours.box.isChecked()
    assert dock.texts()["Colour profile"].endswith("(converted to sRGB)")
    with pytest.raises(SlideError, match="closed"):
        old.source.read_region(0, 0, 0, 1, 1)

    dock.colours.box.click()
    deliver(dock.colours.opening)

    assert not scene.session.srgb
    assert np.asarray(layer.data[-1])[5, 5].tolist() == [200, 120, 40]


def test_models_are_given_the_colours_that_are_shown(
    viewer: Any, dock: SlideDock, tmp_path: Path, deliver: Deliver
) -> None:
    analyse = AnalyseDock(viewer)
    show_slide(viewer, write(tmp_path / "scan.tif", swapped_profile()))
    assert analyse.request().srgb is False

    dock.colours.box.click()
    deliver(dock.colours.opening)

    assert analyse.request().srgb is True


def test_without_a_profile_the_switch_is_off_and_says_why(
    viewer: Any, dock: SlideDock, tmp_path: Path
) -> None:
    show_slide(viewer, write(tmp_path / "scan.tif"))

    assert not dock.colours.box.isEnabled()
    assert "no colour profile" in dock.colours.box.toolTip()


def test_a_profile_that_cannot_be_used_leaves_the_slide_as_it_was(
    viewer: Any, dock: SlideDock, tmp_path: Path, deliver: Deliver
) -> None:
    (layer,) = show_slide(viewer, write(tmp_path / "scan.tif", lab_profile()))
    old = view_of(layer)

    dock.colours.box.click()
    deliver(dock.colours.opening)

    assert view_of(layer) is old
    assert not dock.colours.box.isChecked()
    assert dock.colours.notice.property("tone") == "error"
    assert "cannot be used" in dock.colours.notice.text()


def test_an_answer_on_um_per_px_is_known_the_next_time(
    viewer: Any, dock: SlideDock, make_slide: Make
) -> None:
    path = make_slide(mpp=None)
    with pytest.warns(UserWarning, match="Shown in pixels"):
        show_slide(viewer, path)
    dock.question.mpp.setValue(0.25)
    dock.question.use.click()
    viewer.layers.clear()

    (layer,) = show_slide(viewer, path)

    assert tuple(layer.scale) == (0.25, 0.25)
    assert not dock.question.is_asking
    assert dock.texts()["Resolution"] == "0.25 µm/px (user, remembered, unverified)"
    assert scene_of(viewer).asked_mpp == (0.25, 0.25)


def test_a_wrong_answer_can_be_changed_and_the_new_one_is_remembered(
    viewer: Any, dock: SlideDock, make_slide: Make
) -> None:
    path = make_slide(mpp=None)
    with pytest.warns(UserWarning, match="Shown in pixels"):
        show_slide(viewer, path)
    dock.question.mpp.setValue(1.0)
    dock.question.use.click()
    assert not dock.question.change.isHidden()

    dock.question.change.click()
    assert dock.question.is_asking
    assert dock.question.mpp.value() == 1.0
    dock.question.mpp.setValue(0.5)
    dock.question.use.click()

    assert not dock.question.is_asking
    assert dock.texts()["Resolution"] == "0.5 µm/px (user, unverified)"
    viewer.layers.clear()
    (layer,) = show_slide(viewer, path)
    assert tuple(layer.scale) == (0.5, 0.5)


def test_a_plausible_file_is_not_asked_about(
    viewer: Any, dock: SlideDock, make_slide: Make
) -> None:
    show_slide(viewer, make_slide())

    assert dock.question.isHidden()


def test_channels_are_one_slide_in_every_list(
    viewer: Any, dock: SlideDock, channels: Path
) -> None:
    analyse = AnalyseDock(viewer)
    layers = show_slide(viewer, channels)
    choice: SlideChoice = analyse.slide

    assert len(layers) == 2
    assert choice.layers.count() == 1
    assert choice.layers.currentText() == "cells.ome.tif"
    assert dock.texts()["Channels"] == "DAPI, CD8 (16 bit)"
    assert "Fluorescence can be viewed, not analysed" in analyse.run.toolTip()
    assert "Fluorescence can be viewed, not analysed" in analyse.notice.text()
    assert "fluorescence" in dock.colours.box.toolTip()

    viewer.layers.remove(layers[1])

    assert scene_of(viewer).session.slide == channels
    assert choice.layers.count() == 1
    view = view_of(layers[0])
    assert view is not None
    assert view.source.read_region(0, 0, 0, 1, 1).shape == (1, 1, 2)

    viewer.layers.remove(layers[0])

    assert scene_of(viewer).session.slide is None
    assert choice.layers.count() == 0
    assert analyse.notice.text() == ""


def test_the_overview_of_channels_follows_their_colours(
    viewer: Any, channels: Path, deliver: Deliver, qtbot: Any
) -> None:
    layers = show_slide(viewer, channels)
    navigation = scene_of(viewer).navigation
    deliver(navigation.drawing)
    for layer, colour in zip(layers, ("red", "green"), strict=True):
        layer.colormap, layer.contrast_limits = colour, (0, 9000)
    before = navigation.drawing
    qtbot.waitUntil(lambda: navigation.drawing is not before, timeout=5_000)
    deliver(navigation.drawing)

    navigation.overview.show_viewed(np.zeros((7, 9), dtype=np.bool_))
    image = navigation.overview.grab().toImage()
    area = navigation.overview.picture_rect

    def at(y: int, x: int) -> tuple[int, ...]:
        px = area.left() + x / SHAPE[1] * area.width()
        py = area.top() + y / SHAPE[0] * area.height()
        return image.pixelColor(int(px), int(py)).getRgb()[:3]

    assert at(150, 150) == pytest.approx((113, 0, 0), abs=6)
    assert at(350, 350) == pytest.approx((0, 255, 0), abs=6)
    assert at(600, 100) == (0, 0, 0)


def test_damaged_tiles_are_counted_in_the_dock_and_told_once(
    viewer: Any, dock: SlideDock, make_slide: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr("napari_gimp._qt.slide_trouble._notify", told.append)
    (layer,) = show_slide(viewer, make_slide())
    view = view_of(layer)
    assert view is not None
    assert dock.trouble.text() == ""

    for col in range(3):
        view.source.damage.note((0, 0, col), "bad bytes")
        view.updated.emit()
        emit_queued()

    assert "3 tiles could not be decoded" in dock.trouble.text()
    assert dock.trouble.property("tone") == "warning"
    assert len(told) == 1


def test_a_slide_that_vanishes_is_told_once_and_nothing_breaks(
    viewer: Any, dock: SlideDock, make_slide: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr("napari_gimp._qt.slide_trouble._notify", told.append)
    (layer,) = show_slide(viewer, make_slide())
    view = view_of(layer)
    assert view is not None

    view.error = SlideError("patient-7.tif cannot be read any more: plug it in.")
    for _ in range(5):
        view.updated.emit()
        emit_queued()

    assert dock.trouble.property("tone") == "error"
    assert "plug it in" in dock.trouble.text()

    for error in (None, SlideError("gone again")):
        view.error = error
        view.updated.emit()
        emit_queued()
        assert dock.trouble.text() == str(error or "")
    assert told == ["patient-7.tif cannot be read any more: plug it in."]


class WithLabel:
    """A slide with a label image that counts how often it is read."""

    def __init__(self, path: Path) -> None:
        self.path, self.associated, self.read = path, ("label",), 0

    def read_associated(self, name: str) -> Any:
        assert name == "label"
        self.read += 1
        return np.full((30, 60, 3), 77, dtype=np.uint8)


@pytest.mark.filterwarnings("ignore:patient-7.tif cannot be read")
def test_a_drive_that_is_unplugged_while_viewing_is_told_in_the_dock(
    viewer: Any, dock: SlideDock, make_slide: Make, qtbot: Any, monkeypatch: Any
) -> None:
    (layer,) = show_slide(viewer, make_slide())
    view = view_of(layer)
    assert view is not None

    def gone(level: int, row: int, col: int) -> Any:
        raise SlideError("patient-7.tif cannot be read: connect its drive again.")

    assert view.base.complete.wait(30)
    monkeypatch.setattr(view.source, "decode_tile", gone)
    tile_cache().clear()
    view.paint(0, None, 0, 0, 512, 512)

    def told() -> None:
        emit_queued()
        assert "connect its drive again" in dock.trouble.text()

    qtbot.waitUntil(told, timeout=20_000)
    assert scene_of(viewer).slide_layer is layer


@pytest.mark.parametrize("consent", [False, True])
def test_a_label_is_read_only_after_consent_and_becomes_no_layer(
    viewer: Any, dock: SlideDock, deliver: Deliver, consent: bool
) -> None:
    slide, asked = WithLabel(Path("patient-7.svs")), []

    def answer(parent: Any, text: str) -> bool:
        asked.append(text)
        return consent

    dock.label._consent = answer
    dock.label.offer(slide)  # type: ignore[arg-type] # all that the button needs
    (action,) = dock.label.choice.actions()
    assert slide.read == 0

    action.trigger()
    if dock.label.reading is not None:
        deliver(dock.label.reading)

    assert slide.read == int(consent)
    assert "may show the patient's name" in asked[0]
    assert (dock.label.shown is not None) is consent
    assert len(viewer.layers) == 0
    if dock.label.shown is not None:
        dock.label.shown.close()


def test_without_label_images_the_button_says_so(
    viewer: Any, dock: SlideDock, make_slide: Make
) -> None:
    show_slide(viewer, make_slide())

    assert not dock.label.isEnabled()
    assert "no label, macro or thumbnail" in dock.label.toolTip()


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_label_images_of_any_kind_become_colour(channels: int) -> None:
    pixels = np.full((4, 5, channels), 9, dtype=np.uint8)

    assert as_rgb(pixels).shape == (4, 5, 3)


def test_saving_writes_a_pyramid_that_opens_as_the_same_slide(
    viewer: Any, dock: SlideDock, make_slide: Make, tmp_path: Path, deliver: Deliver
) -> None:
    show_slide(viewer, make_slide())
    out = tmp_path / "saved.ome.tif"

    dock.saving.save(out)
    assert not dock.saving.button.isEnabled()
    assert not dock.saving.going.isHidden()
    deliver(dock.saving.job)

    with open_slide(out) as saved:
        assert len(saved.levels) > 1
        assert saved.mpp == pytest.approx((0.5, 0.5))
        assert (
            abs(
                saved.read_region(0, 320, 320, 1, 1)[0, 0].astype(int) - [0, 0, 255]
            ).max()
            < 8
        )
    assert dock.saving.notice.text() == f"Saved {out}"
    assert dock.saving.button.isEnabled()
    assert dock.saving.going.isHidden()


@pytest.mark.parametrize("by_key", [False, True])
def test_saving_can_be_cancelled_and_leaves_nothing(
    by_key: bool,
    viewer: Any,
    dock: SlideDock,
    make_slide: Make,
    tmp_path: Path,
    deliver: Deliver,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun, closed = threading.Event(), threading.Event()

    def endless(*_: object, **__: object) -> Iterator[tuple[int, int]]:
        try:
            while True:
                begun.set()
                yield 1, 10
        finally:
            closed.set()

    monkeypatch.setattr("napari_gimp.slide.convert.conversion", endless)
    show_slide(viewer, make_slide())
    dock.saving.save(tmp_path / "saved.ome.tif")
    job = dock.saving.job
    assert begun.wait(30)

    if by_key:
        viewer.window._qt_viewer._key_map_handler.press_key("Escape")
    else:
        dock.saving.cancel.click()
    deliver(job)

    assert closed.is_set()
    assert dock.saving.notice.text() == "Cancelled."
    assert dock.saving.job is None
    assert not (tmp_path / "saved.ome.tif").exists()


def test_a_slide_that_cannot_be_saved_is_told_in_place(
    viewer: Any, dock: SlideDock, make_slide: Make, deliver: Deliver
) -> None:
    path = make_slide()
    show_slide(viewer, path)

    dock.saving.save(path)
    deliver(dock.saving.job)

    assert dock.saving.notice.property("tone") == "error"
    assert "is the slide itself" in dock.saving.notice.text()
    assert path.is_file()


@pytest.mark.parametrize(
    ("name", "proposed"),
    [
        ("a.svs", "a.ome.tif"),
        ("a.ome.tif", "a-pyramid.ome.tif"),
        ("a.tif", "a.ome.tif"),
        ("folder", "folder.ome.tif"),
    ],
)
def test_the_proposed_name_is_never_the_slide_s_own(name: str, proposed: str) -> None:
    assert pyramid_name(Path(name)) == proposed


def test_a_pyramid_is_offered_for_a_large_flat_picture(
    viewer: Any, dock: SlideDock, tmp_path: Path
) -> None:
    path = tmp_path / "flat.png"
    from PIL import Image

    Image.new("RGB", (FLAT_PX, 64), "pink").save(path)
    with pytest.warns(UserWarning, match="Shown in pixels"):
        show_slide(viewer, path)

    assert "no smaller levels" in dock.saving.advice.text()


def test_a_slide_in_other_colours_is_not_a_new_slide(
    viewer: Any, make_slide: Make
) -> None:
    names = ("patient-7", "patient-8", "patient-9")
    first, second, third = (show_slide(viewer, make_slide(n))[0] for n in names)
    scene, view = scene_of(viewer), view_of(first)
    assert view is not None
    scene.choose_slide(second)

    scene.show_instead(first, reopened(view, srgb=False))
    viewer.layers.remove(third)

    assert scene.slide_layer is second


def test_removing_another_slide_leaves_the_chosen_one(
    viewer: Any, make_slide: Make
) -> None:
    (first,) = show_slide(viewer, make_slide("patient-7"))
    (second,) = show_slide(viewer, make_slide("patient-8"))
    (third,) = show_slide(viewer, make_slide("patient-9"))
    scene = scene_of(viewer)
    assert scene.slide_layer is third
    scene.choose_slide(first)

    viewer.layers.remove(second)
    assert scene.slide_layer is first

    viewer.layers.remove(first)
    assert scene.slide_layer is third
