"""Label images: read on consent only, and never a layer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shown_slides import show_slide

from napari_gimp._qt.slide import SlideDock
from napari_gimp._qt.slide_label import as_rgb

Deliver = Callable[[Any], None]
Make = Callable[..., Path]


class WithLabel:
    """A slide with a label image that counts how often it is read."""

    def __init__(self, path: Path) -> None:
        self.path, self.associated, self.read = path, ("label",), 0

    def read_associated(self, name: str) -> Any:
        assert name == "label"
        self.read += 1
        return np.full((30, 60, 3), 77, dtype=np.uint8)


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
