"""The stored levels as Dask arrays of true pixels, for computing.

A task carries the file's path, not an open file, so the arrays can be pickled and
computed on threads, processes or the workers of `dask.distributed`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_gimp.geometry import Grid
from napari_gimp.slide.resolution import trusted_mpp
from napari_gimp.slide.source import (
    Level,
    Pixels,
    Resolution,
    SlideSource,
    open_slide,
)

if TYPE_CHECKING:
    import dask.array as da

CHUNK_PX = 1024
"""Side a chunk comes near to: a few native tiles, 3 MB of RGB."""


@lru_cache(maxsize=16)
def reopened(path: Path, modified_ns: int) -> SlideSource:
    """Return a slide opened once per process and version of the file.

    It is not closed when it leaves this memory, since other threads may still read;
    the file handle goes with the last of them.
    """
    return open_slide(path)


@dataclass(frozen=True, slots=True)
class LevelArray:
    """One level as Dask wants it: shape, dtype and slicing; picklable.

    Parameters
    ----------
    path, number
        The file and the level in it.
    shape
        Rows, columns, channels.
    dtype
        Kind of the pixels.
    """

    path: Path
    number: int
    shape: tuple[int, int, int]
    dtype: np.dtype[np.generic]

    @property
    def ndim(self) -> int:
        """Rows, columns, channels: 3."""
        return 3

    def __getitem__(self, key: tuple[slice, slice, slice]) -> Pixels:
        y0, y1, y_step = key[0].indices(self.shape[0])
        x0, x1, x_step = key[1].indices(self.shape[1])
        source = reopened(self.path, self.path.stat().st_mtime_ns)
        pixels = source.read_region(self.number, y0, x0, y1 - y0, x1 - x0)
        return pixels[::y_step, ::x_step, key[2]]


@dataclass(frozen=True)
class Pyramid:
    """A slide's levels as Dask arrays, and where their pixels lie; picklable.

    Parameters
    ----------
    source
        The slide; only its path is kept, so it may be closed afterwards.
    """

    path: Path
    resolution: Resolution
    specs: tuple[Level, ...]
    levels: tuple[da.Array, ...]

    def __init__(self, source: SlideSource) -> None:
        path = source.path.absolute()
        arrays = [
            LevelArray(path, number, (*level.shape, source.channels), source.dtype)
            for number, level in enumerate(source.levels)
        ]
        levels = tuple(
            _dask_array(array, level, source.fingerprint)
            for array, level in zip(arrays, source.levels, strict=True)
        )
        object.__setattr__(self, "path", path)
        object.__setattr__(self, "resolution", source.resolution)
        object.__setattr__(self, "specs", source.levels)
        object.__setattr__(self, "levels", levels)

    @property
    def grids(self) -> tuple[Grid, ...]:
        """The place of each level, um.

        Raises
        ------
        ResolutionError
            If the slide's um/px is unknown.
        """
        my, mx = trusted_mpp(self.resolution, self.path.name)
        return tuple(
            Grid(spec.shape, (my * spec.downsample[0], mx * spec.downsample[1]))
            for spec in self.specs
        )


def _dask_array(array: LevelArray, level: Level, fingerprint: str) -> da.Array:
    import dask.array as da

    sides = tuple(side * max(1, CHUNK_PX // side) for side in level.tile)
    return da.from_array(
        array,
        chunks=(*sides, -1),
        name=f"slide-{fingerprint}-{array.number}",
        lock=False,
        inline_array=True,
        meta=np.empty((0, 0, 0), array.dtype),
    )
