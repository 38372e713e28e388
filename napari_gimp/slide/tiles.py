"""Decoded tiles: one cache weighed in bytes, one pool that decodes newest first.

Computing and display share both, so a tile that a patch reader needed is on the
screen at once, and two threads that want the same tile decode it once.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from functools import cache

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.generic]
Key = tuple[Hashable, ...]
GIB = 1 << 30

_log = logging.getLogger(__name__)


class TileCache:
    """Least-recently-used tiles within a byte budget; thread safe.

    Parameters
    ----------
    budget_bytes
        Bytes of decoded pixels to keep. A tile larger than that is never kept.
    """

    def __init__(self, budget_bytes: int) -> None:
        self.budget_bytes = budget_bytes
        self._lock = threading.Lock()
        self._tiles: OrderedDict[Key, Pixels] = OrderedDict()
        self._flying: dict[Key, Future[Pixels]] = {}
        self._bytes = 0

    @property
    def used_bytes(self) -> int:
        """Bytes of the tiles kept now."""
        return self._bytes

    def __len__(self) -> int:
        return len(self._tiles)

    def peek(self, key: Key) -> Pixels | None:
        """Return a kept tile (read-only) and mark it as used; None if absent."""
        with self._lock:
            return self._used(key)

    def fetch(self, key: Key, decode: Callable[[], Pixels]) -> Pixels:
        """Return a tile (read-only), decoding it here unless somebody has or does.

        Whatever `decode` raises is raised for all who waited for it, and the next
        to ask tries again.
        """
        with self._lock:
            tile = self._used(key)
            if tile is not None:
                return tile
            flying = self._flying.get(key)
            if flying is None:
                mine = self._flying[key] = Future()
        if flying is not None:
            return flying.result()
        return self._decode(key, decode, mine)

    def drop(self, owner: Hashable) -> None:
        """Forget every tile whose key begins with `owner`."""
        with self._lock:
            for key in [key for key in self._tiles if key[0] == owner]:
                self._bytes -= self._tiles.pop(key).nbytes

    def clear(self) -> None:
        """Forget every tile."""
        with self._lock:
            self._tiles.clear()
            self._bytes = 0

    def _used(self, key: Key) -> Pixels | None:
        tile = self._tiles.get(key)
        if tile is not None:
            self._tiles.move_to_end(key)
        return tile

    def _decode(
        self, key: Key, decode: Callable[[], Pixels], mine: Future[Pixels]
    ) -> Pixels:
        try:
            tile = decode()
        except BaseException as error:
            with self._lock:
                del self._flying[key]
            mine.set_exception(error)
            raise
        tile.flags.writeable = False
        with self._lock:
            del self._flying[key]
            self._keep(key, tile)
        mine.set_result(tile)
        return tile

    def _keep(self, key: Key, tile: Pixels) -> None:
        if tile.nbytes > self.budget_bytes:
            return
        self._tiles[key] = tile
        self._bytes += tile.nbytes
        while self._bytes > self.budget_bytes:
            _, oldest = self._tiles.popitem(last=False)
            self._bytes -= oldest.nbytes


class DecodePool:
    """Daemon threads that work off a stack: what was asked last is done first.

    Parameters
    ----------
    workers
        Number of threads, named "gimp-decode-0" and so on; they start on first use.
    limit
        Longest stack. What is pushed out at its bottom was asked for long ago, and
        a viewer that still shows the place asks again with its next refresh.
    """

    def __init__(self, workers: int, limit: int = 1024) -> None:
        self.workers = workers
        self.limit = limit
        self._stack: OrderedDict[Key, Callable[[], None]] = OrderedDict()
        self._ready = threading.Condition()
        self._threads: list[threading.Thread] = []

    def submit(self, key: Key, work: Callable[[], None]) -> None:
        """Put `work` on top of the stack; the same key is moved up, not doubled."""
        with self._ready:
            self._stack[key] = work
            self._stack.move_to_end(key)
            if len(self._stack) > self.limit:
                self._stack.popitem(last=False)
            self._start()
            self._ready.notify()

    def withdraw(self, owner: Hashable) -> None:
        """Take back all work whose key begins with `owner` and has not begun."""
        with self._ready:
            for key in [key for key in self._stack if key[0] == owner]:
                del self._stack[key]

    def __len__(self) -> int:
        return len(self._stack)

    def _start(self) -> None:
        if self._threads:
            return
        self._threads = [
            threading.Thread(target=self._work, name=f"gimp-decode-{i}", daemon=True)
            for i in range(self.workers)
        ]
        for thread in self._threads:
            thread.start()

    def _work(self) -> None:
        while True:
            with self._ready:
                while not self._stack:
                    self._ready.wait()
                key, work = self._stack.popitem(last=True)
            try:
                work()
            except Exception:  # a thread's border: the pool must outlive bad tiles
                _log.exception("decoding %s failed", key)
            del work


@cache
def tile_cache() -> TileCache:
    """Return this process's tile cache: an eighth of memory, 256 MiB to 2 GiB."""
    return TileCache(min(2 * GIB, max(GIB // 4, _memory_bytes() // 8)))


@cache
def decode_pool() -> DecodePool:
    """Return this process's decode pool: one thread per core, 2 to 8."""
    return DecodePool(min(8, max(2, os.cpu_count() or 2)))


def _memory_bytes() -> int:
    """Return the machine's memory; 4 GiB where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 4 * GIB
