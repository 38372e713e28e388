from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from psygnal import emit_queued

from napari_gimp.jobs import MODEL_THREAD, Job, cancel_all, read_job

WAIT_S = 10


class Heard:
    """Everything a job says, in order."""

    def __init__(self, job: Job[object]) -> None:
        self.said: list[object] = []
        job.event.connect(lambda event: self.said.append(event))
        job.finished.connect(lambda: self.said.append("finished"))
        job.failed.connect(lambda error: self.said.append(error))
        job.cancelled.connect(lambda: self.said.append("cancelled"))


def test_a_job_emits_every_event_and_then_finished() -> None:
    job = Job(lambda: iter([1, 2, 3]))
    heard = Heard(job)

    assert job.start().wait(WAIT_S)

    assert heard.said == [1, 2, 3, "finished"]
    assert job.is_done


@pytest.mark.parametrize("error", [RuntimeError("CUDA out of memory"), ValueError("x")])
def test_an_error_inside_a_generator_arrives_at_failed(error: Exception) -> None:
    def steps() -> Iterator[int]:
        yield 1
        raise error

    job = Job(steps)
    heard = Heard(job)

    assert job.start().wait(WAIT_S)

    assert heard.said == [1, error]


def test_an_error_of_the_factory_arrives_at_failed() -> None:
    def factory() -> Iterator[int]:
        raise OSError("no such slide")

    job = Job(factory)
    heard = Heard(job)

    assert job.start().wait(WAIT_S)

    assert [type(x) for x in heard.said] == [OSError]


def test_cancel_ends_the_job_between_steps_and_closes_the_generator() -> None:
    first, go_on, closed = threading.Event(), threading.Event(), threading.Event()

    def steps() -> Iterator[int]:
        try:
            for number in range(1000):
                yield number
                first.set()
                go_on.wait(WAIT_S)
        finally:
            closed.set()

    job = Job(steps)
    heard = Heard(job)
    job.start()
    assert first.wait(WAIT_S)
    job.cancel()
    go_on.set()

    assert job.wait(WAIT_S)
    assert closed.is_set()
    assert heard.said[-1] == "cancelled"
    assert len(heard.said) <= 3


def test_a_job_cancelled_before_its_turn_never_begins() -> None:
    def factory() -> Iterator[int]:
        raise AssertionError("it began")

    job = Job(factory)
    heard = Heard(job)
    job.cancel()

    assert job.start().wait(WAIT_S)
    assert heard.said == ["cancelled"]


def test_the_work_runs_on_the_model_thread_and_signals_can_reach_the_main_one() -> None:
    job = Job(lambda: iter([threading.current_thread().name]))
    heard: list[tuple[str, str]] = []
    job.event.connect(
        lambda name: heard.append((name, threading.current_thread().name)),
        thread="main",
    )

    assert job.start().wait(WAIT_S)
    assert heard == []
    emit_queued()

    assert heard == [(MODEL_THREAD, threading.main_thread().name)]


def test_two_jobs_of_one_thread_run_one_after_the_other() -> None:
    running, most = [0], [0]

    def steps() -> Iterator[None]:
        running[0] += 1
        most[0] = max(most[0], running[0])
        yield
        running[0] -= 1

    jobs = [Job(steps).start() for _ in range(5)]

    assert all(job.wait(WAIT_S) for job in jobs)
    assert most == [1]


def test_numbers_rise_so_that_late_answers_can_be_told() -> None:
    assert Job(lambda: iter([])).number < Job(lambda: iter([])).number


def test_reading_yields_what_was_read() -> None:
    job = read_job(lambda: "table")
    heard = Heard(job)

    assert job.start().wait(WAIT_S)
    assert heard.said == ["table", "finished"]


def test_all_running_jobs_can_be_cancelled_at_once() -> None:
    begun, go_on = threading.Event(), threading.Event()

    def steps() -> Iterator[int]:
        begun.set()
        go_on.wait(WAIT_S)
        yield from range(1000)

    job = Job(steps)
    heard = Heard(job)
    job.start()
    assert begun.wait(WAIT_S)
    cancel_all()
    go_on.set()

    assert job.wait(WAIT_S)
    assert heard.said[-1] == "cancelled"
