"""What a viewer still waits for, and when it is worth looking again.

A field of view is a generation of requests in the decode pool: a new field drops what
the one before it still lacked. A refresh slices, uploads and draws the whole field, so
it is asked for only when tiles of the field came: when the last of them is there, and
before that no oftener than a refresh takes. And where the tiles are likely to come
sooner than a refresh would take, the picture waits for them and needs no second one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Iterable, Sequence

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
LEAST_PATIENCE_S, MOST_PATIENCE_S = 0.008, 0.02
"""Bounds of the time a picture waits for tiles; a main thread may lose 50 ms."""
USUAL_TILE_S = 0.0003
"""Time between two tiles of a field before any was measured: a file on a fast disk."""


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
        self._lock = threading.Condition()
        self._field: tuple[int, Area] | None = None
        self._generation = 0
        self._waiting: dict[int, set[Place]] = {}
        self._lost: dict[Place, float] = {}
        self._asked: dict[int, tuple[float, int]] = {}
        self._watched: set[int] = set()
        self._tile_s = USUAL_TILE_S
        self._since = 0.0
        self._interval = SHORTEST_S
        self._patience = LEAST_PATIENCE_S
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
            self._asked[eye] = self._since, len(self._waiting[eye])
            if field != self._field and (wanted or ring):
                self._field = field
                self._generation += bool(wanted)
            generation = self._generation
        if wanted or ring:
            decode_pool().request(
                self._owner, generation, [*first, *wanted], self._work, idle=ring
            )

    def soon(self, count: int) -> bool:
        """Whether so many tiles are likely to come sooner than a refresh takes."""
        return count * self._tile_s <= self._patience

    def wait(self, eye: int) -> None:
        """Wait for what was asked for, if it is likely to come soon."""
        with self._lock:
            waiting = self._waiting.get(eye)
            if not waiting or not self.soon(len(waiting)):
                return
            self._watched.add(eye)
            self._lock.wait_for(lambda: not self._waiting[eye], self._patience)
            self._watched.discard(eye)

    def seen(self, eye: int, places: Iterable[Place]) -> None:
        """Wait no more for what is in the picture.

        A tile may come after a picture's tiles were looked up and before they are
        asked for: nobody would tell of it, and the picture would stay incomplete.
        """
        with self._lock:
            self._waiting.get(eye, set()).difference_update(places)

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
        self._patience = min(max(LEAST_PATIENCE_S, seconds), MOST_PATIENCE_S)

    def close(self) -> None:
        """Take all requests back, and make no more."""
        with self._lock:
            self._closed = True
        decode_pool().withdraw(self._owner)

    def _may_ask(self, place: Place) -> bool:
        when = self._lost.get(place)
        return when is None or time.monotonic() - when > RETRY_S

    def _is_time(self, place: Place) -> bool:
        eyes = [eye for eye, waiting in self._waiting.items() if place in waiting]
        for eye in eyes:
            self._waiting[eye].discard(place)
            if not self._waiting[eye]:
                self._complete(eye)
        unwatched = [eye for eye in eyes if eye not in self._watched]
        now = time.monotonic()
        complete = any(not self._waiting[eye] for eye in unwatched)
        if not unwatched or not (complete or now - self._since >= self._interval):
            return False
        self._since = now
        return True

    def _complete(self, eye: int) -> None:
        """Learn from a complete field how fast tiles come; wake who waits for it."""
        start, count = self._asked[eye]
        each = (time.monotonic() - start) / count
        self._tile_s += (each - self._tile_s) / 3
        self._lock.notify_all()
