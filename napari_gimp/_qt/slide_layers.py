"""Slides in the viewer: sharpened as tiles arrive, in um, with a scale bar."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from psygnal import Signal

from napari_gimp._qt.slide_refresh import Refresher, slice_ahead
from napari_gimp.errors import ResolutionError
from napari_gimp.geometry import YX
from napari_gimp.slide.resolution import from_user
from napari_gimp.slide.source import level_grid

if TYPE_CHECKING:
    from napari_gimp.slide.view import SlideView

PATH_KEY, VIEW_KEY, CHANNEL_KEY = "gimp_slide", "gimp_view", "gimp_channel"


class SlideLayers:
    """Watches a viewer's slide layers.

    Parameters
    ----------
    viewer
        napari's viewer.
    """

    changed = Signal()
    """A slide layer was added or removed."""
    swapped = Signal()
    """A slide layer shows another view of its slide."""

    def __init__(self, viewer: Any) -> None:
        self._viewer = viewer
        self._refreshers: dict[SlideView, Refresher] = {}
        self._ahead = slice_ahead(viewer, lambda: bool(self._refreshers))
        for layer in viewer.layers:
            self._take(layer)
        viewer.layers.events.inserted.connect(self._inserted)
        viewer.layers.events.removed.connect(self._removed)

    @property
    def layers(self) -> list[Any]:
        """The slide layers, topmost first."""
        return [x for x in reversed(self._viewer.layers) if PATH_KEY in x.metadata]

    @property
    def slides(self) -> list[Any]:
        """One layer for each slide, topmost first: channels are one slide."""
        first: dict[int, Any] = {}
        for layer in self.layers:
            first.setdefault(id(view_of(layer) or layer), layer)
        return list(first.values())

    def layers_of(self, view: SlideView) -> list[Any]:
        """Return the layers that show a slide: one, or one for each channel."""
        return [layer for layer in self.layers if view_of(layer) is view]

    def swap(self, layer: Any, view: SlideView) -> None:
        """Show another view of the same slide in a layer, and close the old one."""
        old = view_of(layer)
        layer.metadata = {**layer.metadata, VIEW_KEY: view}
        layer.data = view.levels
        self._refreshers[view] = Refresher(view)
        self._refreshers[view].add(layer)
        if old is not None:
            self._leave(old, layer)
        self.swapped.emit()

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
            if view not in self._refreshers:
                self._refreshers[view] = Refresher(view)
            self._refreshers[view].add(layer)
        self.changed.emit()

    def _removed(self, event: Any) -> None:
        layer = event.value
        if PATH_KEY not in layer.metadata:
            return
        if view := view_of(layer):
            self._leave(view, layer)
        self.changed.emit()

    def _leave(self, view: SlideView, layer: Any) -> None:
        """Let a layer go, and the slide with its last one."""
        refresher = self._refreshers.get(view)
        if refresher is None:
            return
        refresher.remove(layer)
        if not len(refresher):
            del self._refreshers[view]
            refresher.stop()
            view.close()
            view.source.close()


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
