"""How far the slides of a cohort are and how long the rest will take. No Qt."""

from __future__ import annotations

from napari_gimp._qt.pace import SETTLE_S
from napari_gimp._qt.wording import count, duration
from napari_gimp.cohorts.states import SlideState, State

WORDS = {
    State.QUEUED: "waiting",
    State.RUNNING: "working",
    State.BUSY: "another run",
    State.DONE: "done",
    State.STORED: "was there",
    State.DAMAGED: "damaged",
    State.FAILED: "failed",
    State.CANCELLED: "cancelled",
}
"""States as a table shows them."""


class CohortPace:
    """Progress over some slides; features that were there do not count as speed.

    Parameters
    ----------
    slides
        How many there are.

    Attributes
    ----------
    states
        The last state of each slide that was heard of, by its number.
    """

    def __init__(self, slides: int) -> None:
        self.slides = slides
        self.states: dict[int, SlideState] = {}
        self._first: dict[int, int] = {}
        self._start_s: float | None = None
        self._now_s = 0.0

    def hear(self, state: SlideState, now_s: float) -> None:
        """Take the next state of a slide."""
        self.states[state.number] = state
        self._now_s = now_s
        if state.done and state.state is not State.STORED:
            self._first.setdefault(state.number, state.done)
            if self._start_s is None:
                self._start_s = now_s

    @property
    def ended(self) -> int:
        """Slides of which nothing more comes."""
        return sum(state.ended for state in self.states.values())

    @property
    def patches(self) -> int:
        """Patches that have features by now."""
        return sum(state.done for state in self.states.values())

    @property
    def rate(self) -> float | None:
        """Patches per second of all workers together, None until worth showing."""
        if self._start_s is None or self._now_s - self._start_s < SETTLE_S:
            return None
        made = sum(self.states[n].done - first for n, first in self._first.items())
        return made / (self._now_s - self._start_s) or None

    @property
    def expected(self) -> float:
        """Patches of all slides; those not opened yet are taken as average ones."""
        known = [s.total for s in self.states.values() if s.total]
        mean = sum(known) / len(known) if known else 0.0
        idle = [s for s in self.states.values() if s.ended and not s.total]
        return sum(known) + mean * (self.slides - len(known) - len(idle))

    @property
    def left_s(self) -> float | None:
        """Seconds left, None where unknown."""
        rate, left = self.rate, self.expected - self.patches
        return left / rate if rate and left > 0 else None

    @property
    def text(self) -> str:
        """One line: slides, patches, rate, time left."""
        parts = [f"{self.ended:,} of {count(self.slides, 'slide')}"]
        parts.append(count(self.patches, "patch", "es"))
        if rate := self.rate:
            parts.append(f"{rate:.3g}/s")
        if left_s := self.left_s:
            parts.append(f"{duration(left_s)} left")
        return " · ".join(parts)

    @property
    def tally(self) -> str:
        """How many slides ended how: "9 done, 2 was there, 1 failed"."""
        ends = [state.state for state in self.states.values()]
        told = [f"{ends.count(s):,} {WORDS[s]}" for s in WORDS if s in ends]
        return ", ".join(told)
