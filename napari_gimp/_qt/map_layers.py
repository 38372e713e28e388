"""Keeps napari's layers equal to the session's maps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_gimp.layers import Display, map_layer
from napari_gimp.session import Session

if TYPE_CHECKING:
    from napari_gimp.explain.maps import PatchMap

KEY = "gimp_map"
"""Metadata key that holds the map's name."""

Drawn = tuple["PatchMap", Display]
ADD_ONLY = ("blending", "metadata", "name", "units")


class MapLayers:
    """Draws each map of the session as one image layer; only the shown one is on.

    Parameters
    ----------
    viewer
        napari's viewer.
    session
        The viewer's session; it must know the slide's um/px before maps come.
    """

    def __init__(self, viewer: Any, session: Session) -> None:
        self._viewer = viewer
        self._session = session
        self._drawn: dict[str, Drawn] = {}
        for signal in (session.events.maps, session.events.display):
            signal.connect(self.draw)
        session.events.shown.connect(self._show)
        for signal in (session.events.shown, session.events.display):
            signal.connect(self._show_legend)

    def draw(self) -> None:
        """Apply what differs; a hidden map is drawn when it is shown."""
        for name in set(self._drawn) - set(self._session.maps):
            self._remove(name)
        for name, patch_map in self._session.maps.items():
            if name == self._session.shown or self.layer(name) is None:
                self._draw_one(name, patch_map)

    def layer(self, name: str) -> Any | None:
        """Return the layer of a map, None if there is none (any more)."""
        layers = self._viewer.layers
        return next((x for x in layers if x.metadata.get(KEY) == name), None)

    def set_visible(self, visible: bool) -> None:
        """Show or hide the map on display, as to look under it."""
        layer = self.layer(self._session.shown or "")
        if layer is not None:
            layer.visible = visible

    def _draw_one(self, name: str, patch_map: PatchMap) -> None:
        wanted = (patch_map, self._session.display)
        layer = self.layer(name)
        if layer is not None and self._drawn.get(name) == wanted:
            return
        assert self._session.mpp is not None, "maps came before the slide's um/px"
        drawing = map_layer(patch_map, self._session.mpp, self._session.display)
        if layer is None:
            self._add(name, *drawing[:2])
        else:
            _change(layer, *drawing[:2])
        self._drawn[name] = wanted

    def _add(self, name: str, values: Any, kwargs: dict[str, Any]) -> None:
        active = self._viewer.layers.selection.active
        layer = self._viewer.add_image(values, **kwargs)
        layer.visible = name == self._session.shown
        layer.colorbar.visible = True
        self._viewer.layers.selection.active = active or layer

    def _remove(self, name: str) -> None:
        del self._drawn[name]
        layer = self.layer(name)
        if layer is not None:
            self._viewer.layers.remove(layer)

    def _show(self, shown: str | None) -> None:
        self.draw()
        for name in self._session.maps:
            layer = self.layer(name)
            if layer is not None:
                layer.visible = name == shown

    def _show_legend(self) -> None:
        shown, canvas = self._session.shown_map, self._viewer.canvas
        text = legend(shown, self._session.display) if shown else ""
        canvas.overlay_tiling.top_right = "vertical"  # the words above the colour bar
        canvas.overlays.text.position = "top_right"
        canvas.overlays.text.box = True
        canvas.overlays.text.text = text
        canvas.overlays.text.visible = bool(text)


def legend(shown: PatchMap, display: Display) -> str:
    """Return what the colour bar below it stands for."""
    unit = f" ({shown.unit})" if shown.unit else ""
    scale = "percentile of patches" if display.scale == "percentile" else f"raw{unit}"
    kind = shown.kind
    return f"{shown.title}, {scale}\nhigh: {kind.high}\nlow: {kind.low}"


def _change(layer: Any, values: Any, kwargs: dict[str, Any]) -> None:
    """Set what differs: each assignment makes napari look at all layers again."""
    layer.data = values
    for name, value in kwargs.items():
        if name not in ADD_ONLY and not _equal(getattr(layer, name), value):
            setattr(layer, name, value)


def _equal(old: Any, new: Any) -> bool:
    if isinstance(new, tuple):
        return tuple(map(float, old)) == new
    if hasattr(new, "name"):
        return bool(old.name == new.name)
    return bool(old == new)
