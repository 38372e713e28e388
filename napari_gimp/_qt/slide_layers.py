"""Slides in the viewer: sharpened as tiles arrive, in um, with a scale bar."""

from __future__ import annotations

import weakref
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psygnal import Signal

from napari_gimp.errors import ResolutionError
from napari_gimp.geometry import YX
from napari_gimp.slide.resolution import from_user
from napari_gimp.slide.source import level_grid

if TYPE_CHECKING:
    from napari_gimp.slide.view import SlideView

PATH_KEY, VIEW_KEY = "gimp_slide", "gimp_view"


class SlideLayers:
    """Watches a viewer's slide layers.

    Parameters
    ----------
    viewer
        napari's viewer.
    """

    changed = Signal()
    """A slide layer was added or removed."""

    def __init__(self, viewer: Any) -> None:
        self._viewer = viewer
        self._views: dict[int, SlideView] = {}
        for layer in viewer.layers:
            self._take(layer)
        viewer.layers.events.inserted.connect(self._inserted)
        viewer.layers.events.removed.connect(self._removed)

    @property
    def layers(self) -> list[Any]:
        """The slide layers, topmost first."""
        return [x for x in reversed(self._viewer.layers) if PATH_KEY in x.metadata]

    def layer_of(self, path: Path) -> Any | None:
        """Return the topmost layer that shows a file, None if there is none."""
        return next((x for x in self.layers if path_of(x) == path), None)

    def _inserted(self, event: Any) -> None:
        self._take(event.value)

    def _take(self, layer: Any) -> None:
        if PATH_KEY not in layer.metadata:
            return
        self._viewer.canvas.overlays.scale_bar.visible = True
        if view := view_of(layer):
            self._views[id(layer)] = view
            layer.interpolation2d = "linear"  # nearest speckles where pixels are small
            view.updated.connect(partial(_refresh, weakref.ref(layer)), thread="main")
        self.changed.emit()

    def _removed(self, event: Any) -> None:
        if view := self._views.pop(id(event.value), None):
            view.close()
        if PATH_KEY in event.value.metadata:
            self.changed.emit()


def path_of(layer: Any) -> Path:
    """Return the slide file of a slide layer."""
    return Path(layer.metadata[PATH_KEY])


def view_of(layer: Any) -> SlideView | None:
    """Return the progressive view behind a slide layer."""
    view: SlideView | None = layer.metadata.get(VIEW_KEY)
    return view


def mpp_of(layer: Any) -> YX | None:
    """Return um per level-0 pixel (y, x); None where nobody knows."""
    view = view_of(layer)
    try:
        return None if view is None else view.source.mpp
    except ResolutionError:
        return None


def give_mpp(layer: Any, mpp: YX) -> None:
    """Take a user's word for the um/px of a slide layer and lay it out in um."""
    view = view_of(layer)
    assert view is not None, "only a slide layer can be given um/px"
    view.source.resolution = from_user(mpp)
    for name, value in level_grid(view.source, 0).layer_kwargs(mpp).items():
        setattr(layer, name, value)


def _refresh(reference: weakref.ref[Any]) -> None:
    layer = reference()
    if layer is not None:
        layer.refresh(extent=False, thumbnail=False)
