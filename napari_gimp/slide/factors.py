"""The factor by which a level was made: shapes are rounded, quotients only come near.

A 9911 px wide slide has a level of 154 px: the quotient is 64.36, the factor was 64,
and the difference is 54 px at the far edge.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from napari_gimp.geometry import YX

Shape = tuple[int, int]


def level_factors(shapes: list[Shape]) -> list[YX]:
    """Return the factor (y, x) of every level against level 0.

    Parameters
    ----------
    shapes
        Height and width of each level, px, from finest to coarsest.
    """
    return [level_factor(shapes[0], shape) for shape in shapes]


def level_factor(finest: Shape, shape: Shape) -> YX:
    """Return the simplest factor that explains `shape`, else the quotients.

    A factor f explains a level if both sides are within one pixel of finest / f,
    whichever way they were rounded.
    """
    for factor in _candidates():
        if all(_explains(factor, a, b) for a, b in zip(finest, shape, strict=True)):
            return float(factor), float(factor)
    return finest[0] / shape[0], finest[1] / shape[1]


def as_fraction(factor: float) -> Fraction:
    """Return a factor as a fraction with denominator at most 64."""
    return Fraction(factor).limit_denominator(64)


def _explains(factor: Fraction, finest: int, side: int) -> bool:
    return abs(Fraction(finest) / factor - side) < 1


def _candidates() -> Iterator[Fraction]:
    """Yield factors scanners use, the likelier first: 2**k, 2.5**k, n, n/2, n/4."""
    yield from (Fraction(2) ** k for k in range(17))
    yield from (Fraction(5, 2) ** k for k in range(1, 9))
    for denominator in (1, 2, 4):
        yield from (
            Fraction(n, denominator) for n in range(denominator, 256 * denominator)
        )
