"""Open napari with a slide and our docks, as `view` and `demo` do.

The docks are imported when they are opened, so that this module needs no Qt.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from napari_gimp.errors import GimpError

PLUGIN = "napari-gimp"


def open_desktop(
    slide: Path,
    *,
    genes: Path | None = None,
    sample: str | None = None,
    start: bool = False,
) -> None:
    """Show a slide in napari with all docks; blocks until the window is closed.

    Parameters
    ----------
    slide
        The slide to open.
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

    viewer.open(slide, plugin=PLUGIN)
    open_workspace(viewer).prepare(genes=genes, sample=sample, start=start)
    napari.run()


def _viewer(napari: Any) -> Any:
    try:
        return napari.Viewer(title="napari-gimp")
    except ImportError as error:
        raise GimpError(
            f"napari could not open a window ({error}). A Qt binding is needed: "
            "install napari-gimp[all], then see `napari-gimp doctor`."
        ) from error
