"""How fast a stage of work goes and how long it will take. No Qt."""

from __future__ import annotations

from dataclasses import dataclass

from napari_gimp._qt.wording import duration

SETTLE_S = 1.0
"""Time after which a rate is worth showing, s."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Progress of one stage.

    Parameters
    ----------
    stage
        What is done, a phrase for people.
    done, total
        Steps done, of how many; a total of 0 is unknown.
    start_s, start_done
        When the stage was first seen and what was done then: features that came
        from the store do not count as speed.
    now_s
        Time of the last event.
    """

    stage: str
    done: int
    total: int
    start_s: float
    start_done: int
    now_s: float

    @property
    def rate(self) -> float | None:
        """Steps per second, None until it is worth showing."""
        elapsed, steps = self.now_s - self.start_s, self.done - self.start_done
        return steps / elapsed if elapsed >= SETTLE_S and steps > 0 else None

    @property
    def left_s(self) -> float | None:
        """Seconds left in this stage, None where unknown."""
        if not self.rate or not self.total:
            return None
        return (self.total - self.done) / self.rate

    @property
    def text(self) -> str:
        """One line: stage, count, rate, time left."""
        parts = [self.stage[:1].upper() + self.stage[1:]]
        if self.total > 1:
            parts.append(f"{self.done:,} of {self.total:,}")
        if self.rate is not None and self.total > 1:
            parts.append(f"{self.rate:.3g}/s")
        if self.left_s and self.done < self.total:
            parts.append(f"{duration(self.left_s)} left")
        return " · ".join(parts)


def advance(
    pace: Pace | None, stage: str, done: int, total: int, *, now_s: float
) -> Pace:
    """Return the pace after a progress event; a new stage starts afresh."""
    if pace is None or pace.stage != stage:
        return Pace(stage, done, total, now_s, done, now_s)
    return Pace(stage, done, total, pace.start_s, pace.start_done, now_s)
