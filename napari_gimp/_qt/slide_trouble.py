"""Damaged tiles and slides that vanish: told once, and kept in sight."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakSet, ref

from psygnal import Signal

from napari_gimp._qt.slide_layers import SlideLayers, view_of

if TYPE_CHECKING:
    from napari_gimp.slide.view import SlideView

Told = tuple[int, bool]
"""Damaged tiles known, and whether the file is gone."""


class Trouble:
    """Watches the slides of a viewer for what cannot be read.

    Parameters
    ----------
    slides
        The viewer's slide layers.
    """

    changed = Signal()
    """There is more to tell of a slide."""

    def __init__(self, slides: SlideLayers) -> None:
        self._slides = slides
        self._told: WeakKeyDictionary[SlideView, Told] = WeakKeyDictionary()
        self._lost: WeakSet[SlideView] = WeakSet()
        for signal in (slides.changed, slides.swapped):
            signal.connect(self._watch)
        self._watch()

    def _watch(self) -> None:
        for layer in self._slides.layers:
            view = view_of(layer)
            if view is not None and view not in self._told:
                self._told[view] = (0, False)
                view.updated.connect(_looker(ref(self), ref(view)), thread="main")
                self.look(view)

    def look(self, view: SlideView) -> None:
        """Tell what is new about a slide; the first damage and the loss aloud.

        A drive that comes and goes, as a bad network does, is told aloud once.
        """
        known = self._told.get(view, (0, False))
        now = len(view.source.damage), view.error is not None
        if now == known:
            return
        self._told[view] = now
        if view.error is not None and view not in self._lost:
            self._lost.add(view)
            _notify(str(view.error))
        elif now[0] and not known[0]:
            _notify(view.source.damage.report)
        self.changed.emit()


def trouble_of(view: SlideView) -> tuple[str, str]:
    """Return what cannot be read of a slide, "" if all can, and a notice's tone."""
    if view.error is not None:
        return str(view.error), "error"
    return view.source.damage.report, "warning"


def _looker(trouble: ref[Trouble], view: ref[SlideView]) -> Any:
    """Return what is called for new tiles, maybe after both are gone."""

    def look() -> None:
        watcher, seen = trouble(), view()
        if watcher is not None and seen is not None:
            watcher.look(seen)

    return look


def _notify(text: str) -> None:
    from napari.utils.notifications import show_warning

    show_warning(text)
