"""Decoded tiles, kept in one cache that is weighed in bytes.

Two threads that want the same tile decode it once. Who goes through a whole slide
takes from it what is there and keeps his own tiles in a small cache apart.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from functools import cache

import numpy as np
from numpy.typing import NDArray

from napari_gimp.errors import SlideError
from napari_gimp.slide.memory import usable_bytes

Pixels = NDArray[np.generic]
Key = tuple[Hashable, ...]
MB = 1_000_000
MOST_BYTES = 4_000_000_000
LEAST_MB = 64
"""The tiles of a screen must fit, or it never settles."""
VARIABLE = "NAPARI_GIMP_CACHE_MB"


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

    def settled(self, key: Key) -> Pixels | None:
        """Return a kept tile, or one that is being decoded, waiting; else None."""
        with self._lock:
            tile, flying = self._used(key), self._flying.get(key)
        return tile if flying is None else flying.result()

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
        while self._bytes + tile.nbytes > self.budget_bytes:
            _, oldest = self._tiles.popitem(last=False)
            self._bytes -= oldest.nbytes
        self._tiles[key] = tile
        self._bytes += tile.nbytes


@cache
def tile_cache() -> TileCache:
    """Return this process's tile cache.

    Its budget is a quarter of the usable memory, at most 4 GB, or what the
    environment variable NAPARI_GIMP_CACHE_MB says.

    Raises
    ------
    SlideError
        If that variable is no whole number of at least `LEAST_MB`.
    """
    stated = os.environ.get(VARIABLE, "").strip()
    if stated:
        return TileCache(_budget(stated))
    return TileCache(max(LEAST_MB * MB, min(usable_bytes() // 4, MOST_BYTES)))


def _budget(stated: str) -> int:
    if not stated.isdecimal() or int(stated) < LEAST_MB:
        raise SlideError(
            f"The environment variable {VARIABLE} is {stated!r}: give the size of the "
            f"tile cache as a whole number of megabytes, at least {LEAST_MB}, or unset "
            "it."
        )
    return int(stated) * MB
