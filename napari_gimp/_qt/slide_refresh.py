"""When slide layers are sliced: as tiles arrive, and before a move is drawn."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QObject, Qt, QTimer
from qtpy.QtCore import Signal as QtSignal

from napari_gimp.slide.view import SlideView

MARK_MS = 1
"""A timer this long rings after what a refresh has caused to be drawn."""

PARTS = "thumbnail", "data_displayed", "highlight", "extent"
"""What napari refreshes of a layer unless told otherwise."""


class Refresher(QObject):
    """Slices the layers of a view anew when it got better.

    `updated` comes from a thread of the decode pool; a Qt signal brings it to the
    main thread at once, where psygnal's queue is looked at only now and then. What
    comes while a refresh is due is part of it.

    Parameters
    ----------
    view
        The view behind the layers.
    """

    _asked = QtSignal()

    def __init__(self, view: SlideView) -> None:
        super().__init__()
        self._view = view
        self._layers: weakref.WeakSet[Any] = weakref.WeakSet()
        self._early: dict[int, tuple[float, float]] = {}
        self._due = False
        self._complete = view.base.complete.is_set()
        self._asked.connect(self._refresh, Qt.ConnectionType.QueuedConnection)
        view.updated.connect(self._ask)

    def __len__(self) -> int:
        return len(self._layers)

    def add(self, layer: Any) -> None:
        """Refresh this layer too; also for what arrived before."""
        self._layers.add(layer)
        slice_here(layer)
        if not self._complete:
            self._early[id(layer)] = tuple(layer.contrast_limits)
        self._ask()

    def remove(self, layer: Any) -> None:
        """Leave this layer alone from now on."""
        self._layers.discard(layer)

    def stop(self) -> None:
        """Refresh nothing any more."""
        self._view.updated.disconnect(self._ask, missing_ok=True)
        self._layers.clear()

    def _ask(self) -> None:
        if not self._due:
            self._due = True
            self._asked.emit()

    def _refresh(self) -> None:
        self._due = False
        start = time.perf_counter()
        first = not self._complete and self._view.base.complete.is_set()
        self._complete |= first
        for layer in list(self._layers):
            if first:
                self._set_contrast(layer)
            layer.refresh(extent=False, highlight=False, thumbnail=first)
        QTimer.singleShot(MARK_MS, lambda: self._mark(start))

    def _set_contrast(self, layer: Any) -> None:
        """Make up for a contrast chosen before the coarsest level was there."""
        chosen = tuple(layer.contrast_limits)
        if not layer.rgb and self._early.get(id(layer)) == chosen:
            channel = layer.metadata["gimp_channel"]
            layer.contrast_limits = self._view.channel_look(channel).contrast

    def _mark(self, start: float) -> None:
        """Tell the view how long the viewer was busy with slicing and drawing."""
        self._view.requests.took(time.perf_counter() - start - MARK_MS / 1000)


def slice_here(layer: Any) -> None:
    """Have a layer's slices made on the main thread, whatever napari's setting.

    With napari's async slicing another thread makes them, and until they are shown a
    jump leaves the canvas empty and a zoom-out leaves it empty round the old field.
    Ours take a few ms and never wait for a file.
    """
    known = weakref.ref(layer)

    def refresh(event: Any = None, **what: bool) -> None:
        layer = known()
        if layer is None or not layer.visible:
            return
        if getattr(layer, "_refresh_blocked", False):
            return
        if what.get("data_displayed", True):
            layer.set_view_slice()
        layer._refresh_sync(**{**dict.fromkeys(PARTS, True), **what})

    layer.refresh = refresh


class SliceAhead(QObject):
    """Has napari slice when the camera has moved, before it draws the move.

    napari slices after it has drawn: after every jump a frame of nothing, and two
    frames for one. Slicing takes us a few ms, so it can come first.

    Parameters
    ----------
    canvas
        napari's canvas, with `on_draw`, which does all that is due at a draw.
    wanted
        Whether there is a slide to be sliced; if not, napari is left alone.
    """

    _moved = QtSignal()

    def __init__(self, canvas: Any, wanted: Callable[[], bool]) -> None:
        super().__init__(canvas.native)  # it must not outlive the widget
        self._canvas, self._wanted = canvas, wanted
        self._due = False
        # queued events come before the redraw that a move asks Qt for, which has a low
        # priority; a redraw for another reason may come first, so that is caught too
        self._moved.connect(self._slice, Qt.ConnectionType.QueuedConnection)
        canvas.view.camera.transform.changed.connect(self._ask)
        canvas._scene_canvas.events.draw.connect(self._slice, position="first")

    def _ask(self, event: Any = None) -> None:
        if not self._due and self._wanted():
            self._due = True
            self._moved.emit()

    def _slice(self, event: Any = None) -> None:
        if not self._due:
            return
        try:
            if self._canvas.native.isVisible():
                self._canvas.on_draw(None)
        finally:
            self._due = False


def slice_ahead(viewer: Any, wanted: Callable[[], bool]) -> SliceAhead | None:
    """Have a viewer slice before it draws; None where there is no canvas to do so.

    Parameters
    ----------
    viewer
        napari's viewer.
    wanted
        Whether there is a slide in it.
    """
    window = getattr(viewer, "window", None)
    qt_viewer = getattr(window, "_qt_viewer", None)  # there is no public way
    canvas = getattr(qt_viewer, "canvas", None)
    known = hasattr(canvas, "on_draw") and hasattr(canvas, "_scene_canvas")
    return SliceAhead(canvas, wanted) if known else None
