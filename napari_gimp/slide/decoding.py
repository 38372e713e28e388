"""The threads that decode tiles: what was asked last is done first.

Work for a field of view that has been left is dropped unless it is asked for again,
and what may be wanted next is done when there is nothing else to do.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from functools import cache, partial
from typing import TypeVar

Key = tuple[Hashable, ...]
"""Who asks, and for what: (owner, *place)."""
Place = TypeVar("Place", bound=tuple[int, ...])
Work = Callable[[], object]

_log = logging.getLogger(__name__)


class DecodePool:
    """Daemon threads that work off a stack, and an idle lane below it.

    A key is queued once. Asked for while its work is being done, it is done once
    more: that work may have told its news before anybody wanted it.

    Parameters
    ----------
    workers
        Number of threads, named "gimp-decode-0" and so on; they start on first use.
        Half of them, at least one, take up idle work, so that a new request never
        finds all of them taken.
    limit
        Longest stack. What is pushed out at its bottom was asked for long ago, and
        a viewer that still shows the place asks again with its next refresh.
    """

    def __init__(self, workers: int, limit: int = 1024) -> None:
        self.workers = workers
        self.limit = limit
        self._stack: OrderedDict[Key, Work] = OrderedDict()
        self._idle: OrderedDict[Key, Work] = OrderedDict()
        self._again: dict[Key, Work] = {}
        self._flying: dict[Key, bool] = {}  # is it idle work?
        self._generations: dict[Hashable, int] = {}
        self._ready = threading.Condition()
        self._threads: list[threading.Thread] = []

    def request(
        self,
        owner: Hashable,
        generation: int,
        places: Sequence[Place],
        work: Callable[[Place], object],
        *,
        idle: Sequence[Place] = (),
    ) -> None:
        """Ask for `work(place)` for every place that a field of view lacks.

        Parameters
        ----------
        owner
            Who asks; of his queued work all that older generations asked for is
            dropped, idle work too.
        generation
            Number of the field of view. A higher one replaces what is queued, the
            same one adds to it, and a lower one comes too late and is ignored.
        places
            What is needed now, the first to be decoded first; before all that
            anybody asked for earlier.
        work
            Called with one place on a thread of the pool.
        idle
            What may be needed next, the first to be decoded first, once nothing
            else is queued or being done.
        """
        with self._ready:
            latest = self._generations.get(owner, generation)
            if generation < latest:
                return
            self._generations[owner] = generation
            if generation > latest:
                self._drop(owner)
            for place in reversed(places):
                self._push((owner, *place), partial(work, place))
            for place in idle:
                self._linger((owner, *place), partial(work, place))
            self._wake(len(places) + len(idle))

    def withdraw(self, owner: Hashable) -> None:
        """Take back all of an owner's work that has not begun, and forget him."""
        with self._ready:
            self._drop(owner)
            self._generations.pop(owner, None)

    def pending(self, owner: Hashable) -> int:
        """Return how much of an owner's work is queued or being done, idle or not."""
        with self._ready:
            lanes = self._stack, self._idle, self._flying, self._again
            return sum(key[0] == owner for lane in lanes for key in lane)

    def __len__(self) -> int:
        return len(self._stack) + len(self._idle)

    def _push(self, key: Key, work: Work) -> None:
        self._idle.pop(key, None)
        if key in self._flying:  # what is asked now may have come just too late for it
            self._again[key] = work
            return
        self._stack[key] = work
        self._stack.move_to_end(key)
        if len(self._stack) > self.limit:
            self._stack.popitem(last=False)

    def _linger(self, key: Key, work: Work) -> None:
        if key not in self._stack and key not in self._flying:
            self._idle[key] = work

    def _drop(self, owner: Hashable) -> None:
        for lane in (self._stack, self._idle, self._again):
            for key in [key for key in lane if key[0] == owner]:
                del lane[key]

    def _wake(self, count: int) -> None:
        if not self._threads:
            self._start()
        self._ready.notify(count)

    def _start(self) -> None:
        self._threads = [
            threading.Thread(target=self._run, name=f"gimp-decode-{i}", daemon=True)
            for i in range(self.workers)
        ]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        while True:
            key, work = self._take()
            try:
                work()
            except Exception:  # a thread's border: the pool must outlive bad tiles
                _log.exception("decoding %s failed", key)
            del work  # it may hold a slide open
            self._finish(key)

    def _take(self) -> tuple[Key, Work]:
        """Wait for the next work and mark it as being done."""
        with self._ready:
            while not self._stack and not self._may_idle():
                self._ready.wait()
            urgent = bool(self._stack)
            lane = self._stack if urgent else self._idle
            key, work = lane.popitem(last=urgent)
            self._flying[key] = not urgent
            return key, work

    def _may_idle(self) -> bool:
        """Whether idle work may begin: none else is done, and half the threads free."""
        idle = self._flying.values()
        return bool(self._idle) and all(idle) and len(idle) < max(self.workers // 2, 1)

    def _finish(self, key: Key) -> None:
        with self._ready:
            del self._flying[key]
            if (work := self._again.pop(key, None)) is not None:
                self._push(key, work)
                self._ready.notify()
            if self._idle and not self._stack:
                self._ready.notify(len(self._idle))


@cache
def decode_pool() -> DecodePool:
    """Return this process's decode pool: four threads per core, 4 to 16.

    More threads than cores, since on a network share each waits for its file most of
    the time.
    """
    return DecodePool(max(4, min(4 * (os.cpu_count() or 1), 16)))
