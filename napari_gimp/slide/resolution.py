"""Um per pixel: whether a number is plausible, and if not, what was probably meant.

A wrong um/px misplaces every patch by a factor and nobody sees it, so a missing or
implausible value is never used silently.
"""

from __future__ import annotations

import math

from napari_gimp.errors import ResolutionError
from napari_gimp.geometry import YX
from napari_gimp.slide.source import Resolution

PLAUSIBLE_UM = (0.05, 20.0)
"""um/px of slides: 100x objectives reach 0.06, a 1.25x overview has about 8."""
COMMON_MPP = (0.25, 0.5, 1.0)
"""um/px of 40x, 20x and 10x scans."""
UM_PER_UNIT = {2: 25_400.0, 3: 10_000.0}
"""TIFF ResolutionUnit: 2 is inch, 3 is centimetre; 1 has no length."""


SCREEN_DPI = (72, 96)


def is_plausible(mpp: YX) -> bool:
    """Whether both sides lie within `PLAUSIBLE_UM` and differ less than twofold."""
    low, high = PLAUSIBLE_UM
    return all(low <= side <= high for side in mpp) and max(mpp) < 2 * min(mpp)


def from_file(mpp: YX | None, origin: str) -> Resolution:
    """Return the resolution a file states, verified where it is plausible."""
    if mpp is None or not all(math.isfinite(v) and v > 0 for v in mpp):
        return Resolution(None, "none", False)
    return Resolution(mpp, origin, is_plausible(mpp))


def from_user(mpp: float | YX) -> Resolution:
    """Return the resolution a user states, um/px: one number or (y, x).

    Raises
    ------
    ResolutionError
        If it is not a positive number.
    """
    sides = (mpp, mpp) if isinstance(mpp, int | float) else tuple(mpp)
    if len(sides) != 2 or not all(math.isfinite(v) and v > 0 for v in sides):
        raise ResolutionError(
            f"The resolution must be a positive number of um/px, got {mpp}: give one "
            "number such as 0.5, or two for height and width."
        )
    return Resolution((float(sides[0]), float(sides[1])), "user", False)


def from_tags(
    per_unit: tuple[float, float], unit: int, origin: str = "TIFF resolution tags"
) -> Resolution:
    """Return the resolution of TIFF tags: pixels per `unit` as (x, y)."""
    um = UM_PER_UNIT.get(unit)
    if um is None or min(per_unit) <= 0:
        return Resolution(None, "none", False)
    return from_file((um / per_unit[1], um / per_unit[0]), origin)


def is_users_word(resolution: Resolution) -> bool:
    """Whether a person stated the um/px, now or ("user, remembered") before."""
    return resolution.origin.startswith("user")


def is_usable(resolution: Resolution) -> bool:
    """Whether maps and models may work with the um/px."""
    stated = resolution.mpp is not None
    return stated and (resolution.verified or is_users_word(resolution))


def likely_mpp(mpp: float) -> float | None:
    """Return `mpp` moved by a power of ten to a common scan's um/px, or None.

    The usual slip is a wrong unit, so only powers of ten are tried, and the result
    must lie within 15 % of 0.25, 0.5 or 1.0 um/px. Dots per inch of a screen or a
    printer (72, 96, 100, 300, ...) say nothing of the slide.
    """
    if is_plausible((mpp, mpp)) or _is_dpi(mpp):
        return None
    moved = [mpp * 10.0**k for k in range(-4, 5) if k]
    near = [v for v in moved if any(abs(v / c - 1) < 0.15 for c in COMMON_MPP)]
    return near[0] if near else None


def _is_dpi(mpp: float) -> bool:
    """Whether a pixel has the size of a screen's or a printer's dot."""
    dpi = UM_PER_UNIT[2] / mpp
    whole = abs(dpi - round(dpi)) < 0.01
    usual = round(dpi) in SCREEN_DPI or round(dpi) % 10 == 0
    return mpp > PLAUSIBLE_UM[1] and dpi > 1 and whole and usual


def trusted_mpp(resolution: Resolution, name: str) -> YX:
    """Return the um/px to work with.

    Raises
    ------
    ResolutionError
        If the file `name` states none or an implausible one and the user was silent.
    """
    if resolution.mpp is None:
        raise ResolutionError(
            f"{name} does not say its resolution in um/px: give it with --mpp "
            "(0.25 for a 40x scan, 0.5 for 20x, 1.0 for 10x)."
        )
    if is_usable(resolution):
        return resolution.mpp
    raise ResolutionError(_implausible(resolution.mpp, resolution.origin, name))


def _implausible(mpp: YX, origin: str, name: str) -> str:
    low, high = PLAUSIBLE_UM
    guess = likely_mpp(mpp[0])
    remedy = "give the true value with --mpp"
    if guess is not None:
        remedy = f"probably {guess:.3g} is meant, so give --mpp {guess:.3g}"
    sides = f"{mpp[0]:.4g}" if mpp[0] == mpp[1] else f"{mpp[0]:.4g} x {mpp[1]:.4g}"
    return (
        f"{name} states {sides} um/px ({origin}), which no slide scanner has "
        f"({low:g} to {high:g}, alike in height and width): {remedy}."
    )
