"""Which levels a viewer gets: neighbours at most 2x apart, the coarsest small.

Between stored levels that lie further apart come virtual ones, the 2x means of the
level before. napari computes a level's factor from the *shapes*, so every shape is
padded (white, at the lower and right edge) to make that quotient exact.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from napari_gimp.geometry import YX
from napari_gimp.slide.factors import as_fraction
from napari_gimp.slide.ladder import COARSEST_PX, ladder, shape_at
from napari_gimp.slide.source import Level

MAX_PAD_PX = 4096
"""Beyond this the quotient of rounded shapes must do (factors no scanner uses)."""


@dataclass(frozen=True, slots=True)
class DisplayLevel:
    """One level for display.

    Parameters
    ----------
    factor
        The factor (y, x) against level 0.
    shape
        Rows and columns, padded.
    inner
        Rows and columns that hold the slide; what lies beyond is padding.
    tile
        Rows and columns of one tile.
    stored
        Number of the stored level, or None: the 2x mean of the level before.
    """

    factor: YX
    shape: tuple[int, int]
    inner: tuple[int, int]
    tile: tuple[int, int]
    stored: int | None


def display_levels(levels: tuple[Level, ...]) -> tuple[DisplayLevel, ...]:
    """Return the levels to show, finest first."""
    plan = _factors(levels)
    sides = [_padded(levels[0].shape[a], [f[a] for f, _ in plan]) for a in (0, 1)]
    return tuple(
        DisplayLevel(
            factor,
            (_side(sides[0], factor[0]), _side(sides[1], factor[1])),
            _inner(levels, factor, stored),
            levels[_last_stored(plan, number)].tile,
            stored,
        )
        for number, (factor, stored) in enumerate(plan)
    )


def _inner(
    levels: tuple[Level, ...], factor: YX, stored: int | None
) -> tuple[int, int]:
    if stored is not None:
        return levels[stored].shape
    rows, cols = levels[0].shape
    return math.ceil(rows / factor[0]), math.ceil(cols / factor[1])


def _factors(levels: tuple[Level, ...]) -> list[tuple[YX, int | None]]:
    """Return (factor, stored level or None) down to the first that is small."""
    plan: list[tuple[YX, int | None]] = []
    for rung in ladder(levels):
        plan.append((rung.factor, rung.stored if rung.step == 1 else None))
        if max(shape_at(levels, rung)) <= COARSEST_PX:
            break
    return plan


def _last_stored(plan: list[tuple[YX, int | None]], number: int) -> int:
    return next(s for _, s in reversed(plan[: number + 1]) if s is not None)


def _padded(side: int, factors: list[float]) -> int:
    """Return the least length >= `side` that all factors divide, px."""
    unit = math.lcm(*(as_fraction(f).numerator for f in factors if _is_simple(f)))
    return math.ceil(side / unit) * unit if unit <= MAX_PAD_PX else side


def _side(padded: int, factor: float) -> int:
    exact = Fraction(padded) / as_fraction(factor)
    return math.ceil(exact) if _is_simple(factor) else math.ceil(padded / factor)


def _is_simple(factor: float) -> bool:
    return float(as_fraction(factor)) == factor
