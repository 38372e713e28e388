"""The layers that show where patches are laid: tissue's outline and the patches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from napari_gimp._qt.tissue_drawing import (
    Drawing,
    outline_layer,
    outline_limits,
    squares_layer,
)
from napari_gimp.geometry import YX

KEY = "gimp_plan"
"""Metadata key that tells our two layers."""
OUTLINE, SQUARES = "Tissue outline", "Patches"


class PlanLayers:
    """Draws the outline of the tissue and the patches of one slide.

    Parameters
    ----------
    viewer
        napari's viewer.
    """

    def __init__(self, viewer: Any) -> None:
        self._viewer = viewer
        viewer.scene.camera.events.zoom.connect(self._keep_width)

    def show_outline(self, drawing: Drawing | None, mpp: YX | None) -> None:
        """Draw the outline; None hides it."""
        shown = drawing is not None and mpp is not None
        if drawing is not None and mpp is not None:
            self._draw(OUTLINE, outline_layer(drawing, mpp))
            self._keep_width()
        self.set_visible(OUTLINE, shown)

    def show_squares(self, drawing: Drawing | None, mpp: YX | None) -> None:
        """Draw the patches; None hides them."""
        shown = drawing is not None and mpp is not None
        if drawing is not None and mpp is not None:
            self._draw(SQUARES, squares_layer(drawing, mpp))
        self.set_visible(SQUARES, shown)

    def follow(self, slide: Path | None) -> None:
        """Hide what is of another slide; take it away once no slide is open."""
        for name in (OUTLINE, SQUARES):
            layer = self.layer(name)
            if slide is None and layer is not None:
                self._viewer.layers.remove(layer)
            self.set_visible(name, False)

    def layer(self, name: str) -> Any | None:
        """Return one of the two layers, None if there is none (any more)."""
        layers = self._viewer.layers
        return next((x for x in layers if x.metadata.get(KEY) == name), None)

    def set_visible(self, name: str, visible: bool) -> None:
        """Show or hide one of the two layers."""
        layer = self.layer(name)
        if layer is not None and layer.visible != visible:
            layer.visible = visible

    def _keep_width(self) -> None:
        """Keep the outline as wide on the screen at another zoom."""
        layer, zoom = self.layer(OUTLINE), self._viewer.scene.camera.zoom
        if layer is not None and zoom > 0:
            layer.contrast_limits = outline_limits(1 / zoom)

    def _draw(self, name: str, kwargs: dict[str, Any]) -> None:
        """Change the layer there is: making a new one takes napari long."""
        layer = self.layer(name)
        if layer is None:
            self._add(name, kwargs)
            return
        layer.data = kwargs["data"]
        for place in ("scale", "translate"):
            if tuple(map(float, getattr(layer, place))) != kwargs[place]:
                setattr(layer, place, kwargs[place])

    def _add(self, name: str, kwargs: dict[str, Any]) -> None:
        active = self._viewer.layers.selection.active
        new = self._viewer.add_image(name=name, metadata={KEY: name}, **kwargs)
        self._viewer.layers.selection.active = active or new
