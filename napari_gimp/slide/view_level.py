"""A display level as napari wants an array: shape, dtype and slicing."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from napari_gimp.slide.source import Pixels

Read = Callable[[int, int, int, int], Pixels]
"""From y, x, height, width to pixels (h, w) or (h, w, 3)."""
CHUNK_PX = 256
"""napari asks for whole chunks: steps within one need no new slice."""


class ViewLevel:
    """One level of a `SlideView`; slicing returns what is there now.

    `np.asarray` of it returns the true pixels, and waits for them.

    Parameters
    ----------
    shape
        Rows and columns, and 3 for colour.
    dtype
        Kind of the pixels.
    paint
        Reads a region as good as it is now.
    whole
        Reads the whole level in true pixels.
    """

    def __init__(
        self,
        *,
        shape: tuple[int, ...],
        dtype: np.dtype[np.generic],
        paint: Read,
        whole: Callable[[], Pixels],
    ) -> None:
        self.shape = shape
        self.dtype = dtype
        self.ndim = len(self.shape)
        self.size = int(np.prod(self.shape, dtype=np.int64))
        self.chunks = (CHUNK_PX, CHUNK_PX, *shape[2:])
        self._paint, self._whole = paint, whole

    def __getitem__(self, key: Any) -> Pixels:
        rows, cols, rest = _split(key)
        y0, y1, y_step = _span(rows, self.shape[0])
        x0, x1, x_step = _span(cols, self.shape[1])
        pixels = self._paint(y0, x0, y1 - y0, x1 - x0)
        return np.asarray(pixels[(y_step, x_step, *rest)])

    def __array__(
        self, dtype: np.dtype[np.generic] | None = None, copy: bool | None = None
    ) -> Pixels:
        pixels = self._whole()
        return pixels if dtype is None else pixels.astype(dtype)

    def __len__(self) -> int:
        return self.shape[0]


def _split(key: Any) -> tuple[Any, Any, tuple[Any, ...]]:
    """Return the parts of an index for rows, columns and what follows."""
    parts = list(key) if isinstance(key, tuple) else [key]
    parts = [slice(None) if part is Ellipsis else part for part in parts]
    parts += [slice(None)] * (2 - len(parts))
    return parts[0], parts[1], tuple(parts[2:])


def _span(part: Any, side: int) -> tuple[int, int, Any]:
    """Return start, stop and what is left to pick: a step, or 0 for a number."""
    if isinstance(part, slice):
        start, stop, step = part.indices(side)
        if step < 1:
            raise IndexError(f"a level is sliced with steps of at least 1, got {step}")
        return start, max(start, stop), slice(None, None, step)
    index = operator.index(part)
    if not -side <= index < side:
        raise IndexError(f"index {index} is outside a level of {side} px")
    return index % side, index % side + 1, 0
