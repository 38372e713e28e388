"""The tile cache and the decode pool."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from napari_gimp.slide.tiles import DecodePool, TileCache

WAIT_S = 10


def tile(value: int = 0) -> np.ndarray:
    return np.full((10, 10, 1), value, np.uint8)


def test_a_tile_is_decoded_once_and_kept():
    cache, calls = TileCache(1000), []

    def decode() -> np.ndarray:
        calls.append(1)
        return tile(7)

    first = cache.fetch(("s", 1), decode)
    assert cache.fetch(("s", 1), decode) is first
    assert len(calls) == 1
    assert cache.used_bytes == 100


def test_the_least_recently_used_tiles_go_when_the_budget_is_spent():
    cache = TileCache(300)
    for name in "abc":
        cache.fetch(("s", name), tile)
    cache.peek(("s", "a"))
    cache.fetch(("s", "d"), tile)
    assert [cache.peek(("s", name)) is not None for name in "abcd"] == [
        True,
        False,
        True,
        True,
    ]
    assert cache.used_bytes == 300


def test_a_tile_larger_than_the_budget_is_returned_but_not_kept():
    cache = TileCache(50)
    assert cache.fetch(("s", 1), tile).shape == (10, 10, 1)
    assert len(cache) == cache.used_bytes == 0


def test_threads_that_want_the_same_tile_decode_it_once():
    cache, calls = TileCache(1000), []
    inside, release = threading.Event(), threading.Event()

    def decode() -> np.ndarray:
        calls.append(1)
        inside.set()
        assert release.wait(WAIT_S)
        return tile(3)

    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(cache.fetch, ("s", 1), decode) for _ in range(4)]
        assert inside.wait(WAIT_S)
        release.set()
        tiles = [future.result(WAIT_S) for future in futures]
    assert len(calls) == 1
    assert all(one is tiles[0] for one in tiles)


def test_a_failed_decode_is_raised_and_tried_again_by_the_next():
    cache = TileCache(1000)

    def fail() -> np.ndarray:
        raise ValueError("torn")

    with pytest.raises(ValueError, match="torn"):
        cache.fetch(("s", 1), fail)
    assert cache.fetch(("s", 1), tile) is not None


def test_dropping_an_owner_frees_its_bytes_only():
    cache = TileCache(1000)
    cache.fetch(("a", 1), tile)
    cache.fetch(("b", 1), tile)
    cache.drop("a")
    assert cache.peek(("a", 1)) is None
    assert cache.peek(("b", 1)) is not None
    assert cache.used_bytes == 100


class Blocked:
    """A pool with one thread, which waits until it is let go."""

    def __init__(self, limit: int = 100) -> None:
        self.pool, self.done = DecodePool(1, limit), []
        self._go, self.all_done = threading.Event(), threading.Event()
        inside = threading.Event()
        self.pool.submit(("x", "plug"), lambda: (inside.set(), self._go.wait(WAIT_S)))
        assert inside.wait(WAIT_S)

    def submit(self, owner: str, name: str) -> None:
        self.pool.submit((owner, name), lambda: self.done.append(name))

    def run(self) -> list[str]:
        """Let the thread go and return what it did, in order."""
        last = threading.Event()
        stack = self.pool._stack
        stack[("x", "end")] = last.set
        stack.move_to_end(("x", "end"), last=False)
        self._go.set()
        assert last.wait(WAIT_S)
        return self.done


def test_what_was_asked_last_is_decoded_first():
    blocked = Blocked()
    for name in "abc":
        blocked.submit("s", name)
    assert blocked.run() == ["c", "b", "a"]


def test_asking_again_moves_a_tile_up_and_does_not_double_it():
    blocked = Blocked()
    for name in "abca":
        blocked.submit("s", name)
    assert blocked.run() == ["a", "c", "b"]


def test_the_oldest_wishes_are_forgotten_when_there_are_too_many():
    blocked = Blocked(limit=2)
    for name in "abcd":
        blocked.submit("s", name)
    assert blocked.run() == ["d", "c"]


def test_withdrawn_work_is_not_done():
    blocked = Blocked()
    blocked.submit("gone", "a")
    blocked.submit("stays", "b")
    blocked.pool.withdraw("gone")
    assert blocked.run() == ["b"]


def test_the_pool_outlives_an_error(caplog):
    blocked = Blocked()
    blocked.submit("s", "after")
    blocked.pool.submit(("s", "bad"), lambda: 1 / 0)
    assert blocked.run() == ["after"]
    assert "decoding ('s', 'bad') failed" in caplog.text


def test_decode_threads_are_daemons_with_a_name():
    blocked = Blocked()
    blocked.run()
    (thread,) = blocked.pool._threads
    assert thread.daemon
    assert thread.name == "gimp-decode-0"
