"""What a viewer still waits for, and when it is worth looking again.

A field of view is a generation of requests in the decode pool: a new field drops what
the one before it still lacked. A refresh slices, uploads and draws the whole field, so
it is asked for only when tiles of the field came: when the last of them is there, and
before that no oftener than a refresh takes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Sequence

from napari_gimp.slide.decoding import decode_pool
from napari_gimp.slide.view_tiles import Area, Place

SHORTEST_S, LONGEST_S = 0.04, 0.4
"""Bounds of the time between two refreshes."""
REST = 2.0
"""A refresh that took t is followed by the next after REST * t at the earliest."""
MOST_PLACES = 800
"""Tiles of one field that are asked for at a time; the pool's stack holds 1024."""
RETRY_S = 3.0
"""A tile that could not be read is asked for again after this time."""


class Requests:
    """The requests of one view; thread safe.

    Parameters
    ----------
    owner
        Whose they are in the decode pool.
    work
        Decodes one tile on a thread of the pool, and then tells `arrived`.
    """

    def __init__(self, owner: Hashable, work: Callable[[Place], None]) -> None:
        self._owner, self._work = owner, work
        self._lock = threading.Lock()
        self._field: tuple[int, Area] | None = None
        self._generation = 0
        self._waiting: dict[int, set[Place]] = {}
        self._lost: dict[Place, float] = {}
        self._since = 0.0
        self._interval = SHORTEST_S
        self._closed = False

    def look(
        self,
        field: tuple[int, Area],
        eye: int,
        missing: Sequence[Place],
        *,
        first: Sequence[Place] = (),
        ring: Sequence[Place] = (),
    ) -> None:
        """Ask for what a field lacks.

        Parameters
        ----------
        field
            Level and area looked at. Another than before drops what that one lacked,
            if this one lacks anything.
        eye
            Which of the layers looks.
        missing
            Its tiles that are not decoded, the most wanted first.
        first
            Tiles of coarser levels to show meanwhile.
        ring
            Tiles round the field, to be decoded when nothing else is to be done.
        """
        with self._lock:
            if self._closed:
                return
            self._since = time.monotonic()
            wanted = [place for place in missing if self._may_ask(place)][:MOST_PLACES]
            self._waiting[eye] = {*wanted, *first}
            if field != self._field and (wanted or ring):
                self._field = field
                self._generation += bool(wanted)
            generation = self._generation
        if wanted or ring:
            decode_pool().request(
                self._owner, generation, [*first, *wanted], self._work, idle=ring
            )

    def arrived(self, place: Place) -> bool:
        """Take note of a tile; return whether it is time to look again."""
        with self._lock:
            self._lost.pop(place, None)
            return self._is_time(place)

    def lost(self, place: Place) -> bool:
        """Take note of a tile that cannot be read now; as `arrived`."""
        with self._lock:
            self._lost[place] = time.monotonic()
            return self._is_time(place)

    def took(self, seconds: float) -> None:
        """Learn how long the last refresh kept the viewer busy."""
        self._interval = min(max(SHORTEST_S, REST * seconds), LONGEST_S)

    def close(self) -> None:
        """Take all requests back, and make no more."""
        with self._lock:
            self._closed = True
        decode_pool().withdraw(self._owner)

    def _may_ask(self, place: Place) -> bool:
        when = self._lost.get(place)
        return when is None or time.monotonic() - when > RETRY_S

    def _is_time(self, place: Place) -> bool:
        waiting = [eye for eye in self._waiting.values() if place in eye]
        for eye in waiting:
            eye.discard(place)
        now = time.monotonic()
        due = not all(waiting) or now - self._since >= self._interval
        if not waiting or not due:
            return False
        self._since = now
        return True
