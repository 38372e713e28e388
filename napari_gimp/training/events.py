"""What happens during a run, as append-only JSON lines.

One writer, any number of readers, no lock: a line is written with one call and
counts once its newline is there.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

Kind = Literal[
    "started", "features", "epoch", "finished", "stopped", "interrupted", "failed"
]
LAST_KINDS: tuple[Kind, ...] = ("finished", "stopped", "interrupted", "failed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One line of `events.jsonl`.

    Parameters
    ----------
    kind
        "features" while slides are prepared (`step` of `total` patients done),
        "epoch" after each epoch, and how the process began and ended.
    stage
        "pretrain" or "finetune".
    epoch, step, total
        Epochs finished; optimiser steps (or patients) done, and of how many.
    parts
        Means of the named loss parts over the epoch's training steps.
    metrics
        Of the validation patients, and `lr`, `seconds`.
    text
        A sentence for people.
    time
        Seconds since 1970.
    """

    kind: Kind
    stage: str
    epoch: int = 0
    step: int = 0
    total: int = 0
    parts: Mapping[str, float] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    text: str = ""
    time: float = field(default_factory=time.time)

    @property
    def ends(self) -> bool:
        """Whether the process said good-bye with this line."""
        return self.kind in LAST_KINDS


def write_event(path: Path, event: Event) -> None:
    """Append one line."""
    line = json.dumps(asdict(event)) + "\n"
    with path.open("a", encoding="utf-8") as file:
        file.write(line)


class Tail:
    """Reads what was appended since the last look; never blocks."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def read(self) -> list[Event]:
        """Return the events that are new; a half-written last line waits."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._offset)
            whole, newline, _ = file.read().rpartition(b"\n")
        self._offset += len(whole) + len(newline)
        return [Event(**json.loads(line)) for line in whole.splitlines() if line]


def read_events(path: Path) -> list[Event]:
    """Return all events so far."""
    return Tail(path).read()
