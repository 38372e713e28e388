"""Saving a slide as a pyramid."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from shown_slides import show_slide

from napari_gimp._qt.slide import SlideDock
from napari_gimp._qt.slide_saving import FLAT_PX, pyramid_name
from napari_gimp.slide.source import open_slide

Deliver = Callable[[Any], None]
Make = Callable[..., Path]


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
