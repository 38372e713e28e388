"""Where things are on the slide, in micrometres.

One frame for everything: slide um, order (y, x), origin at the *outer corner* of
level-0 pixel (0, 0). A raster is an array and a `Grid`. napari instead puts its
origin at the *centre* of that pixel; only `Grid.layer_kwargs` knows this.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

YX = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Rect:
    """A rectangle in slide um, from corner (y0, x0) to corner (y1, x1).

    Raises
    ------
    ValueError
        If a side has negative length.
    """

    y0: float
    x0: float
    y1: float
    x1: float

    def __post_init__(self) -> None:
        if self.y1 < self.y0 or self.x1 < self.x0:
            raise ValueError(f"a rectangle needs y0 <= y1 and x0 <= x1, got {self}")

    @property
    def size_um(self) -> YX:
        """Height and width in um."""
        return self.y1 - self.y0, self.x1 - self.x0

    @property
    def center_um(self) -> YX:
        """Centre (y, x) in um."""
        return (self.y0 + self.y1) / 2, (self.x0 + self.x1) / 2

    def contains(self, y_um: float, x_um: float) -> bool:
        """Whether the point lies inside (lower edges included)."""
        return self.y0 <= y_um < self.y1 and self.x0 <= x_um < self.x1


@dataclass(frozen=True, slots=True)
class Grid:
    """The place of a raster: `shape` cells of `cell_um`, from `origin_um` on.

    Parameters
    ----------
    shape
        Rows and columns.
    cell_um
        Height and width of one cell, um.
    origin_um
        Outer corner (y, x) of cell (0, 0), um.

    Raises
    ------
    ValueError
        If the shape is negative or a cell has no size.
    """

    shape: tuple[int, int]
    cell_um: YX
    origin_um: YX = (0.0, 0.0)

    def __post_init__(self) -> None:
        if min(self.shape) < 0:
            raise ValueError(
                f"a grid needs a shape of at least (0, 0), got {self.shape}"
            )
        if not min(self.cell_um) > 0:
            raise ValueError(f"a grid needs cells larger than 0 um, got {self.cell_um}")

    @property
    def rect(self) -> Rect:
        """The area the grid covers."""
        (rows, cols), (dy, dx), (y, x) = self.shape, self.cell_um, self.origin_um
        return Rect(y, x, y + rows * dy, x + cols * dx)

    def rect_of(self, row: int, col: int) -> Rect:
        """Return the area of one cell."""
        (dy, dx), (y, x) = self.cell_um, self.origin_um
        return Rect(y + row * dy, x + col * dx, y + (row + 1) * dy, x + (col + 1) * dx)

    def cell_at(self, y_um: float, x_um: float) -> tuple[int, int] | None:
        """Return (row, col) of the cell under a point, None outside the grid."""
        row = int(np.floor((y_um - self.origin_um[0]) / self.cell_um[0]))
        col = int(np.floor((x_um - self.origin_um[1]) / self.cell_um[1]))
        inside = 0 <= row < self.shape[0] and 0 <= col < self.shape[1]
        return (row, col) if inside else None

    def centers_um(self, index: NDArray[np.integer]) -> NDArray[np.float64]:
        """Return the centres (N, 2) in um of the cells `index` (N, 2) = (row, col)."""
        cell, origin = np.asarray(self.cell_um), np.asarray(self.origin_um)
        centers: NDArray[np.float64] = origin + (np.asarray(index) + 0.5) * cell
        return centers

    def layer_kwargs(self, mpp: YX) -> dict[str, Any]:
        """Return napari's scale, translate and units for this raster.

        napari places the *centre* of the first cell at `translate` and its own
        origin at the centre of level-0 pixel (0, 0), whose size is `mpp` (um/px):
        translate = origin + (cell - mpp) / 2.
        """
        cell, origin = np.asarray(self.cell_um), np.asarray(self.origin_um)
        return {
            "scale": tuple(map(float, cell)),
            "translate": tuple(map(float, origin + (cell - np.asarray(mpp)) / 2)),
            "units": ("um", "um"),
        }


def world_to_um(position: tuple[float, ...], mpp: YX) -> YX:
    """Convert a napari world position (..., y, x) to slide um (y, x)."""
    return position[-2] + mpp[0] / 2, position[-1] + mpp[1] / 2
