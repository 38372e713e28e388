"""What the main thread is busy with, and whose work it is, measured by wrapping."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

BEAT_MS = 2
"""The timer's interval: a gap longer than that is a block."""


@dataclass
class Beats:
    """What the main thread did between two beats of the timer, ms."""

    gaps: list[float] = field(default_factory=list)
    ours: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    draws: list[float] = field(default_factory=list)
    last: float = 0.0
    spent: dict[str, float] = field(default_factory=dict)
    depth: int = 0

    def beat(self) -> None:
        """Note what was done since the last beat."""
        now = time.perf_counter()
        if self.last:
            self.gaps.append(max(0.0, (now - self.last) * 1e3 - BEAT_MS))
            self.ours.append(self.spent.get("ours", 0.0) * 1e3)
            self.cpu.append(self.spent.get("cpu", 0.0) * 1e3)
            self.draws.append(self.spent.get("draw", 0.0) * 1e3)
        self.last = now
        self.spent.clear()

    def forget(self) -> None:
        """Begin to count here."""
        for many in (self.gaps, self.ours, self.cpu, self.draws):
            many.clear()

    @contextmanager
    def timed(self, whose: str) -> Iterator[None]:
        """Add the time spent inside, unless it is part of what is timed already."""
        start, cpu = time.perf_counter(), time.thread_time()
        self.depth += whose == "ours"
        try:
            yield
        finally:
            self.depth -= whose == "ours"
            if whose != "ours" or self.depth == 0:
                self._add(whose, time.perf_counter() - start)
            if whose == "ours" and self.depth == 0:
                self._add("cpu", time.thread_time() - cpu)

    def _add(self, whose: str, seconds: float) -> None:
        self.spent[whose] = self.spent.get(whose, 0.0) + seconds


def watch_ours(beats: Beats) -> None:
    """Time this plugin's code wherever the main thread runs it."""
    from napari_gimp._qt.slide_refresh import Refresher
    from napari_gimp.slide.view_level import ViewLevel

    main = threading.main_thread()

    def wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            if threading.current_thread() is not main:
                return function(*args, **kwargs)
            with beats.timed("ours"):
                return function(*args, **kwargs)

        return timed

    ViewLevel.__getitem__ = wrapped(ViewLevel.__getitem__)  # type: ignore[method-assign]
    Refresher._refresh = wrapped(Refresher._refresh)  # type: ignore[method-assign]


def watch_draws(viewer: Any, beats: Beats) -> None:
    """Time napari's and vispy's drawing."""
    native = viewer.window._qt_viewer.canvas.native
    paint = native.paintGL

    def timed() -> None:
        with beats.timed("draw"):
            paint()

    native.paintGL = timed


def watch_sharpness() -> Callable[[Any], bool]:
    """Return a test whether a slice of ours was painted without any stand-in.

    What did not come from `SlideView.paint` is the coarsest level, in true pixels.
    """
    from napari_gimp.slide.view import SlideView
    from napari_gimp.slide.view_stand_ins import StandIns

    paint, draw = SlideView.paint, StandIns.draw
    painted: deque[tuple[Any, bool]] = deque(maxlen=8)
    stand_ins = [0]

    def counted(self: Any, *args: Any) -> Any:
        stand_ins[0] += 1
        return draw(self, *args)

    def watched(self: Any, *args: Any) -> Any:
        stand_ins[0] = 0
        pixels = paint(self, *args)
        painted.append((pixels, stand_ins[0] == 0))
        return pixels

    StandIns.draw = counted  # type: ignore[method-assign]
    SlideView.paint = watched  # type: ignore[method-assign]

    def is_sharp(raw: Any) -> bool:
        return next((s for p, s in painted if np.may_share_memory(p, raw)), True)

    return is_sharp
