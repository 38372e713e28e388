"""Damaged tiles on the screen: hatched in grey, so that none passes for empty glass.

A damaged tile shows coarser pixels of its place, where there are any, and thin grey
lines over them. The lines are as wide and as far apart at every level, so that they
are seen at every zoom. Virtual levels are hatched where the pixels they were made
from are damaged.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_gimp.slide.display import DisplayLevel
from napari_gimp.slide.source import Level, Pixels, SlideSource
from napari_gimp.slide.view_tiles import Area

PERIOD_PX, LINE_PX = 24, 3
"""Distance and width of the lines, measured along a row, px of the shown level."""


class Hatch:
    """Draws lines over what is damaged in a display level.

    Parameters
    ----------
    source
        The slide, whose `damage` grows while one looks at it.
    plan
        Its display levels, finest first.
    """

    def __init__(self, source: SlideSource, plan: tuple[DisplayLevel, ...]) -> None:
        self._source, self._plan = source, plan
        self._maps: dict[int, tuple[int, NDArray[np.bool_]]] = {}

    def draw(self, out: Pixels, number: int, area: Area, ink: float) -> None:
        """Hatch the damaged part of an area.

        Parameters
        ----------
        out
            The area's pixels (h, w) or (h, w, 3), written to.
        number
            The display level.
        area
            Where they lie.
        ink
            Value of the lines.
        """
        stored, step = made_from(self._plan, number)
        level = self._source.levels[stored]
        rows = _tiles_at(area.y0, area.y1, step[0], level, 0)
        cols = _tiles_at(area.x0, area.x1, step[1], level, 1)
        damaged = self._map(stored)
        if not damaged[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1].any():
            return
        inside = damaged[np.ix_(rows, cols)] & _lines(area)
        inside &= _on_slide(area, self._plan[number])
        out[inside] = ink

    def _map(self, stored: int) -> NDArray[np.bool_]:
        """Return which tiles (rows, cols) of a stored level are damaged."""
        count = len(self._source.damage)
        known = self._maps.get(stored)
        if known is None or known[0] != count:
            known = self._maps[stored] = count, self._drawn_map(stored)
        return known[1]

    def _drawn_map(self, stored: int) -> NDArray[np.bool_]:
        level = self._source.levels[stored]
        sides = [-(-s // t) for s, t in zip(level.shape, level.tile, strict=True)]
        damaged = np.zeros(sides, bool)
        for number, row, col in self._source.damage.places:
            if number == stored:
                damaged[row, col] = True
        return damaged


def made_from(
    plan: tuple[DisplayLevel, ...], number: int
) -> tuple[int, tuple[float, float]]:
    """Return the stored level of a display level's pixels, and its px per pixel."""
    base = next(n for n in range(number, -1, -1) if plan[n].stored is not None)
    (y, x), (base_y, base_x) = plan[number].factor, plan[base].factor
    stored = plan[base].stored
    assert stored is not None
    return stored, (y / base_y, x / base_x)


def _tiles_at(
    start: int, stop: int, step: float, level: Level, axis: int
) -> NDArray[np.intp]:
    """Return the row or column of the stored tile under each pixel."""
    at = ((np.arange(start, stop) + 0.5) * step).astype(np.intp)
    tiles: NDArray[np.intp] = np.clip(at, 0, level.shape[axis] - 1) // level.tile[axis]
    return tiles


def _lines(area: Area) -> NDArray[np.bool_]:
    """Return (h, w): where diagonal lines run, fixed to the slide."""
    y, x = np.arange(area.y0, area.y1)[:, None], np.arange(area.x0, area.x1)
    lines: NDArray[np.bool_] = (y + x) % PERIOD_PX < LINE_PX
    return lines


def _on_slide(area: Area, level: DisplayLevel) -> NDArray[np.bool_]:
    rows = np.arange(area.y0, area.y1) < level.inner[0]
    cols = np.arange(area.x0, area.x1) < level.inner[1]
    return rows[:, None] & cols
