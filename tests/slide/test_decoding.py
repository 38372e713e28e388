"""The decode pool: order, generations and the idle lane."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from napari_gimp.slide.decoding import DecodePool, decode_pool

WAIT_S = 10


class Gate:
    """Work that tells when it has begun and goes on when it is let."""

    def __init__(self) -> None:
        self.begun, self.go = threading.Event(), threading.Event()

    def __call__(self) -> None:
        self.begun.set()
        assert self.go.wait(WAIT_S)


class Blocked:
    """A pool with one thread, which waits until it is let go."""

    def __init__(self, limit: int = 100) -> None:
        self.pool, self.done = DecodePool(1, limit), []
        self.plug = Gate()
        self.pool.request("x", 0, [(-1,)], lambda _: self.plug())
        assert self.plug.begun.wait(WAIT_S)

    def request(self, owner: str, generation: int, numbers, idle=()) -> None:
        self.pool.request(
            owner,
            generation,
            [(n,) for n in numbers],
            lambda place: self.done.append(place[0]),
            idle=[(n,) for n in idle],
        )

    def run(self) -> list[int]:
        """Let the thread go and return what it did, in order."""
        last = threading.Event()
        self.pool.request("zz", 0, [], lambda _: last.set(), idle=[(0,)])
        self.plug.go.set()
        assert last.wait(WAIT_S)
        return self.done


@pytest.fixture
def blocked() -> Blocked:
    return Blocked()


def test_what_was_asked_last_is_decoded_first(blocked):
    for number in (1, 2, 3):
        blocked.request("s", 0, [number])
    assert blocked.run() == [3, 2, 1]


def test_asking_again_moves_a_tile_up_and_does_not_double_it(blocked):
    for number in (1, 2, 3, 1):
        blocked.request("s", 0, [number])
    assert blocked.run() == [1, 3, 2]


def test_the_oldest_wishes_are_forgotten_when_there_are_too_many():
    blocked = Blocked(limit=2)
    for number in range(4):
        blocked.request("s", 0, [number])
    assert blocked.run() == [3, 2]


def test_the_places_of_a_request_are_decoded_in_their_order(blocked):
    blocked.request("s", 0, [1, 2, 3])
    assert blocked.run() == [1, 2, 3]


def test_a_later_request_goes_before_an_earlier_one_of_the_same_generation(blocked):
    blocked.request("s", 0, [1, 2])
    blocked.request("s", 0, [3, 1])
    assert blocked.run() == [3, 1, 2]


def test_a_new_generation_drops_what_only_the_old_one_asked_for(blocked):
    blocked.request("s", 1, [1, 2, 3])
    blocked.request("s", 2, [4, 2])
    assert blocked.run() == [4, 2]


def test_a_new_generation_without_wishes_drops_all(blocked):
    blocked.request("s", 1, [1, 2], idle=[3])
    blocked.request("s", 2, [])
    assert blocked.run() == []


def test_generations_of_one_owner_do_not_touch_another(blocked):
    blocked.request("a", 1, [1])
    blocked.request("b", 7, [2])
    blocked.request("a", 2, [3])
    assert blocked.run() == [3, 2]


def test_a_request_that_comes_too_late_is_ignored(blocked):
    blocked.request("s", 5, [1])
    blocked.request("s", 4, [2])
    assert blocked.run() == [1]


def test_idle_work_comes_last_in_its_own_order(blocked):
    blocked.request("s", 0, [1], idle=[8, 9])
    blocked.request("t", 0, [2])
    assert blocked.run() == [2, 1, 8, 9]


def test_idle_work_that_becomes_urgent_is_done_once_and_first(blocked):
    blocked.request("s", 0, [1], idle=[8, 9])
    blocked.request("s", 0, [9])
    assert blocked.run() == [9, 1, 8]


def test_urgent_work_does_not_sink_into_the_idle_lane(blocked):
    blocked.request("s", 0, [1, 2])
    blocked.request("s", 0, [], idle=[1])
    assert blocked.run() == [1, 2]


def test_idle_work_waits_until_no_urgent_work_is_being_done():
    pool, urgent, idle = DecodePool(4), Gate(), Gate()
    pool.request("a", 0, [(0,)], lambda _: urgent())
    assert urgent.begun.wait(WAIT_S)
    pool.request("b", 0, [], lambda _: idle(), idle=[(0,)])
    finished = threading.Event()
    pool.request(
        "a", 0, [(1,)], lambda _: finished.set()
    )  # three threads are free all the while
    assert finished.wait(WAIT_S)
    assert not idle.begun.is_set()
    urgent.go.set()
    assert idle.begun.wait(WAIT_S)
    idle.go.set()


def test_idle_work_leaves_half_of_the_threads_free():
    pool, gates = DecodePool(4), [Gate() for _ in range(3)]
    pool.request("s", 0, [], lambda p: gates[p[0]](), idle=[(0,), (1,), (2,)])
    assert gates[0].begun.wait(WAIT_S)
    assert gates[1].begun.wait(WAIT_S)
    urgent = threading.Event()
    pool.request("s", 0, [(9,)], lambda _: urgent.set())
    assert urgent.wait(WAIT_S)
    assert not gates[2].begun.is_set()
    gates[0].go.set()
    assert gates[2].begun.wait(WAIT_S)
    gates[1].go.set()
    gates[2].go.set()


def test_what_is_asked_for_while_it_is_being_done_is_done_once_more(blocked):
    """Its news may have come before anybody wanted to hear them."""
    blocked.request("x", 0, [-1])
    blocked.request("x", 0, [-1])
    assert blocked.run() == [-1]


def test_a_new_generation_drops_also_what_was_to_be_done_once_more(blocked):
    blocked.request("x", 0, [-1])
    blocked.request("x", 1, [])
    assert blocked.run() == []


def test_withdrawn_work_is_not_done_and_its_owner_starts_anew(blocked):
    blocked.request("gone", 9, [1], idle=[2])
    blocked.request("stays", 0, [3])
    blocked.pool.withdraw("gone")
    blocked.request("gone", 0, [4])
    assert blocked.run() == [4, 3]


def test_pending_counts_what_is_queued_and_what_is_being_done(blocked):
    blocked.request("s", 0, [1, 2], idle=[3])
    assert blocked.pool.pending("s") == 3
    assert blocked.pool.pending("x") == 1
    assert blocked.pool.pending("nobody") == 0
    blocked.run()


def test_the_pool_outlives_an_error(blocked, caplog):
    blocked.request("s", 0, [5])
    blocked.pool.request("s", 0, [(6,)], lambda _: 1 / 0)
    assert blocked.run() == [5]
    assert "decoding ('s', 6) failed" in caplog.text


def test_decode_threads_are_daemons_with_a_name(blocked):
    blocked.run()
    (thread,) = blocked.pool._threads
    assert thread.daemon
    assert thread.name == "gimp-decode-0"


@pytest.mark.parametrize(
    ("cores", "workers"), [(1, 4), (2, 8), (4, 16), (64, 16), (None, 4)]
)
def test_the_pool_has_four_threads_per_core_between_4_and_16(
    monkeypatch: pytest.MonkeyPatch, cores: int | None, workers: int
):
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    fresh: Callable[[], DecodePool] = decode_pool.__wrapped__
    assert fresh().workers == workers
