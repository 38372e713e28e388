"""The layers that show where patches are laid: tissue's outline and the patches."""

from __future__ import annotations

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
        """Draw the outline in place of the one there is; None takes it away."""
        self._show(
            OUTLINE, None if not (drawing and mpp) else outline_layer(drawing, mpp)
        )
        self._keep_width()

    def show_squares(self, drawing: Drawing | None, mpp: YX | None) -> None:
        """Draw the patches in place of those there are; None takes them away."""
        self._show(
            SQUARES, None if not (drawing and mpp) else squares_layer(drawing, mpp)
        )

    def clear(self) -> None:
        """Take both away, as when the slide is another one."""
        self._show(OUTLINE, None)
        self._show(SQUARES, None)

    def layer(self, name: str) -> Any | None:
        """Return one of the two layers, None if there is none (any more)."""
        layers = self._viewer.layers
        return next((x for x in layers if x.metadata.get(KEY) == name), None)

    def set_visible(self, name: str, visible: bool) -> None:
        """Show or hide one of the two layers."""
        layer = self.layer(name)
        if layer is not None:
            layer.visible = visible

    def _keep_width(self) -> None:
        """Keep the outline as wide on the screen at another zoom."""
        layer, zoom = self.layer(OUTLINE), self._viewer.scene.camera.zoom
        if layer is not None and zoom > 0:
            layer.contrast_limits = outline_limits(1 / zoom)

    def _show(self, name: str, kwargs: dict[str, Any] | None) -> None:
        """Put a new layer at the place of the old one, seen or hidden as that was."""
        layers, old = self._viewer.layers, self.layer(name)
        place = len(layers) if old is None else layers.index(old)
        visible = True if old is None else old.visible
        active = layers.selection.active
        if old is not None:
            layers.remove(old)
        if kwargs is None:
            return
        new = self._viewer.add_image(
            name=name, visible=visible, metadata={KEY: name}, **kwargs
        )
        layers.move(layers.index(new), place)
        layers.selection.active = new if active in (None, old) else active
