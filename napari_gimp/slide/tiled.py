"""What all readers share: regions put together from cached native tiles."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np

from napari_gimp.errors import SlideError
from napari_gimp.geometry import YX
from napari_gimp.slide.resolution import trusted_mpp
from napari_gimp.slide.source import Level, Pixels, Resolution
from napari_gimp.slide.tiles import tile_cache


@dataclass(frozen=True, slots=True)
class SlideFacts:
    """What a reader learns when it opens a slide; fields as in `SlideSource`."""

    path: Path
    reader: str
    levels: tuple[Level, ...]
    resolution: Resolution
    fingerprint: str
    channels: int = 3
    dtype: np.dtype[np.generic] = field(default_factory=lambda: np.dtype(np.uint8))
    properties: Mapping[str, str] = field(default_factory=dict)
    associated: tuple[str, ...] = ()


class TiledSource(ABC):
    """A `SlideSource` made of tiles; a reader adds how one tile is decoded.

    Tiles pass through this process's `TileCache`. `decode_tile` must be safe to
    call from several threads at once.
    """

    thread_safe = True

    def __init__(self, facts: SlideFacts) -> None:
        self.path = facts.path
        self.reader = facts.reader
        self.levels = facts.levels
        self.channels = facts.channels
        self.dtype = facts.dtype
        self.resolution = facts.resolution
        self.properties = facts.properties
        self.associated = facts.associated
        self.fingerprint = facts.fingerprint
        self._closed = False

    @property
    def mpp(self) -> YX:
        """Um per level-0 pixel (y, x); raises ResolutionError where unknown."""
        return trusted_mpp(self.resolution, self.path.name)

    @property
    def fill(self) -> int:
        """The value outside the slide: white for RGB in 8 bits, else 0."""
        return 255 if self.channels == 3 and self.dtype == np.uint8 else 0

    @abstractmethod
    def decode_tile(self, level: int, row: int, col: int) -> Pixels:
        """Return one native tile (h, w, C), cut off at the edge of the level."""

    @abstractmethod
    def read_associated(self, name: str) -> Pixels:
        """Return an associated image (height, width, channels)."""

    def tile(self, level: int, row: int, col: int) -> Pixels:
        """Return one native tile (h, w, C), read-only, from the cache or decoded.

        Raises
        ------
        SlideError
            If the slide is closed or the tile is damaged.
        """
        self._check_open()
        return tile_cache().fetch(
            self._key(level, row, col), lambda: self.decode_tile(level, row, col)
        )

    def cached_tile(self, level: int, row: int, col: int) -> Pixels | None:
        """Return a tile if it is in the cache; never decodes."""
        return tile_cache().peek(self._key(level, row, col))

    def read_region(
        self, level: int, y: int, x: int, height: int, width: int
    ) -> Pixels:
        """Return pixels (height, width, channels); see `SlideSource`.

        Raises
        ------
        SlideError
            If there is no such level, a side is negative, the slide is closed or a
            tile is damaged.
        """
        spec = self._level(level)
        if height < 0 or width < 0:
            raise SlideError(
                f"A region of {height} x {width} px cannot be read: sides must be >= 0."
            )
        out = self._blank(spec, y, x, height, width)
        for row, col in _tiles_under(spec, y, x, height, width):
            self._paste(out, self.tile(level, row, col), spec, row, col, y, x)
        return out

    def close(self) -> None:
        """Release file handles and cached tiles; reading then raises SlideError."""
        self._closed = True
        tile_cache().drop(self._token)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def _token(self) -> tuple[str, str]:
        """Name the pixels: a slide opened twice shares its tiles."""
        return self.fingerprint, self.reader

    def _key(self, level: int, row: int, col: int) -> tuple[object, ...]:
        return self._token, level, row, col

    def _check_open(self) -> None:
        if self._closed:
            raise SlideError(f"{self.path.name} is closed: open it again to read.")

    def _level(self, level: int) -> Level:
        self._check_open()
        if not 0 <= level < len(self.levels):
            raise SlideError(
                f"{self.path.name} has levels 0 to {len(self.levels) - 1}, not {level}."
            )
        return self.levels[level]

    def _blank(self, spec: Level, y: int, x: int, height: int, width: int) -> Pixels:
        rows, cols = spec.shape
        inside = y >= 0 and x >= 0 and y + height <= rows and x + width <= cols
        shape = (height, width, self.channels)
        if inside:
            return np.empty(shape, self.dtype)
        return np.full(shape, self.fill, self.dtype)

    @staticmethod
    def _paste(
        out: Pixels, tile: Pixels, spec: Level, row: int, col: int, y: int, x: int
    ) -> None:
        """Copy the part of tile (row, col) that lies in the region from (y, x)."""
        top, left = row * spec.tile[0] - y, col * spec.tile[1] - x
        y0, x0 = max(top, 0), max(left, 0)
        y1 = min(top + tile.shape[0], out.shape[0])
        x1 = min(left + tile.shape[1], out.shape[1])
        out[y0:y1, x0:x1] = tile[y0 - top : y1 - top, x0 - left : x1 - left]

    def _damaged(self, level: int, row: int, col: int, why: object) -> SlideError:
        return SlideError(
            f"{self.path.name} is damaged: tile row {row}, column {col} of level "
            f"{level} cannot be decoded ({why}); copy the file again from its source."
        )


def _tiles_under(
    spec: Level, y: int, x: int, height: int, width: int
) -> Iterator[tuple[int, int]]:
    """Yield (row, col) of the tiles that a region of a level touches."""
    y1, x1 = min(y + height, spec.shape[0]), min(x + width, spec.shape[1])
    for row in range(max(y, 0) // spec.tile[0], -(-y1 // spec.tile[0])):
        for col in range(max(x, 0) // spec.tile[1], -(-x1 // spec.tile[1])):
            yield row, col
