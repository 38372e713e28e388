"""Numbers for people: grouped digits, units, ordinals. No Qt."""

from __future__ import annotations

from napari_gimp.errors import GimpError
from napari_gimp.geometry import YX


def size_px(shape: tuple[int, int]) -> str:
    """Return "width × height px"."""
    return f"{shape[1]:,} × {shape[0]:,} px"


def size_mm(size_um: YX) -> str:
    """Return "width × height mm"."""
    height, width = (f"{side / 1000:#.3g}".rstrip(".") for side in size_um)
    return f"{width} × {height} mm"


def resolution(mpp: YX) -> str:
    """Return um/px, both numbers only where they differ by more than 0.1 %."""
    y, x = mpp
    if abs(y - x) <= 1e-3 * x:
        return f"{x:.4g} µm/px"
    return f"{x:.4g} × {y:.4g} µm/px (x × y)"


def ordinal(number: float) -> str:
    """Return 1st, 2nd, 3rd, 97th."""
    whole = round(number)
    teen = 10 <= whole % 100 <= 20
    return f"{whole}{'th' if teen else _ENDINGS.get(whole % 10, 'th')}"


def duration(seconds: float) -> str:
    """Return "8 s", "2 min 10 s" or "1 h 5 min"."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"


def value(number: float, unit: str = "", *, signed: bool = False) -> str:
    """Return a number with four digits and its unit."""
    text = f"{number:+.4g}" if signed else f"{number:.4g}"
    return f"{text} {unit}".strip()


def count(number: int, what: str, ending: str = "s") -> str:
    """Return "1 gene", "1,544 genes" or, with another ending, "3 patches"."""
    return f"{number:,} {what}{'' if number == 1 else ending}"


def capital(text: str) -> str:
    """Return a text that begins with a capital letter."""
    return text[:1].upper() + text[1:]


def sentence(text: str) -> str:
    """Return a text that begins with a capital letter and ends with a point."""
    return capital(text) if text.endswith((".", "!", "?")) else f"{capital(text)}."


def failure(error: Exception, kept: str) -> str:
    """Return why background work ended, and of an unforeseen error what was kept."""
    if isinstance(error, GimpError):
        return sentence(str(error))
    return (
        f"It stopped at an unexpected error: {type(error).__name__}: {error}\n{kept} "
        "Start again; if it stops again, report this text."
    )


_ENDINGS = {1: "st", 2: "nd", 3: "rd"}
