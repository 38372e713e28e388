"""The levels of a slide as Dask arrays of true pixels, for computing.

A task carries the file's path, not an open file, so the arrays can be pickled and
computed on threads, processes or the workers of `dask.distributed`. Virtual levels,
exact means of stored ones, keep neighbours at most 2x apart and the coarsest small;
nothing of them is computed or kept before a task asks for it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_gimp.geometry import Grid
from napari_gimp.slide.averages import block_means
from napari_gimp.slide.ladder import Rung, ladder, shape_at
from napari_gimp.slide.resolution import trusted_mpp
from napari_gimp.slide.shelf import Volume, shelf
from napari_gimp.slide.source import Level, Pixels, Resolution, SlideSource

if TYPE_CHECKING:
    import dask.array as da

CHUNK_PX = 1024
"""Side a chunk comes near to: a few native tiles, 3 MB of RGB."""
CHUNK_BYTES = 1 << 24
"""Many channels or wide numbers make chunks smaller, down to one tile."""
STORED_PX = 4096
"""Side, in stored pixels, of what one chunk of a virtual level is the mean of."""
BLOCK_PX = 2048
"""Side of the pieces, in stored pixels, in which that is read: bounds the memory."""


@dataclass(frozen=True, slots=True)
class LevelArray:
    """One level as Dask wants it: shape, dtype and indexing; picklable.

    Parameters
    ----------
    volume
        The file, and how it is opened.
    rung
        The level.
    shape
        Rows, columns, channels.
    dtype
        Kind of the pixels.
    """

    volume: Volume
    rung: Rung
    shape: tuple[int, int, int]
    dtype: np.dtype[np.generic]

    @property
    def ndim(self) -> int:
        """Rows, columns, channels: 3."""
        return 3

    def __getitem__(self, key: Any) -> Pixels:
        parts = key if isinstance(key, tuple) else (key,)
        parts = (*parts, *[slice(None)] * (3 - len(parts)))
        (y0, y1, rows), (x0, x1, cols) = map(_needed, parts[:2], self.shape[:2])
        pixels = self._pixels(y0, x0, y1, x1)
        # one axis after the other, as Dask means it: numpy would pair two lists
        pixels = pixels[:, :, parts[2]][:, cols]
        return np.asarray(pixels[rows])

    def _pixels(self, y0: int, x0: int, y1: int, x1: int) -> Pixels:
        with shelf().borrow(self.volume) as source:
            if self.rung.step == 1:
                return source.read_region(self.rung.stored, y0, x0, y1 - y0, x1 - x0)
            return self._means(source, y0, x0, y1, x1)

    def _means(self, source: SlideSource, y0: int, x0: int, y1: int, x1: int) -> Pixels:
        """Return the means of stored pixels, a block at a time."""
        out = np.empty((y1 - y0, x1 - x0, self.shape[2]), self.dtype)
        step, side = self.rung.step, max(1, BLOCK_PX // self.rung.step)
        height, width = source.levels[self.rung.stored].shape
        for top, bottom in _pieces(y0, y1, side):
            for left, right in _pieces(x0, x1, side):
                y, x = top * step, left * step
                stored = source.read_region(
                    self.rung.stored,
                    y,
                    x,
                    min(bottom * step, height) - y,
                    min(right * step, width) - x,
                )
                box = np.s_[top - y0 : bottom - y0, left - x0 : right - x0]
                out[box] = block_means(stored, step)
        return out


@dataclass(frozen=True)
class Pyramid:
    """A slide's levels as Dask arrays, and where their pixels lie; picklable.

    All stored levels are there, and virtual ones between and beyond them: neighbours
    are at most 2x apart and the longest side of the coarsest is at most 1024 px. A
    pixel of a virtual level is the mean of the stored pixels under it, at the lower
    and right edge of those that there are.

    Parameters
    ----------
    source
        The slide; only its path, um/px and whether it converts to sRGB are kept, so
        it may be closed afterwards.

    Attributes
    ----------
    specs
        Shape, chunk and exact factor of each level, finest first.
    levels
        Dask arrays (h, w, C).
    """

    path: Path
    resolution: Resolution
    specs: tuple[Level, ...]
    levels: tuple[da.Array, ...]

    def __init__(self, source: SlideSource) -> None:
        volume = Volume(source.path.absolute(), source.srgb)
        rungs = ladder(source.levels)
        specs = tuple(_spec(source, rung) for rung in rungs)
        arrays = (
            LevelArray(volume, rung, (*spec.shape, source.channels), source.dtype)
            for rung, spec in zip(rungs, specs, strict=True)
        )
        levels = tuple(
            _dask_array(array, spec, source.fingerprint)
            for array, spec in zip(arrays, specs, strict=True)
        )
        object.__setattr__(self, "path", volume.path)
        object.__setattr__(self, "resolution", source.resolution)
        object.__setattr__(self, "specs", specs)
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


def _spec(source: SlideSource, rung: Rung) -> Level:
    """Return a level's shape, chunk and factor."""
    pixel_bytes = source.channels * source.dtype.itemsize
    longest = min(CHUNK_PX, math.isqrt(CHUNK_BYTES // pixel_bytes))
    tile = source.levels[rung.stored].tile
    chunk = _chunk(tile[0], rung.step, longest), _chunk(tile[1], rung.step, longest)
    return Level(shape_at(source.levels, rung), chunk, rung.factor)


def _chunk(tile: int, step: int, longest: int) -> int:
    """Return the side of a chunk, px: whole stored tiles make it where that is so."""
    unit = math.lcm(tile, step) // step
    limit = longest if step == 1 else min(longest, max(1, STORED_PX // step))
    if unit > limit:
        return unit if step == 1 else limit
    return limit // unit * unit


def _dask_array(array: LevelArray, spec: Level, fingerprint: str) -> da.Array:
    import dask.array as da

    return da.from_array(
        array,
        chunks=(*spec.tile, -1),
        name=f"slide-{fingerprint}-{array.rung.stored}-{array.rung.step}",
        lock=False,
        inline_array=True,
        meta=np.empty((0, 0, 0), array.dtype),
    )


def _pieces(start: int, stop: int, side: int) -> Iterator[tuple[int, int]]:
    """Yield (start, stop) of the pieces that a stretch is cut into."""
    return pairwise([*range(start, stop, side), stop])


def _needed(part: Any, length: int) -> tuple[int, int, Any]:
    """Return the stretch of an axis that an index needs, and the index within it."""
    if not isinstance(part, slice):
        index = np.asarray(part)
        if index.dtype == bool:
            index = np.flatnonzero(index)
        index = np.where(index < 0, index + length, index)
        if index.size == 0:
            return 0, 0, index.astype(np.int64)
        return int(index.min()), int(index.max()) + 1, index - index.min()
    span = range(*part.indices(length))
    if not span:
        return 0, 0, slice(None)
    if span.step > 0:
        return span[0], span[-1] + 1, slice(None, None, span.step)
    return span[-1], span[0] + 1, slice(None, None, span.step)
