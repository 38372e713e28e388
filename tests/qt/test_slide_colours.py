"""The colour switch: the same layer in converted colours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shown_slides import coloured_slide, show_slide

from icc_profiles import lab_profile, swapped_profile
from napari_gimp._qt.analyse import AnalyseDock
from napari_gimp._qt.scene import scene_of
from napari_gimp._qt.slide import SlideDock
from napari_gimp._qt.slide_colours import reopened
from napari_gimp._qt.slide_layers import view_of
from napari_gimp.errors import SlideError
from napari_gimp.patches.plan import PatchPlan

Deliver = Callable[[Any], None]
Make = Callable[..., Path]


def test_the_colour_switch_shows_the_slide_converted_in_the_same_layer(
    viewer: Any, dock: SlideDock, tmp_path: Path, deliver: Deliver
) -> None:
    show_slide(viewer, coloured_slide(tmp_path / "other.tif"))
    (layer,) = show_slide(
        viewer, coloured_slide(tmp_path / "scan.tif", swapped_profile())
    )
    show_slide(viewer, coloured_slide(tmp_path / "third.tif"))
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
    show_slide(viewer, coloured_slide(tmp_path / "scan.tif", swapped_profile()))
    assert analyse.request().srgb is False

    dock.colours.box.click()
    deliver(dock.colours.opening)

    assert analyse.request().srgb is True


def test_other_colours_leave_what_was_planned_for_the_slide(
    viewer: Any, tmp_path: Path
) -> None:
    path = coloured_slide(tmp_path / "scan.tif", swapped_profile())
    (layer,) = show_slide(viewer, path)
    scene, view = scene_of(viewer), view_of(layer)
    assert view is not None
    plan = PatchPlan(min_tissue=0.2, include=(tmp_path / "marks.geojson",))
    scene.session.plan = plan

    scene.show_instead(layer, reopened(view, srgb=True))

    assert scene.session.srgb
    assert scene.session.plan == plan


def test_without_a_profile_the_switch_is_off_and_says_why(
    viewer: Any, dock: SlideDock, tmp_path: Path
) -> None:
    show_slide(viewer, coloured_slide(tmp_path / "scan.tif"))

    assert not dock.colours.box.isEnabled()
    assert "no colour profile" in dock.colours.box.toolTip()


def test_a_profile_that_cannot_be_used_leaves_the_slide_as_it_was(
    viewer: Any, dock: SlideDock, tmp_path: Path, deliver: Deliver
) -> None:
    (layer,) = show_slide(viewer, coloured_slide(tmp_path / "scan.tif", lab_profile()))
    old = view_of(layer)

    dock.colours.box.click()
    deliver(dock.colours.opening)

    assert view_of(layer) is old
    assert not dock.colours.box.isChecked()
    assert dock.colours.notice.property("tone") == "error"
    assert "cannot be used" in dock.colours.notice.text()


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
