"""Background work: a `Job` steps through an iterator on a named thread.

One thread per name, so two jobs of one name never compete for the machine. The
work captures its inputs, yields events and touches no layer and no widget.
Events travel by psygnal; whoever shows them connects with ``thread="main"``.
"""

from __future__ import annotations

import itertools
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Generic, TypeVar

from psygnal import Signal

T = TypeVar("T")
MODEL_THREAD = "gimp-model"
READ_THREAD = "gimp-read"
_NUMBERS = itertools.count(1)
_RUNNING: weakref.WeakSet[Job[object]] = weakref.WeakSet()


class Job(Generic[T]):
    """Work that can be watched and cancelled.

    It emits `event` for everything the iterator yields, then exactly one of
    `finished`, `failed` and `cancelled`; by then the iterator is closed. Every
    exception arrives at `failed`, RuntimeErrors (torch's kind) included.

    Parameters
    ----------
    factory
        Called on the job's thread; returns the iterator to step through.
    thread
        Name of the thread: `MODEL_THREAD` computes, `READ_THREAD` reads files.

    Attributes
    ----------
    number
        Rises from job to job: whoever started a newer one drops answers of an older.
    """

    event = Signal(object)
    finished = Signal()
    failed = Signal(Exception)
    cancelled = Signal()

    def __init__(
        self, factory: Callable[[], Iterator[T]], *, thread: str = MODEL_THREAD
    ) -> None:
        self.number = next(_NUMBERS)
        self._factory = factory
        self._thread = thread
        self._cancel = threading.Event()
        self._done = threading.Event()

    @property
    def is_done(self) -> bool:
        """Whether the last signal has been emitted."""
        return self._done.is_set()

    @property
    def is_cancelling(self) -> bool:
        """Whether `cancel` was called and the job has not ended yet."""
        return self._cancel.is_set() and not self.is_done

    def start(self) -> Job[T]:
        """Queue the work on its thread; call it once."""
        _RUNNING.add(self)  # type: ignore[arg-type] # only cancel() is called on it
        _pool(self._thread).submit(self._run)
        return self

    def cancel(self) -> None:
        """Ask for an end before the next step; returns at once."""
        self._cancel.set()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Block until the job has ended; False if `timeout_s` passed first."""
        return self._done.wait(timeout_s)

    def _run(self) -> None:
        try:
            exhausted = self._step_through()
        except Exception as error:  # a thread's border: nothing may be lost
            self.failed.emit(error)
        else:
            (self.finished if exhausted else self.cancelled).emit()
        finally:
            _RUNNING.discard(self)  # type: ignore[arg-type] # as in start
            self._done.set()

    def _step_through(self) -> bool:
        if self._cancel.is_set():
            return False
        steps = self._factory()
        try:
            for event in steps:
                self.event.emit(event)
                if self._cancel.is_set():
                    return False
        finally:
            if close := getattr(steps, "close", None):
                close()
        return True


def read_job(read: Callable[[], T]) -> Job[T]:
    """Return a job that calls `read` once on the reading thread."""

    def once() -> Iterator[T]:
        yield read()

    return Job(once, thread=READ_THREAD)


def cancel_all() -> None:
    """Ask every running job to end, as on closing the application."""
    for job in tuple(_RUNNING):
        job.cancel()


@cache
def _pool(name: str) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, initializer=_take_name, initargs=(name,))


def _take_name(name: str) -> None:
    threading.current_thread().name = name
