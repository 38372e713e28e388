"""What `napari-gimp view` opens: the slide as it was asked for, and the docks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import napari
import numpy as np
import pytest
import tifffile

from icc_profiles import swapped_profile
from napari_gimp import desktop
from napari_gimp._qt.scene import scene_of
from napari_gimp._qt.slide_layers import view_of


@pytest.fixture
def viewer(make_napari_viewer: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The viewer that `open_desktop` opens; its event loop does not start."""
    viewer = make_napari_viewer()
    monkeypatch.setattr(desktop, "_viewer", lambda _: viewer)
    monkeypatch.setattr(napari, "run", lambda: None)
    return viewer


def test_a_slide_is_opened_with_the_um_per_px_that_was_given(
    viewer: Any, make_slide: Callable[..., Path]
) -> None:
    path = make_slide(mpp=None)

    desktop.open_desktop(path, mpp=0.25)

    (layer,) = viewer.layers
    np.testing.assert_allclose(layer.scale, 0.25)
    session = scene_of(viewer).session
    assert (session.slide, session.mpp) == (path, (0.25, 0.25))


def test_a_slide_is_opened_with_converted_colours_where_asked(
    viewer: Any, tmp_path: Path
) -> None:
    path = tmp_path / "scan.tif"
    pixels = np.full((600, 600, 3), (200, 120, 40), dtype=np.uint8)
    um: dict[str, Any] = {"resolution": (2e4, 2e4), "resolutionunit": 3}
    tifffile.imwrite(
        path, pixels, photometric="rgb", iccprofile=swapped_profile(), **um
    )

    desktop.open_desktop(path, srgb=True)

    (layer,) = viewer.layers
    view = view_of(layer)
    assert view is not None
    assert view.source.srgb
    assert scene_of(viewer).session.srgb, "so that an analysis sees the same colours"
