"""Where each slide of a cohort stands, as the command line and a dock show it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class State(StrEnum):
    """Where a slide stands."""

    QUEUED = "queued"
    RUNNING = "running"
    BUSY = "busy"
    """Another run works on it; its features are taken when it is done."""
    DONE = "done"
    STORED = "stored"
    """The features were there."""
    DAMAGED = "damaged"
    """Encoded, but tiles were missing, so not kept from the first of them on."""
    FAILED = "failed"
    CANCELLED = "cancelled"


ENDS = (State.DONE, State.STORED, State.DAMAGED, State.FAILED, State.CANCELLED)


@dataclass(frozen=True, slots=True)
class SlideState:
    """One step of one slide.

    Parameters
    ----------
    number
        The slide's place in the list of entries.
    state
        Where it stands.
    done, total
        Patches encoded, and of how many.
    seconds
        Since this attempt began.
    text
        Why it failed, or which tiles are damaged.
    key
        Name of its entry in the store, without the ending.
    lasting
        Whether a failure would be the same if it were tried again.
    """

    number: int
    state: State
    done: int = 0
    total: int = 0
    seconds: float = 0.0
    text: str = ""
    key: str = ""
    lasting: bool = False

    @property
    def ended(self) -> bool:
        """Whether nothing more comes of this attempt."""
        return self.state in ENDS

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        plain = asdict(self) | {"seconds": round(self.seconds, 2)}
        return {k: v for k, v in plain.items() if k not in ("number", "lasting")}


def tally(states: Iterable[SlideState]) -> str:
    """Return how many slides are in each state: "3 done, 1 failed"."""
    counts = Counter(state.state for state in states)
    return ", ".join(f"{counts[s]} {s}" for s in State if counts[s]) or "no slide"
