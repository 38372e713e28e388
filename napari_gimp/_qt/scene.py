"""A viewer with its session: slides, maps, the click on a patch, what keys do."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psygnal import Signal
from qtpy.QtCore import QTimer
from qtpy.QtGui import QKeySequence, QShortcut
from qtpy.QtWidgets import QWidget

from napari_gimp._qt.key_list import KeyList
from napari_gimp._qt.keys import LIST_KEY, register_keys
from napari_gimp._qt.map_layers import MapLayers
from napari_gimp._qt.navigation import Navigation
from napari_gimp._qt.queue import start_queue
from napari_gimp._qt.slide_layers import (
    SlideLayers,
    give_mpp,
    mpp_of,
    path_of,
    view_of,
)
from napari_gimp._qt.slide_trouble import Trouble
from napari_gimp._qt.tissue_layers import PlanLayers
from napari_gimp._qt.wording import ordinal, value
from napari_gimp.geometry import YX, world_to_um
from napari_gimp.jobs import Job, read_job
from napari_gimp.layers import PickedPatch
from napari_gimp.reader import LayerData, slide_layers
from napari_gimp.session import Session
from napari_gimp.slide.remembered import remember_mpp
from napari_gimp.slide.resolution import is_users_word

if TYPE_CHECKING:
    from napari_gimp.slide.view import SlideView

TAP_S = 0.3
"""A key pressed shorter than this toggles; held longer, it acts while held."""

NO_MAP = "There is no map yet. Run an analysis in the Analyse dock."
NO_DOCK = "Open the Analyse dock to run: Plugins > GIMP > 2 Analyse."

FIRST_SLIDE_MS = 2500
"""What may wait until the first slide is on the screen begins after this time."""
SLOW_LIBRARIES = ("scipy.stats", "matplotlib.font_manager", "napari_gimp.plots")

_SCENES: weakref.WeakValueDictionary[int, Scene] = weakref.WeakValueDictionary()


class Scene:
    """Everything of ours in one viewer that is not a dock.

    Parameters
    ----------
    viewer
        napari's viewer itself, not a proxy.
    """

    run_asked = Signal()
    """A key asked for an analysis of what is chosen."""
    cancel_asked = Signal()
    """A key asked what is running to end."""

    def __init__(self, viewer: Any) -> None:
        self.viewer = viewer
        self.session = Session()
        self.slides = SlideLayers(viewer)
        self.trouble = Trouble(self.slides)
        self._seen: weakref.WeakSet[SlideView] = weakref.WeakSet()
        self.maps = MapLayers(viewer, self.session)
        self.plan_layers = PlanLayers(viewer)
        self.slides.changed.connect(self._follow_slides)
        self._follow_slides()
        self.session.events.slide.connect(self.plan_layers.follow)
        self.session.events.patch.connect(self._tell_patch)
        viewer.mouse_drag_callbacks.append(self._clicked)
        canvas = canvas_of(viewer)
        self.navigation = None if canvas is None else Navigation(self, canvas)
        self._bind_keys()
        if canvas is not None:
            QTimer.singleShot(FIRST_SLIDE_MS, canvas, import_soon)

    def choose_slide(self, layer: Any) -> None:
        """Make a slide layer the one to analyse; the old results go."""
        session, view = self.session, view_of(layer)
        path, mpp = path_of(layer), mpp_of(layer)
        srgb = view is not None and view.source.srgb
        if (path, mpp, srgb) == (session.slide, session.mpp, session.srgb):
            return
        kept = session.plan if (path, mpp) == (session.slide, session.mpp) else None
        session.forget_slide()
        session.plan = kept or session.plan  # other colours, the same tissue
        session.mpp, session.srgb = mpp, srgb
        session.slide = path

    def give_mpp(self, mpp: YX) -> None:
        """Take the user's word for the um/px (y, x) of the chosen slide."""
        layer, view = self.slide_layer, self.view
        if view is not None:
            for one in self.slides.layers_of(view):
                give_mpp(one, mpp)
            remember_mpp(view.source.fingerprint, mpp)
            self.choose_slide(layer)
            self.viewer.reset_view()

    def show_instead(self, layer: Any, view: SlideView) -> None:
        """Show another view of the same slide in a layer: its place and look stay."""
        self._seen.add(view)
        self.slides.swap(layer, view)
        if path_of(layer) == self.session.slide:
            self.choose_slide(layer)

    @property
    def slide_layer(self) -> Any | None:
        """The layer of the slide to analyse."""
        slide = self.session.slide
        return None if slide is None else self.slides.layer_of(slide)

    @property
    def view(self) -> SlideView | None:
        """The chosen slide as it is on display."""
        return None if self.slide_layer is None else view_of(self.slide_layer)

    @property
    def asked_mpp(self) -> YX | None:
        """um/px (y, x) of the chosen slide if it is the user's word, else None."""
        stated = None if self.view is None else self.view.source.resolution
        return stated.mpp if stated and is_users_word(stated) else None

    def open_slide(
        self,
        path: Path,
        *,
        opened: Callable[[], None],
        failed: Callable[[Exception], None],
    ) -> Job[Any]:
        """Open a slide in the background, add its layer, tell how it went."""
        job = read_job(lambda: slide_layers(path))
        job.event.connect(self._add_layers, thread="main")
        job.finished.connect(opened, thread="main")
        job.failed.connect(failed, thread="main")
        return job.start()

    def _follow_slides(self) -> None:
        """Choose a slide that is new, unless the chosen one is being analysed."""
        slides = self.slides.slides
        new = [layer for layer in slides if view_of(layer) not in self._seen]
        self._seen.update(view for layer in new if (view := view_of(layer)))
        chosen = self.slide_layer
        if chosen is not None and (self.session.job is not None or not new):
            return
        if slides:
            self.choose_slide((new or slides)[0])
        else:
            self.session.forget_slide()
            self.session.slide = self.session.mpp = None
            self.session.srgb = False

    def _add_layers(self, drawings: list[LayerData]) -> None:
        for levels, kwargs, _ in drawings:
            self.viewer.add_image(levels, **kwargs)
        self.viewer.reset_view()

    def _clicked(self, _: Any, event: Any) -> Iterator[None]:
        start = tuple(event.pos)
        yield
        while event.type == "mouse_move":
            yield
        if _is_click(start, tuple(event.pos)):
            self.pick_at(event.position)

    def pick_at(self, position: tuple[float, ...]) -> None:
        """Read the patch at a position (y, x) of napari's world."""
        if self.session.mpp is not None:
            self.session.pick(*world_to_um(position, self.session.mpp))

    def _tell_patch(self, patch: PickedPatch | None) -> None:
        shown = self.session.shown_map
        if patch is not None and shown is not None:
            self.viewer.status = patch_line(patch, shown.title, shown.unit)

    def look_under(self) -> Iterator[None]:
        """Hold: look under the map. Tap: hide it, or show it again."""
        layer = self.maps.layer(self.session.shown or "")
        if layer is None:
            return
        before, pressed_s = layer.visible, time.monotonic()
        layer.visible = not before
        yield
        if time.monotonic() - pressed_s > TAP_S:
            layer.visible = before

    def change_opacity(self, step: float) -> None:
        """Make the map more (or with a negative step less) opaque."""
        if self.session.shown is None:
            self.viewer.status = NO_MAP
            return
        display = self.session.display
        opacity = round(min(max(display.opacity + step, 0.0), 1.0), 2)
        self.session.display = replace(display, opacity=opacity)
        self.viewer.status = f"Map opacity: {opacity:.0%}"

    def ask_to_run(self) -> None:
        """Start the analysis that is prepared in the Analyse dock."""
        if len(self.run_asked):
            self.run_asked.emit()
        else:
            self.viewer.status = NO_DOCK

    def cancel(self) -> None:
        """Cancel the running analysis, and what docks run."""
        self.session.cancel()
        self.cancel_asked.emit()

    def show_keys(self) -> None:
        """Open the list of keys."""
        if self._window is not None:
            KeyList(self._window).show()

    @property
    def _window(self) -> QWidget | None:
        return None if self.navigation is None else self.navigation.overview.window()

    def _bind_keys(self) -> None:
        register_keys(known_scene)
        if self._window is not None:
            listen = QShortcut(QKeySequence(LIST_KEY), self._window)
            listen.activated.connect(self.show_keys)


