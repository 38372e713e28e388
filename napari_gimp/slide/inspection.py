"""Decode every tile of a slide once, to know which are damaged."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice

from napari_gimp.slide.damage import Place
from napari_gimp.slide.source import Pixels, SlideSource

AHEAD = 4
"""Tiles in flight for each thread: enough to keep it busy, few in memory."""
NAMED = 3
"""Damaged tiles named in a sentence."""


def inspect(source: SlideSource) -> Iterator[tuple[int, int]]:
    """Decode all tiles, level by level; damaged ones are noted in `source.damage`.

    Tiles are not kept, so a slide of any size needs little memory.

    Yields
    ------
    tuple
        Tiles done, and tiles in all.

    Raises
    ------
    SlideError
        If the file can no longer be read.
    """
    total = tile_count(source)
    threads = min(4, os.cpu_count() or 1) if source.thread_safe else 1
    pool = ThreadPoolExecutor(threads, thread_name_prefix="gimp-decode-inspect")
    try:
        reads = (pool.submit(_decode, source, place) for place in _places(source))
        flying: deque[Future[Pixels]] = deque(islice(reads, threads * AHEAD))
        done = 0
        while flying:
            flying.popleft().result()
            flying.extend(islice(reads, 1))
            done += 1
            yield done, total
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def tile_count(source: SlideSource) -> int:
    """Return how many tiles all levels have together."""
    return sum(1 for _ in _places(source))


def first_places(source: SlideSource) -> str:
    """Return where the first damaged tiles are, in words; "" if there are none."""
    named = [
        f"level {level} row {row} column {col}"
        for level, row, col in source.damage.places[:NAMED]
    ]
    more = len(source.damage) - len(named)
    return "; ".join([*named, *([f"and {more:,} more"] if more > 0 else [])])


def _places(source: SlideSource) -> Iterator[Place]:
    for number, level in enumerate(source.levels):
        rows = -(-level.shape[0] // level.tile[0])
        cols = -(-level.shape[1] // level.tile[1])
        for row in range(rows):
            yield from ((number, row, col) for col in range(cols))


def _decode(source: SlideSource, place: Place) -> Pixels:
    """Read exactly one tile, which does not go through the cache."""
    number, row, col = place
    level = source.levels[number]
    y, x = row * level.tile[0], col * level.tile[1]
    height = min(level.tile[0], level.shape[0] - y)
    width = min(level.tile[1], level.shape[1] - x)
    return source.read_region(number, y, x, height, width)
