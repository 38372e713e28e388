"""Figures made for white paper, shown on napari's dark docks. No Qt."""

from __future__ import annotations

import colorsys
from operator import mul
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NEUTRAL = 0.2
"""Colours with less difference between their channels count as grey."""
GROUND_HUE = 0.617
"""Greys take the tint of napari's dark theme."""
READABLE = 0.45
"""Least luminance of a hue on the dark ground, 0 to 1."""
LUMINANCE = (0.2126, 0.7152, 0.0722)
"""Shares of red, green and blue in it (ITU-R BT.709)."""


def darken(figure: Figure) -> Figure:
    """Recolour a figure in place: paper to ground, ink to light, hues kept."""
    from matplotlib.collections import Collection
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch
    from matplotlib.text import Text

    for axes in figure.axes:
        axes.tick_params(color=on_dark(axes.xaxis.get_tick_params().get("color", "k")))
    for artist in figure.findobj():
        if isinstance(artist, Patch | Collection):
            artist.set_facecolor(_all(artist.get_facecolor()))
            artist.set_edgecolor(_all(artist.get_edgecolor()))
        elif isinstance(artist, Line2D):
            _recolour_line(artist)
        elif isinstance(artist, Text):
            artist.set_color(on_dark(artist.get_color()))
    return figure


def on_dark(colour: Any) -> tuple[float, float, float, float]:
    """Return the colour (RGBA, 0 to 1) that stands for one on white paper."""
    from matplotlib.colors import to_rgba

    red, green, blue, alpha = to_rgba(colour)
    hue, light, chroma = colorsys.rgb_to_hls(red, green, blue)
    if max(red, green, blue) - min(red, green, blue) < NEUTRAL:
        hue, light, chroma = GROUND_HUE, 0.95 - 0.78 * light, 0.1
    else:
        light = _readable(hue, light, chroma)
    return (*colorsys.hls_to_rgb(hue, light, chroma), alpha)


def _readable(hue: float, light: float, chroma: float) -> float:
    """Return the lightness from `light` on at which a hue is bright enough."""
    while light < 1:
        rgb = colorsys.hls_to_rgb(hue, light, chroma)
        if sum(map(mul, LUMINANCE, rgb)) >= READABLE:
            break
        light += 0.01
    return light


def _all(colours: Any) -> Any:
    """Recolour one RGBA, or rows of them."""
    import numpy as np

    rows = np.atleast_2d(np.asarray(colours, dtype=float))
    changed = [on_dark(tuple(row)) if row[3] else tuple(row) for row in rows]
    return changed[0] if np.ndim(colours) == 1 else changed


def _recolour_line(line: Any) -> None:
    face, edge = line.get_markerfacecolor(), line.get_markeredgecolor()
    line.set_color(on_dark(line.get_color()))
    line.set_markerfacecolor(on_dark(face))
    line.set_markeredgecolor(on_dark(edge))
