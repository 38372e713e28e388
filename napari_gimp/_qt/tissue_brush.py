"""Painting tissue: a Labels layer that is the user's work and stays it.

Nothing but the user's hand changes it. Each stroke is told once it is over, so that
it can be kept on disk; undo and redo are napari's and are told too.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from psygnal import Signal
from qtpy.QtCore import QObject, QTimer

if TYPE_CHECKING:
    from napari_gimp.geometry import YX
    from napari_gimp.patches.tissue import Tissue

KEY = "gimp_painted_tissue"
"""Metadata key that holds the slide's file."""
NAME = "Tissue, painted"
TISSUE = 1
PAUSE_MS = 250
"""A stroke counts as over that long after its last change."""
BRUSH_PART = 40
"""The brush is at first as wide as that part of the slide's longer side."""
OPACITY = 0.25
PAINT_RGBA = (0.0, 0.55, 0.30, 1.0)
HOW = (
    "Paint adds tissue, the eraser (key 1) takes it away, the brush (key 2) adds "
    "again; [ and ] change its size, Ctrl+Z undoes. Each stroke is kept at once."
)


class Brush:
    """One painted layer for each slide that was edited.

    Parameters
    ----------
    viewer
        napari's viewer.
    parent
        Lives as long as the brush is needed.
    """

    painted = Signal(Path, object)
    """A slide's file, and its mask (rows, cols) bool after a stroke."""

    rested = Signal()
    """All strokes are told; `is_waiting` ended, whether anything was painted or not."""

    def __init__(self, viewer: Any, parent: QObject) -> None:
        self._viewer = viewer
        self._changed: Any | None = None
        self._known: dict[Path, NDArray[np.uint8]] = {}
        self._pause = QTimer(parent)
        self._pause.setSingleShot(True)
        self._pause.setInterval(PAUSE_MS)
        self._pause.timeout.connect(self.flush)

    @property
    def is_waiting(self) -> bool:
        """Whether a stroke was not told yet."""
        return self._changed is not None

    def layer(self, slide: Path | None) -> Any | None:
        """Return the painted layer of a slide, None if there is none (any more)."""
        layers = [] if slide is None else self._viewer.layers
        return next((x for x in layers if x.metadata.get(KEY) == slide), None)

    def open(self, slide: Path, tissue: Tissue, mpp: YX) -> Any:
        """Show the painted layer of a slide, made from its tissue, with the brush."""
        layer = self.layer(slide) or self._add(slide, tissue, mpp)
        layer.visible = True
        self._viewer.layers.selection.active = layer
        layer.mode = "paint"
        return layer

    def close(self, slide: Path | None) -> None:
        """Hide the painted layer of a slide; what was painted is told first."""
        self.flush()
        layer = self.layer(slide)
        if layer is not None:
            layer.mode = "pan_zoom"
            layer.visible = False

    def drop(self, slide: Path | None) -> None:
        """Take the painted layer of a slide away; what was painted is told first."""
        self.close(slide)
        layer = self.layer(slide)
        if layer is not None:
            self._viewer.layers.remove(layer)

    def fill(self, slide: Path) -> None:
        """Paint the whole slide."""
        layer = self.layer(slide)
        if layer is not None:
            layer.data = np.full_like(layer.data, TISSUE)

    def flush(self) -> None:
        """Tell what was painted, if anything was, without waiting for a pause."""
        self._pause.stop()
        layer, self._changed = self._changed, None
        if layer is None:
            return
        slide, data = layer.metadata[KEY], np.asarray(layer.data)
        if not np.array_equal(data, self._known[slide]):
            self._known[slide] = data.copy()
            self.painted.emit(slide, self._known[slide] == TISSUE)
        self.rested.emit()

    def _add(self, slide: Path, tissue: Tissue, mpp: YX) -> Any:
        data = tissue.mask.astype(np.uint8) * TISSUE
        layer = self._viewer.add_labels(
            data,
            name=NAME,
            opacity=OPACITY,
            colormap={0: "transparent", TISSUE: PAINT_RGBA, None: "transparent"},
            metadata={KEY: slide},
            **tissue.grid.layer_kwargs(mpp),
        )
        layer.brush_size = max(3, max(data.shape) // BRUSH_PART)
        self._known[slide] = data.copy()
        for event in (layer.events.paint, layer.events.set_data, layer.events.data):
            event.connect(lambda _, layer=layer: self._wait(layer))
        return layer

    def _wait(self, layer: Any) -> None:
        if self._changed is not None and self._changed is not layer:
            self.flush()
        self._changed = layer
        self._pause.start()
