"""Processes that try damaged slides, watched from outside.

A C library that crashes or never comes back takes its process with it, so each case
is handed to a process that can be lost; what happened is told of the case.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import psutil

from mutations import Mutation

CPU_S = 5.0
"""A case that computes longer hangs."""
WALL_S = 60.0
"""A case that takes longer waits for something that never comes."""
MEMORY_BYTES = 3 << 30
"""Address space a process may take beyond what it has at its start."""
Task = tuple[Callable[..., str], tuple[Any, ...]]


@dataclass(frozen=True)
class Outcome:
    """What became of a case: `fine` with a word on it, or not, with the reason."""

    name: str
    fine: bool
    text: str


class FuzzPool:
    """Watched processes, each lost and replaced when a case kills it.

    Parameters
    ----------
    processes
        How many.
    cpu_s
        Seconds of computing after which a case counts as hanging.
    """

    def __init__(self, processes: int = 2, cpu_s: float = CPU_S) -> None:
        self._cpu_s = cpu_s
        self._free: SimpleQueue[_Process] = SimpleQueue()
        for _ in range(processes):
            self._free.put(_Process())
        self._count = processes

    def run(self, tasks: Iterable[tuple[str, Task]]) -> list[Outcome]:
        """Do tasks, each under a name; returns what became of them, in order."""
        with ThreadPoolExecutor(self._count) as threads:
            return list(threads.map(lambda named: self._one(*named), tasks))

    def close(self) -> None:
        """End all processes."""
        for _ in range(self._count):
            self._free.get().end()

    def _one(self, name: str, task: Task) -> Outcome:
        process = self._free.get()
        try:
            outcome = process.do(name, task, self._cpu_s)
        finally:
            self._free.put(process if process.is_alive() else _Process())
        return outcome


class _Process:
    """One worker and the pipe to it."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()

    def is_alive(self) -> bool:
        return self._process.is_alive()

    def do(self, name: str, task: Task, cpu_s: float) -> Outcome:
        assert self._pipe.recv() == "ready"
        watched = psutil.Process(self._process.pid)
        began, before = time.monotonic(), _cpu_of(watched)
        self._pipe.send(task)
        while not self._pipe.poll(0.2):
            spent, waited = _cpu_of(watched) - before, time.monotonic() - began
            if not self.is_alive():
                break
            if spent > cpu_s or waited > WALL_S:
                self.end()
                return Outcome(name, False, f"hangs: {spent:.1f} s of {waited:.1f} s")
        try:
            fine, text = self._pipe.recv()
        except (EOFError, ConnectionError):
            self.end()
            return Outcome(name, False, f"crashed: exit {self._process.exitcode}")
        return Outcome(name, fine, text)

    def end(self) -> None:
        self._process.kill()
        self._process.join()


def _cpu_of(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.Error:  # it is gone
        return 0.0
    return float(times.user + times.system)


def _work(pipe: Connection) -> None:
    """Do tasks until the pipe closes."""
    import logging

    logging.disable(logging.CRITICAL)
    _limit_memory()
    while True:
        pipe.send("ready")
        try:
            function, arguments = pipe.recv()
        except EOFError:
            return
        pipe.send(_outcome(function, arguments))


def _outcome(function: Callable[..., str], arguments: tuple[Any, ...]) -> Any:
    try:
        return True, function(*arguments)
    except BaseException:
        return False, traceback.format_exc(limit=-6)


def _limit_memory() -> None:
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    taken = psutil.Process().memory_info().vms
    resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY_BYTES,) * 2)


def try_damaged(case: Mutation, sound: Path) -> str:
    """Damage a copy of a slide and use it; returns how that went.

    Raises
    ------
    Exception
        Whatever is no GimpError: that is what is looked for.
    """
    from napari_gimp.errors import GimpError
    from slide_user import use

    with tempfile.TemporaryDirectory() as folder:
        path = case.damaged_copy(sound, Path(folder))
        try:
            return use(path)
        except GimpError as error:
            return f"refused: {error}"


def crash() -> str:
    """End the process as a broken C library does."""
    os.abort()


def spin() -> str:
    """Never come back."""
    while True:
        pass


def hoard() -> str:
    """Take more memory than there may be."""
    return str(len(bytearray(2 * MEMORY_BYTES)))
