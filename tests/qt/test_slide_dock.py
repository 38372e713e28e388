"""The Slide dock: opening, um/px asked for and remembered, which slide is chosen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from shown_slides import show_slide

from napari_gimp._qt.analyse import AnalyseDock
from napari_gimp._qt.scene import scene_of
from napari_gimp._qt.slide import SlideDock

Deliver = Callable[[Any], None]
Make = Callable[..., Path]


def test_the_slide_dock_says_what_the_slide_is(
    viewer: Any, dock: SlideDock, make_slide: Make
) -> None:
    show_slide(viewer, make_slide())

    facts = dock.texts()

    assert facts["Size"] == "1,536 × 1,536 px\n0.768 × 0.768 mm"
    assert facts["Resolution"].startswith("0.5 µm/px (TIFF")
    assert not dock.question.is_asking
    assert viewer.canvas.overlays.scale_bar.visible


@pytest.mark.filterwarnings("ignore:Shown in pixels")
@pytest.mark.parametrize(("stated", "guess"), [(None, 0.5), (0.00499, 0.499)])
def test_a_slide_without_believable_um_per_px_is_asked_about_in_place(
    viewer: Any, dock: SlideDock, make_slide: Make, stated: float | None, guess: float
) -> None:
    analyse = AnalyseDock(viewer)
    show_slide(viewer, make_slide(mpp=stated))

    assert dock.question.is_asking
    assert dock.question.mpp.value() == pytest.approx(guess, rel=1e-3)
    assert "Answer in the Slide dock" in analyse.run.toolTip()

    dock.question.mpp.setValue(0.25)
    dock.question.use.click()

    assert not dock.question.is_asking
    assert "0.25 µm/px (user, unverified)" in dock.texts()["Resolution"]
    assert tuple(viewer.layers[0].scale) == (0.25, 0.25)
    assert scene_of(viewer).asked_mpp == (0.25, 0.25)


def test_a_file_that_is_no_slide_is_told_in_place(
    viewer: Any, dock: SlideDock, tmp_path: Path, deliver: Deliver
) -> None:
    path = tmp_path / "notes.svs"
    path.write_text("no slide")
    deliver(dock.open_path(path))

    assert dock.notice.property("tone") == "error"
    assert "notes.svs" in dock.notice.text()
    assert len(viewer.layers) == 0


def test_opening_a_slide_from_the_dock_adds_it_in_um(
    viewer: Any, dock: SlideDock, make_slide: Make, deliver: Deliver
) -> None:
    deliver(dock.open_path(make_slide()))

    layer = viewer.layers[0]
    assert tuple(layer.scale) == (0.5, 0.5)
    assert [str(unit) for unit in layer.units] == ["micrometer", "micrometer"]
    assert dock.notice.text() == ""


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
