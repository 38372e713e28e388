"""What a view decodes, and what not: fields left behind, rings, lost files."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from made_source import MadeSource, pyramid_of
from napari_gimp.slide import decoding, view, view_requests
from napari_gimp.slide.decoding import DecodePool
from napari_gimp.slide.view import SlideView
from napari_gimp.slide.view_requests import Requests
from napari_gimp.slide.view_tiles import Area

WAIT_S = 20
FIELD = np.s_[0:256, 0:256]
"""16 tiles of 64 px."""


@pytest.fixture
def pool(monkeypatch) -> DecodePool:
    """A pool of this test alone: two threads."""
    pool = DecodePool(2)
    for module in (decoding, view, view_requests):
        monkeypatch.setattr(module, "decode_pool", lambda: pool)
    return pool


@pytest.fixture
def source() -> Iterator[MadeSource]:
    with MadeSource(pyramid_of(2048, 2048)) as source:
        yield source


@pytest.fixture
def seen(pool, source) -> Iterator[SlideView]:
    view = SlideView(source)
    assert view.base.complete.wait(WAIT_S)
    yield view
    source.gate.set()
    view.close()


def settle(pool: DecodePool, view: SlideView) -> None:
    """Wait until the pool has nothing to do for a view."""
    done = threading.Event()
    while pool.pending(view.tiles.token):
        assert not done.wait(0.005)


def until(view: SlideView, ready: Callable[[], bool]) -> None:
    """Wait for `updated` until something is true."""
    came = threading.Semaphore(0)
    connected = view.updated.connect(lambda: came.release())
    while not ready():
        assert came.acquire(timeout=WAIT_S), "no `updated` came"
    view.updated.disconnect(connected)


def places_at(source: MadeSource, level: int) -> set[tuple[int, int]]:
    return {(row, col) for at, row, col in source.decoded if at == level}


def test_tiles_that_come_just_before_they_are_asked_for_are_in_the_picture(
    pool, monkeypatch
):
    """They came after the look at the cache, and nobody would tell of them again."""
    finest, *coarser = pyramid_of(2048, 2048)
    with MadeSource([255 - finest, *coarser]) as source:
        view = SlideView(source)
        assert view.base.complete.wait(WAIT_S)
        look = view.requests.look

        def look_late(field, eye, missing, **more):
            for place in missing:
                view.tiles.decoded(place)
                view.requests.arrived(place)
            look(field, eye, missing, **more)

        monkeypatch.setattr(view.requests, "look", look_late)
        monkeypatch.setattr(view.requests, "soon", lambda count: False)
        monkeypatch.setattr(pool, "request", lambda *args, **idle: None)
        painted = view.levels[0][FIELD]
        view.close()
    np.testing.assert_array_equal(painted, 255 - finest[FIELD])


def test_a_field_left_behind_is_not_decoded(pool, seen, source):
    source.gate.clear()
    source.forget()
    seen.levels[0][FIELD]
    for _ in range(pool.workers):
        assert source.begun.acquire(timeout=WAIT_S)
    begun = set(source.decoded)
    seen.levels[0][1024:1280, 1024:1280]
    source.gate.set()
    settle(pool, seen)
    new = {(0, row, col) for row in range(16, 20) for col in range(16, 20)}
    asked = {place for place in source.decoded if place[0] == 0}
    assert asked - new <= begun


def test_the_middle_of_a_field_is_decoded_first(pool, seen, source):
    source.forget()
    seen.levels[0][0:320, 0:320]
    settle(pool, seen)
    order = [place[1:] for place in source.decoded if place[0] == 0]
    assert order.index((2, 2)) < 3
    assert order.index((0, 0)) > len(order) // 2


def test_a_ring_is_prefetched_only_when_the_field_is_complete(pool, seen, source):
    level = seen.levels[0]
    source.forget()
    level[256:512, 256:512]
    settle(pool, seen)
    field = {(row, col) for row in range(4, 8) for col in range(4, 8)}
    assert places_at(source, 0) == field
    level[256:512, 256:512]
    settle(pool, seen)
    ring = {(row, col) for row in range(3, 9) for col in range(3, 9)}
    assert places_at(source, 0) == ring


def test_the_ring_of_a_field_left_behind_is_given_up(pool, seen, source):
    level = seen.levels[0]
    level[256:512, 256:512]
    settle(pool, seen)
    source.gate.clear()
    source.forget()
    level[256:512, 256:512]
    assert source.begun.acquire(timeout=WAIT_S)
    level[1024:1280, 1024:1280]
    source.gate.set()
    settle(pool, seen)
    ring = {place for place in places_at(source, 0) if max(place) <= 8}
    assert len(ring) <= pool.workers


def test_a_bridge_of_coarser_tiles_comes_before_a_far_field(pool, source):
    pool.workers = 1  # two would begin in order and go on in any
    fine = MadeSource(pyramid_of(16384, 1024), tile=64)
    view = SlideView(fine)
    assert view.base.complete.wait(WAIT_S)
    fine.forget()
    view.requests._tile_s = 1.0
    view.levels[0][0:1024, 0:1024]
    settle(pool, view)
    assert fine.decoded[0][0] > 0
    assert {place[0] for place in fine.decoded[8:]} == {0}
    view.close()
    fine.close()


def test_prefetched_tiles_ask_for_no_refresh(pool, seen, source):
    level = seen.levels[0]
    level[FIELD]
    settle(pool, seen)
    told = []
    seen.updated.connect(lambda: told.append(1))
    level[FIELD]
    settle(pool, seen)
    assert len(places_at(source, 0)) == 25
    assert not told


def test_tiles_that_come_soon_are_waited_for_and_need_no_refresh(pool, seen, source):
    seen.requests._patience, seen.requests._tile_s = WAIT_S, 0.0
    told = []
    seen.updated.connect(lambda: told.append(1))
    shown = seen.levels[0][FIELD]
    settle(pool, seen)
    np.testing.assert_array_equal(shown, source.arrays[0][FIELD])
    assert not told


def test_tiles_that_come_late_are_not_waited_for(pool, seen, source):
    seen.requests._patience, seen.requests._tile_s = WAIT_S, WAIT_S
    source.gate.clear()
    start = time.monotonic()
    shown = seen.levels[0][FIELD]
    assert time.monotonic() - start < WAIT_S / 2
    assert shown.shape == (256, 256, 3)
    source.gate.set()
    until(seen, lambda: np.array_equal(seen.levels[0][FIELD], source.arrays[0][FIELD]))


def test_the_view_learns_how_fast_tiles_come(pool, seen):
    seen.requests._tile_s = WAIT_S
    seen.levels[0][FIELD]
    settle(pool, seen)
    assert seen.requests._tile_s < WAIT_S * 0.7


def test_a_slide_that_vanishes_is_told_once_and_not_asked_again_at_once(
    pool, seen, source
):
    source.gone = True
    level = seen.levels[0]
    level[FIELD]
    until(seen, lambda: seen.error is not None)
    settle(pool, seen)
    asked = len(source.decoded)
    level[FIELD]
    settle(pool, seen)
    assert len(source.decoded) == asked
    assert "plug its drive in" in str(seen.error)


def test_a_slide_that_comes_back_is_whole_again(pool, source, monkeypatch):
    monkeypatch.setattr(view_requests, "RETRY_S", 0.0)
    source.gone = True
    view = SlideView(source)
    assert view.base.complete.wait(WAIT_S)
    assert view.error is not None
    source.gone = False
    view.levels[0][FIELD]
    rows, cols = source.arrays[1].shape[:2]
    kept = np.asarray(view.levels[1])[:rows, :cols]
    settle(pool, view)
    done = threading.Event()
    while pool.pending(view._base_owner):
        assert not done.wait(0.005)
    np.testing.assert_array_equal(kept, source.arrays[1])
    assert view.error is None
    view.close()


def test_a_damaged_tile_shows_coarser_pixels_under_its_hatch(pool, seen, source):
    source.broken.add((0, 0, 0))
    level = seen.levels[0]
    until(seen, lambda: level[FIELD].size > 0 and len(source.damage) == 1)
    settle(pool, seen)
    shown, truth = level[FIELD][:64, :64], source.arrays[0][:64, :64]
    plain = ~(shown == 150).all(axis=2)
    assert (shown[plain] == truth[plain]).all()  # blocks of 8 px: all levels agree
    assert not plain.all()


def test_damage_of_the_coarsest_level_is_hatched_in_the_array_napari_keeps(pool):
    with MadeSource(pyramid_of(2048, 2048)) as source:
        source.broken.add((1, 2, 2))
        view = SlideView(source)
        assert view.base.complete.wait(WAIT_S)
        kept = np.asarray(view.levels[view.base.number])
        lines = (kept == 150).all(axis=2)
        assert 0.05 < lines[128:192, 128:192].mean() < 0.3
        lines[128:192, 128:192] = False
        assert not lines.any()
        view.close()


def test_many_threads_may_look_at_once(pool, seen, source):
    from concurrent.futures import ThreadPoolExecutor

    rng = np.random.default_rng(4)
    corners = rng.integers(0, 1700, (60, 2))

    def look(corner: np.ndarray) -> bool:
        y, x = corner
        shown = seen.levels[0][y : y + 300, x : x + 300]
        return bool((shown == source.arrays[0][y : y + 300, x : x + 300]).all())

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(look, corners))
        for _ in range(3):  # what one field drops of another's, the next look asks for
            settle(pool, seen)
            sharp = [look(corner) or settle(pool, seen) for corner in corners]
    assert all(look(corner) for corner in corners), sharp


def refreshes(interval_s: float, arrivals_s: list[float], monkeypatch) -> list[int]:
    """Return after which arrivals a refresh is asked for, by a clock of our own."""
    clock = [0.0]
    monkeypatch.setattr(view_requests.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(view_requests, "decode_pool", lambda: DecodePool(1))
    monkeypatch.setattr(DecodePool, "request", lambda *args, **kwargs: None)
    requests = Requests("me", lambda place: None)
    requests.took(interval_s / view_requests.REST)
    places = [(0, 0, number) for number in range(len(arrivals_s))]
    requests.look((0, Area(0, 0, 9, 9)), 0, places)
    due = []
    for place, at in zip(places, arrivals_s, strict=True):
        clock[0] = at
        if requests.arrived(place):
            due.append(place[2])
    return due


def test_a_field_that_comes_quickly_is_refreshed_once(monkeypatch):
    assert refreshes(0.1, [0.01, 0.02, 0.03, 0.04], monkeypatch) == [3]


def test_refreshes_are_no_oftener_than_they_take(monkeypatch):
    times = [0.05 * n for n in range(1, 9)]
    assert refreshes(0.1, times, monkeypatch) == [1, 3, 5, 7]


def test_tiles_nobody_looks_at_ask_for_no_refresh(monkeypatch):
    assert refreshes(0.0, [], monkeypatch) == []
    requests = Requests("me", lambda place: None)
    assert not requests.arrived((0, 0, 0))
