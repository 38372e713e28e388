"""Which part of a slide was looked at closely. No Qt.

A place counts once it stood on the screen for a moment at 5x or more: what only
flew past, or was seen from afar, was not looked at.
"""

from __future__ import annotations

from math import ceil, floor

import numpy as np
from numpy.typing import NDArray

from napari_gimp._qt.field import WHOLE, Field

CLOSE_UM = 2.0
"""Most um per screen px that count as close: 5x."""
DWELL_MS = 300
"""Time for which a place must stand on the screen to count, ms."""
CELLS = 256
"""Cells along the longer side of the slide in which it is noted down."""
RULE = "Tinted: shown at 5× or more (2 µm per screen pixel) for 0.3 s."


class Viewed:
    """The area of one slide that was looked at.

    Parameters
    ----------
    shape
        Rows and columns of the slide's level 0.

    Attributes
    ----------
    mask
        Cells (rows, cols) of the slide, True where it was looked at.
    last_shown
        What was on the screen the last time.
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        rows, cols = (max(1, round(CELLS * side / max(shape))) for side in shape)
        self.mask: NDArray[np.bool_] = np.zeros((rows, cols), dtype=np.bool_)
        self.last_shown: Field | None = None
        self._last: Field | None = None

    def look(self, field: Field, um_per_px: float | None) -> bool:
        """Note what is on the screen now, to be called every `DWELL_MS`.

        What was there the last time too, both times close enough, is viewed.

        Returns
        -------
        bool
            Whether anything was viewed that had not been before.
        """
        close = um_per_px is not None and um_per_px <= CLOSE_UM
        now = field.common(WHOLE) if close else None
        stayed = now.common(self._last) if now and self._last else None
        self.last_shown, self._last = field, now
        return stayed is not None and self._mark(stayed)

    def _mark(self, field: Field) -> bool:
        """Mark the cells whose centres a field holds, at least one."""
        rows, cols = self.mask.shape
        part = self.mask[
            _span(field.y0 * rows, field.y1 * rows),
            _span(field.x0 * cols, field.x1 * cols),
        ]
        new = not part.all()
        part[:] = True
        return bool(new)


def _span(start: float, stop: float) -> slice:
    """Return the cells whose centres lie between, or the one in the middle."""
    first, end = ceil(start - 0.5), ceil(stop - 0.5)
    if end > first:
        return slice(first, end)
    middle = floor((start + stop) / 2)
    return slice(middle, middle + 1)
