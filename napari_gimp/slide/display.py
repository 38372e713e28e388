"""Which levels a viewer gets: the slide's ladder, padded, down to a small one.

napari computes a level's factor from the *shapes*, so every shape is padded (with
`fill`, at the lower and right edge) to make that quotient exact.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from napari_gimp.geometry import YX
from napari_gimp.slide.factors import as_fraction
from napari_gimp.slide.ladder import COARSEST_PX, Rung, ladder, shape_at
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
    """Return the levels to show, finest first.

    The coarsest is the first with at most `COARSEST_PX` on its longest side: napari
    keeps it in memory, and so do we.
    """
    rungs = _down_to_small(levels)
    factors = [rung.factor for rung in rungs]
    sides = [_padded(levels[0].shape[a], [f[a] for f in factors]) for a in (0, 1)]
    return tuple(
        DisplayLevel(
            factor=rung.factor,
            shape=(_side(sides[0], rung.factor[0]), _side(sides[1], rung.factor[1])),
            inner=shape_at(levels, rung),
            tile=levels[rung.stored].tile,
            stored=rung.stored if rung.step == 1 else None,
        )
        for rung in rungs
    )


def _down_to_small(levels: tuple[Level, ...]) -> list[Rung]:
    rungs = ladder(levels)
    small = [max(shape_at(levels, rung)) <= COARSEST_PX for rung in rungs]
    return list(rungs[: small.index(True) + 1])


def _padded(side: int, factors: list[float]) -> int:
    """Return the least length >= `side` that all factors divide, px."""
    unit = math.lcm(*(as_fraction(f).numerator for f in factors if _is_simple(f)))
    return math.ceil(side / unit) * unit if unit <= MAX_PAD_PX else side


def _side(padded: int, factor: float) -> int:
    exact = Fraction(padded) / as_fraction(factor)
    return math.ceil(exact) if _is_simple(factor) else math.ceil(padded / factor)


def _is_simple(factor: float) -> bool:
    return float(as_fraction(factor)) == factor