def canvas_of(viewer: Any) -> QWidget | None:
    """Return napari's canvas widget; None for a viewer model without a window."""
    window = getattr(viewer, "window", None)
    qt_viewer = getattr(window, "_qt_viewer", None)  # there is no public way
    canvas: QWidget | None = None if qt_viewer is None else qt_viewer.canvas.native
    return canvas


def import_soon() -> None:
    """Import in the background what docks and maps will need."""
    read_job(import_slow_libraries).start()


def import_slow_libraries() -> None:
    """Import what drawing needs, so that the main thread need not wait for it."""
    for name in SLOW_LIBRARIES:
        import_module(name)


def known_scene(viewer: Any) -> Scene | None:
    """Return the scene of a viewer (or of a proxy of one) if there is one."""
    return _SCENES.get(id(getattr(viewer, "__wrapped__", viewer)))


def scene_of(viewer: Any) -> Scene:
    """Return the scene of a viewer (or of a proxy of one), made on first use."""
    viewer = getattr(viewer, "__wrapped__", viewer)
    scene = known_scene(viewer)
    if scene is None:
        start_queue()
        scene = _SCENES[id(viewer)] = Scene(viewer)
    return scene


def patch_line(patch: PickedPatch, title: str, unit: str) -> str:
    """Return the status line of a patch."""
    y, x = patch.center_um
    return (
        f"{title}: {value(patch.value, unit)} · {ordinal(patch.percentile)} percentile"
        f" · rank {patch.rank:,} of {patch.count:,} · x {x:,.0f} µm, y {y:,.0f} µm"
    )


def _is_click(start: tuple[float, ...], end: tuple[float, ...]) -> bool:
    return max(abs(a - b) for a, b in zip(start, end, strict=True)) <= 2
