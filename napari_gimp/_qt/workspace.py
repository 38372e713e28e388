"""All docks at once, tabbed at the right, in the order of the work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qtpy.QtWidgets import QWidget

from napari_gimp._qt.analyse import AnalyseDock
from napari_gimp._qt.genes import GenesDock
from napari_gimp._qt.maps import MapsDock
from napari_gimp._qt.results import ResultsDock
from napari_gimp._qt.scene import Scene, scene_of
from napari_gimp._qt.slide import SlideDock
from napari_gimp._qt.train import TrainDock

TITLES = ("1 Slide", "2 Analyse", "3 Results", "4 Maps", "5 Genes", "6 Train")
FULL_NAME = "{} (GIMP - slides and genes)"
"""napari's name of a plugin's dock: its menu then finds ours, and makes no second."""


class Workspace:
    """The docks of one viewer.

    Parameters
    ----------
    scene
        The viewer's scene.

    Attributes
    ----------
    slide, analyse, results, maps, genes, train
        The docks.
    """

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        viewer = scene.viewer
        self.slide, self.analyse = SlideDock(viewer), AnalyseDock(viewer)
        self.results, self.maps = ResultsDock(viewer), MapsDock(viewer)
        self.genes, self.train = GenesDock(viewer), TrainDock(viewer)
        docks = (
            self.slide,
            self.analyse,
            self.results,
            self.maps,
            self.genes,
            self.train,
        )
        for title, dock in zip(TITLES, docks, strict=True):
            _tab(viewer, dock, title)

    def prepare(
        self,
        *,
        genes: Path | None = None,
        sample: str | None = None,
        start: bool = False,
    ) -> None:
        """Fill the Analyse dock in; with `start`, run once the table is read."""
        self.analyse.prepare(genes, sample, start=start)


def open_workspace(napari_viewer: Any) -> Workspace:
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


def _tab(viewer: Any, dock: QWidget, title: str) -> None:
    made = viewer.window.add_dock_widget(
        dock,
        name=FULL_NAME.format(title),
        area="right",
        tabify=True,
        add_vertical_stretch=False,
    )
    made.setWindowTitle(title[2:])
