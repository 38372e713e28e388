"""Training as a process of its own, which outlives whoever started it.

Started with the interpreter, never forked. The run folder is all that is needed
to find it again: `process.json` says who trains, `events.jsonl` how far it is.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from napari_gimp.errors import RunError
from napari_gimp.training.events import Event, Tail
from napari_gimp.training.run import RunConfig, RunFolder, write_text

_DETACHED_NEW_GROUP = 0x00000008 | 0x00000200  # Windows' process creation flags


@dataclass(frozen=True, slots=True)
class Launched:
    """A training process and its run folder."""

    process: subprocess.Popen[bytes]
    folder: Path

    @property
    def running(self) -> bool:
        """Whether the process is alive."""
        return self.process.poll() is None

    def stop(self) -> None:
        """Ask for a clean end after the epoch."""
        RunFolder(self.folder).request_stop()


def command(run_toml: Path | str, *, resume: bool = False) -> list[str]:
    """Return the command line that trains this run, for people and for `launch`."""
    words = [sys.executable, "-m", "napari_gimp.cli", "train", str(run_toml)]
    return [*words, "--resume"] if resume else words


def launch(run_toml: Path | str, *, resume: bool = False) -> Launched:
    """Start training in the background; its output goes to `log.txt`.

    Raises
    ------
    RunError
        If the run file is wrong or somebody trains in its folder already.
    """
    folder = RunConfig.read(run_toml).folder
    check_free(folder)
    folder.root.mkdir(parents=True, exist_ok=True)
    process = _start(command(run_toml, resume=resume), folder.log)
    _note(folder, process.pid)  # at once, so that `follow` never misses it
    return Launched(process, folder.root)


def running_pid(folder: Path) -> int | None:
    """Return the process that trains in this folder; None if nobody does."""
    import psutil

    try:
        known = json.loads(RunFolder(folder).process.read_text(encoding="utf-8"))
        process = psutil.Process(known["pid"])
        # A process number is used again: the start time tells the two apart.
        same = abs(process.create_time() - known["started"]) < 1.0
        alive = same and process.status() != psutil.STATUS_ZOMBIE
        return process.pid if alive else None
    except (OSError, ValueError, KeyError, psutil.Error):
        return None


def sign_in(folder: RunFolder) -> None:
    """Note this process as the one that trains in the folder.

    Raises
    ------
    RunError
        If another process trains there.
    """
    check_free(folder)
    _note(folder, os.getpid())


def sign_out(folder: RunFolder) -> None:
    """Say that this process, which may live on, trains in the folder no more."""
    folder.process.unlink(missing_ok=True)


def check_free(folder: RunFolder) -> None:
    """Raise a RunError if another process trains in the folder."""
    pid = running_pid(folder.root)
    # On Windows a venv's python.exe is the parent of the interpreter itself.
    if pid is not None and pid not in (os.getpid(), os.getppid()):
        raise RunError(
            f"Process {pid} is training in {folder.root}. "
            "Wait for it, stop it, or choose another folder as `out`."
        )


def follow(folder: Path | str, *, poll_s: float = 0.3) -> Iterator[Event]:
    """Yield the run's events, old ones first, until its process ends.

    Works for a process started by anybody, also after its end. Blocks while it
    waits: for a dock, read an `events.Tail` from a timer instead.
    """
    folder = Path(folder)
    tail = Tail(RunFolder(folder).events)
    while True:
        alive = running_pid(folder) is not None
        yield from tail.read()
        if not alive:
            return
        time.sleep(poll_s)


def _note(folder: RunFolder, pid: int) -> None:
    import psutil

    known = {"pid": pid, "started": psutil.Process(pid).create_time()}
    write_text(folder.process, json.dumps(known))


def _start(words: list[str], log: Path) -> subprocess.Popen[bytes]:
    # Detached, so that the end of the parent's session does not end the training.
    windows = sys.platform == "win32"
    with log.open("ab") as output:
        return subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=not windows,
            creationflags=_DETACHED_NEW_GROUP if windows else 0,
        )
