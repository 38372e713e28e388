"""Which levels a slide is given to look at and to compute with: the ladder.

Stored levels often lie 4x apart, or there is only one. Virtual levels, means of the
stored ones, fill the gaps, so that neighbours are at most 2x apart and the coarsest
is small.
"""

from __future__ import annotations

from dataclasses import dataclass

from napari_gimp.geometry import YX
from napari_gimp.slide.source import Level

COARSEST_PX = 1024
"""Longest side of the coarsest level."""
SAME = 1.001
"""Factors that come from rounded shapes may be off by this."""


@dataclass(frozen=True, slots=True)
class Rung:
    """One level, stored or virtual.

    Parameters
    ----------
    factor
        The exact factor (y, x) against level 0.
    stored
        Number of the stored level it is, or is made from.
    step
        How many of that level's pixels make one of its own, along each axis: a power
        of 2; 1 for the stored level itself.
    """

    factor: YX
    stored: int
    step: int = 1


def ladder(levels: tuple[Level, ...]) -> tuple[Rung, ...]:
    """Return all stored levels and the virtual ones between and beyond them.

    Parameters
    ----------
    levels
        The stored levels, finest first.
    """
    rungs: list[Rung] = []
    for number, level in enumerate(levels):
        while rungs and _apart(rungs[-1].factor, level.downsample) > 2 * SAME:
            rungs.append(_doubled(rungs[-1]))
        rungs.append(Rung(level.downsample, number))
    while max(shape_at(levels, rungs[-1])) > COARSEST_PX:
        rungs.append(_doubled(rungs[-1]))
    return tuple(rungs)


def shape_at(levels: tuple[Level, ...], rung: Rung) -> tuple[int, int]:
    """Return rows and columns of a level; its last ones may be cut off, never left out.

    Parameters
    ----------
    levels
        The stored levels, finest first.
    rung
        A level of their ladder.
    """
    rows, cols = levels[rung.stored].shape
    return -(-rows // rung.step), -(-cols // rung.step)


def _apart(finer: YX, coarser: YX) -> float:
    return max(coarser[0] / finer[0], coarser[1] / finer[1])


def _doubled(rung: Rung) -> Rung:
    y, x = rung.factor
    return Rung((2 * y, 2 * x), rung.stored, 2 * rung.step)
