"""The tile cache."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from napari_gimp.errors import SlideError
from napari_gimp.slide.memory import usable_bytes
from napari_gimp.slide.tiles import TileCache, tile_cache

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


def test_the_budget_is_a_quarter_of_memory_up_to_4_gb(monkeypatch):
    monkeypatch.delenv("NAPARI_GIMP_CACHE_MB", raising=False)
    for usable, budget in ((8e9, 2e9), (99e9, 4e9), (1e8, 64e6)):
        monkeypatch.setattr(
            "napari_gimp.slide.tiles.usable_bytes", lambda n=usable: int(n)
        )
        assert tile_cache.__wrapped__().budget_bytes == budget


def test_the_budget_can_be_set_in_the_environment(monkeypatch):
    monkeypatch.setenv("NAPARI_GIMP_CACHE_MB", " 300 ")
    assert tile_cache.__wrapped__().budget_bytes == 300_000_000


@pytest.mark.parametrize("stated", ["63", "-5", "1e3", "2 GB"])
def test_a_budget_that_is_none_is_an_error_that_says_what_is_right(monkeypatch, stated):
    monkeypatch.setenv("NAPARI_GIMP_CACHE_MB", stated)
    with pytest.raises(SlideError, match=rf"is '{stated}': .* at least 64"):
        tile_cache.__wrapped__()


@pytest.mark.parametrize(
    ("own", "files", "limit"),
    [
        ("0::/job/step", {"job/memory.max": 5, "job/step/memory.max": 9}, 5),
        ("0::/job/step", {"job/memory.max": "max", "job/step/memory.max": 9}, 9),
        ("0::/", {"memory.max": 7}, 7),
        ("3:memory:/docker/a", {"memory/memory.limit_in_bytes": 6}, 6),
        ("9:cpu,memory:/a", {"memory/a/memory.limit_in_bytes": 8}, 8),
        ("0::/gone", {}, None),
    ],
)
def test_the_limit_of_a_container_counts_as_its_memory(
    tmp_path, monkeypatch, own, files, limit
):
    import psutil

    (tmp_path / "own").write_text(own + "\n")
    for name, stated in files.items():
        (tmp_path / "groups" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "groups" / name).write_text(f"{stated}\n")
    monkeypatch.setattr("napari_gimp.slide.memory.OWN_GROUPS", tmp_path / "own")
    monkeypatch.setattr("napari_gimp.slide.memory.GROUPS", tmp_path / "groups")
    assert usable_bytes() == (limit or psutil.virtual_memory().total)


def test_who_reads_in_passing_waits_for_a_decode_that_has_begun():
    cache, calls = TileCache(1000), []
    inside, release = threading.Event(), threading.Event()

    def decode() -> np.ndarray:
        calls.append(1)
        inside.set()
        assert release.wait(WAIT_S)
        return tile(3)

    assert cache.settled(("s", 1)) is None
    with ThreadPoolExecutor(2) as pool:
        fetched = pool.submit(cache.fetch, ("s", 1), decode)
        assert inside.wait(WAIT_S)
        passing = pool.submit(cache.settled, ("s", 1))
        release.set()
        assert passing.result(WAIT_S) is fetched.result(WAIT_S)
    assert cache.settled(("s", 1)) is cache.peek(("s", 1))
    assert len(calls) == 1


def test_the_bytes_are_right_after_many_threads_came_and_went():
    cache = TileCache(2000)

    def use(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for owner, number, way in rng.integers(0, (3, 30, 10), (300, 3)):
            key = (int(owner), int(number))
            if way == 0:
                cache.drop(int(owner))
            elif way < 3:
                cache.peek(key)
            else:
                assert cache.fetch(key, tile).shape == (10, 10, 1)
                assert cache.used_bytes <= 2000

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(use, range(8)))
    assert cache.used_bytes == 100 * len(cache) <= 2000
    assert not cache._flying
