"""All docks at once, tabbed at the right, in the order of the work."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from napari.viewer import Viewer

from napari_gimp._qt.analyse import AnalyseDock
from napari_gimp._qt.cohort import CohortDock
from napari_gimp._qt.genes import GenesDock
from napari_gimp._qt.maps import MapsDock
from napari_gimp._qt.parts import Dock
from napari_gimp._qt.results import ResultsDock
from napari_gimp._qt.scene import Scene, scene_of
from napari_gimp._qt.slide import SlideDock
from napari_gimp._qt.train import TrainDock

D = TypeVar("D", bound=Dock)
TITLES = (
    *("1 Slide", "2 Analyse", "3 Results", "4 Maps", "5 Genes", "6 Train"),
    "7 Cohort",
)
FULL_NAME = "{} (GIMP - slides and genes)"
"""napari's name of a plugin's dock: its menu then finds ours, and makes no second."""


class Workspace:
    """The docks of one viewer; those that are open already are taken over.

    Parameters
    ----------
    scene
        The viewer's scene.

    Attributes
    ----------
    slide, analyse, results, maps, genes, train, cohort
        The docks.
    """

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        viewer = scene.viewer
        self.slide = _open(viewer, SlideDock, TITLES[0])
        self.analyse = _open(viewer, AnalyseDock, TITLES[1])
        self.results = _open(viewer, ResultsDock, TITLES[2])
        self.maps = _open(viewer, MapsDock, TITLES[3])
        self.genes = _open(viewer, GenesDock, TITLES[4])
        self.train = _open(viewer, TrainDock, TITLES[5])
        self.cohort = _open(viewer, CohortDock, TITLES[6])

    def prepare(
        self,
        *,
        genes: Path | None = None,
        sample: str | None = None,
        start: bool = False,
    ) -> None:
        """Fill the Analyse dock in; with `start`, run once the table is read."""
        self.analyse.prepare(genes, sample, start=start)


def open_workspace(napari_viewer: Viewer) -> Workspace:
    """Open all docks as tabs at the right, Analyse in front."""
    workspace = Workspace(connect_slide(napari_viewer))
    dock = workspace.analyse.parentWidget()
    if dock is not None:
        dock.raise_()
    return workspace


def connect_slide(viewer: Any) -> Scene:
    """Sharpen slide layers as their tiles arrive and show a scale bar in um.

    Holds for the layers there are and for those to come.
    """
    return scene_of(viewer)


def _open(viewer: Any, make: Callable[[Any], D], title: str) -> D:
    """Return the dock of a title, made and tabbed at the right if there is none."""
    name = FULL_NAME.format(title)
    if name in viewer.window.dock_widgets:
        open_already: D = viewer.window.dock_widgets[name]
        return open_already
    dock = make(viewer)
    made = viewer.window.add_dock_widget(
        dock, name=name, area="right", tabify=True, add_vertical_stretch=False
    )
    made.setWindowTitle(title[2:])  # short on the tab
    return dock
