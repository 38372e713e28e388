"""Open napari with a slide and our docks, as `view` and `demo` do.

The docks are imported when they are opened, so that this module needs no Qt.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from napari_gimp.errors import GimpError


def open_desktop(
    slide: Path,
    *,
    mpp: float | None = None,
    srgb: bool = False,
    genes: Path | None = None,
    sample: str | None = None,
    start: bool = False,
) -> None:
    """Show a slide in napari with all docks; blocks until the window is closed.

    Parameters
    ----------
    slide
        The slide to open.
    mpp
        um per level-0 pixel where the file does not say.
    srgb
        Convert colours from the slide's ICC profile to sRGB.
    genes, sample
        Expression table and the patient's sample, filled into the Analyse dock.
    start
        Whether to start the analysis at once.

    Raises
    ------
    GimpError
        If no Qt binding can be loaded.
    """
    import napari

    viewer = _viewer(napari)
    from napari_gimp._qt.workspace import open_workspace  # needs a Qt binding
    from napari_gimp.reader import read_slides

    for drawing in read_slides(str(slide), mpp=mpp, srgb=srgb):
        viewer.add_layer(napari.layers.Layer.create(*drawing))
    open_workspace(viewer).prepare(genes=genes, sample=sample, start=start)
    napari.run()


def has_display() -> bool:
    """Whether a window can be opened."""
    named = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    return sys.platform in {"darwin", "win32"} or bool(named)


def check_display() -> None:
    """Refuse to open a window where there is no display: Qt would abort the process.

    Raises
    ------
    GimpError
        If there is none and Qt was not told to do without.
    """
    if has_display() or "QT_QPA_PLATFORM" in os.environ:
        return
    raise GimpError(
        "There is no display to open a window on (DISPLAY and WAYLAND_DISPLAY are "
        "not set). Log in to a desktop or use `ssh -X`; `napari-gimp info` and "
        "`napari-gimp run` need no display."
    )


def _viewer(napari: Any) -> Any:
    try:
        return napari.Viewer(title="napari-gimp")
    except ImportError as error:
        raise GimpError(
            f"napari could not open a window ({error}). A Qt binding is needed: "
            "install napari-gimp[all], then see `napari-gimp doctor`."
        ) from error
