"""Write a map over a whole slide as chunked, multiscale OME-Zarr while it comes.

Rows come from above to below, each once; every level is written in whole rows of
chunks, so nothing is read back and memory holds some rows of chunks, never the map.
What is there can be opened at any time; what is not there yet reads as 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_gimp.errors import SlideError
from napari_gimp.geometry import YX, Grid
from napari_gimp.slide.averages import block_means
from napari_gimp.slide.ladder import COARSEST_PX

CHUNK_PX = 512
"""Side of a chunk: 1 MB of one channel."""

Rows = NDArray[np.float32]


class MapWriter:
    """One map under way: a group of levels, each half the one before.

    Parameters
    ----------
    path
        The folder to make; it must not exist.
    grid
        Place of the finest level on the slide.
    channels
        What each channel shows; values are from 0 to 1.
    mpp
        um per level-0 pixel of the slide.

    Raises
    ------
    FileExistsError
        If the folder is there.
    """

    def __init__(
        self, path: Path, grid: Grid, channels: Sequence[str], mpp: YX
    ) -> None:
        import zarr

        self.path, self.grid, self.channels = path, grid, tuple(channels)
        group = zarr.open_group(path, mode="w-", zarr_format=3)
        grids = _pyramid(grid)
        self._levels = [
            _Level(_array(group, str(number), len(self.channels), level))
            for number, level in enumerate(grids)
        ]
        group.attrs["ome"] = _metadata(grids, self.channels, mpp)

    def write(self, top: int, values: Rows) -> None:
        """Write finished rows and what they complete in the coarser levels.

        Parameters
        ----------
        top
            Index of the first row: the row after the last one written.
        values
            (K,n,W) float32; n is a multiple of `CHUNK_PX`, but at the lower end.

        Raises
        ------
        SlideError
            If the rows do not follow, or have another width or number of channels.
        """
        self._check(top, values)
        for level in self._levels:
            whole = level.add(values)
            if whole is None:
                return
            values = _halved(whole)

    def _check(self, top: int, values: Rows) -> None:
        expected = self._levels[0].top
        fits = values.shape[::2] == (len(self.channels), self.grid.shape[1])
        if top != expected or not fits:
            raise SlideError(
                f"Rows {values.shape} at {top} do not follow in the map "
                f"{self.path.name}: it goes on at row {expected} with "
                f"({len(self.channels)}, n, {self.grid.shape[1]}); give bands in order."
            )


class _Level:
    """A level while it is written, with the rows that fill no row of chunks yet."""

    def __init__(self, array: Any) -> None:
        self._array = array
        self._held: list[Rows] = []
        self.top = 0

    def add(self, rows: Rows) -> Rows | None:
        """Take rows; write and return those that fill rows of chunks, or the last."""
        self._held.append(rows)
        count, height = sum(r.shape[1] for r in self._held), self._array.shape[1]
        end = self.top + count == height
        ready = count if end else count // CHUNK_PX * CHUNK_PX
        if not ready:
            return None
        one = len(self._held) == 1
        together = self._held[0] if one else np.concatenate(self._held, axis=1)
        whole, rest = together[:, :ready], together[:, ready:]
        if whole.any():  # chunks of zeros are not written, as zarr's fill value
            self._array[:, self.top : self.top + ready] = whole
        self.top += ready
        self._held = [rest] if rest.shape[1] else []
        return whole


def _pyramid(grid: Grid) -> list[Grid]:
    """Return the places of the levels, down to one that a screen holds."""
    grids = [grid]
    while max(grids[-1].shape) > COARSEST_PX:
        (rows, cols), (dy, dx) = grids[-1].shape, grids[-1].cell_um
        half = ceil(rows / 2), ceil(cols / 2)
        grids.append(Grid(half, (2 * dy, 2 * dx), grid.origin_um))
    return grids


def _array(group: Any, name: str, channels: int, grid: Grid) -> Any:
    return group.create_array(
        name,
        shape=(channels, *grid.shape),
        dtype="float32",
        chunks=(1, *(min(CHUNK_PX, side) for side in grid.shape)),
        fill_value=0.0,
        dimension_names=("c", "y", "x"),
    )


def _halved(rows: Rows) -> Rows:
    """Return the means (K,ceil(n/2),ceil(W/2)) of squares of 2 x 2 cells."""
    means = block_means(rows.transpose(1, 2, 0), 2)
    return np.ascontiguousarray(means.transpose(2, 0, 1))


def _metadata(grids: list[Grid], channels: Sequence[str], mpp: YX) -> dict[str, Any]:
    """Return the ``ome`` block; NGFF names pixel centres, as napari does."""
    space = [{"name": n, "type": "space", "unit": "micrometer"} for n in "yx"]
    datasets = [
        {"path": str(number), "coordinateTransformations": _moves(grid, mpp)}
        for number, grid in enumerate(grids)
    ]
    scale = {
        "name": "probability",
        "axes": [{"name": "c", "type": "channel"}, *space],
        "datasets": datasets,
    }
    shown = [_shown(name) for name in channels]
    return {"version": "0.5", "multiscales": [scale], "omero": {"channels": shown}}


def _moves(grid: Grid, mpp: YX) -> list[dict[str, Any]]:
    place = grid.layer_kwargs(mpp)
    return [
        {"type": "scale", "scale": [1.0, *place["scale"]]},
        {"type": "translation", "translation": [0.0, *place["translate"]]},
    ]


def _shown(name: str) -> dict[str, Any]:
    window = {"min": 0.0, "max": 1.0, "start": 0.0, "end": 1.0}
    return {"label": name, "color": "FFFFFF", "active": True, "window": window}
