"""What all readers share: regions put together from cached native tiles."""

from __future__ import annotations

import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Self

import numpy as np

from napari_gimp.errors import SlideError, TileError
from napari_gimp.geometry import YX
from napari_gimp.slide.damage import Damage
from napari_gimp.slide.icc import to_srgb
from napari_gimp.slide.resolution import trusted_mpp
from napari_gimp.slide.source import Level, Pixels, Resolution
from napari_gimp.slide.tiles import tile_cache

_OPEN: weakref.WeakSet[TiledSource] = weakref.WeakSet()
_OPEN_LOCK = threading.Lock()


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
    rgb: bool = True
    channel_names: tuple[str, ...] = ()
    channel_colors: tuple[str, ...] = ()
    icc: bytes | None = None


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in pixels of a level, from (y0, x0) up to, not with, (y1, x1)."""

    y0: int
    x0: int
    y1: int
    x1: int

    def covers(self, other: Box) -> bool:
        """Whether the other lies wholly inside."""
        return (
            self.y0 <= other.y0
            and self.x0 <= other.x0
            and self.y1 >= other.y1
            and self.x1 >= other.x1
        )


class TiledSource(ABC):
    """A `SlideSource` made of tiles; a reader adds how one tile is decoded.

    Tiles of which a region needs a part are kept in this process's `TileCache` for
    the neighbouring regions. `decode_tile` must be safe to call from several threads.
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
        self.rgb = facts.rgb
        self.channel_names = facts.channel_names
        self.channel_colors = facts.channel_colors
        self.icc = facts.icc
        self.srgb = False
        self.refused: tuple[str, ...] = ()
        self.damage = Damage(facts.path.name)
        self.fingerprint = facts.fingerprint
        self._convert: Callable[[Pixels], Pixels] | None = None
        self._closed = False
        self._was_there = facts.path.exists()
        with _OPEN_LOCK:
            _OPEN.add(self)

    @property
    def mpp(self) -> YX:
        """Um per level-0 pixel (y, x); raises ResolutionError where unknown."""
        return trusted_mpp(self.resolution, self.path.name)

    @property
    def fill(self) -> int:
        """The value outside the slide: white (255 or 65535) for colour, else 0."""
        return int(np.iinfo(self.dtype.str).max) if self.rgb else 0

    @abstractmethod
    def decode_tile(self, level: int, row: int, col: int) -> Pixels:
        """Return one native tile (h, w, C), cut off at the edge of the level.

        Raises
        ------
        TileError
            If the bytes are there but cannot be decoded; what else a codec raises
            counts as this.
        OSError
            If the file can no longer be read; it may be the cause of a TileError.
        """

    @abstractmethod
    def read_associated(self, name: str) -> Pixels:
        """Return an associated image (height, width, channels)."""

    def tile(self, level: int, row: int, col: int) -> Pixels:
        """Return one native tile (h, w, C), read-only, from the cache or decoded.

        Raises
        ------
        SlideError
            If the slide is closed or its file can no longer be read.
        """
        self._check_open()
        return tile_cache().fetch(
            self._key(level, row, col), partial(self._whole_tile, level, row, col)
        )

    def use_srgb(self) -> None:
        """Convert pixels from the file's colour profile to sRGB from now on.

        To be called before the first read. Without a profile nothing changes.

        Raises
        ------
        SlideError
            If the profile cannot be used.
        """
        if self.icc is None or not self.rgb:
            return
        self._convert = to_srgb(self.icc, self.path.name)
        self.srgb = True
        self.fingerprint = f"{self.fingerprint}-srgb"

    def _whole_tile(self, level: int, row: int, col: int) -> Pixels:
        """Return a tile as decoded and converted, `fill` where it is damaged."""
        place = level, row, col
        if place not in self.damage:
            try:
                tile = self._checked(place, self.decode_tile(*place))
            except Exception as error:  # each codec raises its own kind
                self._note(place, error)
            else:
                return tile if self._convert is None else self._convert(tile)
        return np.full(self._tile_shape(*place), self.fill, self.dtype)

    def _checked(self, place: tuple[int, int, int], tile: Pixels) -> Pixels:
        """Return the tile; TileError if a damaged header made another of it."""
        expected = self._tile_shape(*place)
        if tile.shape != expected or tile.dtype != self.dtype:
            raise self._damaged(
                *place,
                f"it holds {tile.shape} of {tile.dtype}, not {expected} of "
                f"{self.dtype}",
            )
        return tile

    def _note(self, place: tuple[int, int, int], error: Exception) -> None:
        """Note a tile as damaged; raise SlideError where something else is amiss.

        Of errors of the operating system only those with a number are its own:
        codecs raise OSError too. Some libraries do not pass these errors on, so that
        the file itself is asked.
        """
        self._check_open()
        reason = error.__cause__ if isinstance(error, TileError) else error
        if not (isinstance(reason, OSError) and reason.errno is not None):
            reason = self._file_error() or reason
        if isinstance(reason, OSError) and reason.errno is not None:
            raise lost(self.path, reason) from error
        if isinstance(reason, MemoryError):
            raise SlideError(
                f"There is not enough memory for one tile of {self.path.name}: close "
                "other slides or programs, then try again."
            ) from error
        if not isinstance(error, SlideError):
            error = self._damaged(*place, error)
        if not isinstance(error, TileError):
            raise error
        self.damage.note(place, str(error))

    def _file_error(self) -> OSError | None:
        """Return why the file cannot be read any more, None if it can."""
        try:
            if self.path.is_file():
                with self.path.open("rb") as file:
                    file.read(1)
            elif self._was_there:
                self.path.stat()
        except OSError as error:
            return error
        return None

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
            If there is no such level, a side is negative, the slide is closed or its
            file can no longer be read.
        """
        spec = self._level(level)
        if height < 0 or width < 0:
            raise SlideError(
                f"A region of {height} x {width} px cannot be read: sides must be >= 0."
            )
        whole = _only_tile(spec, y, x, height, width)
        if whole is not None:
            return self._own_tile(level, *whole)
        region = Box(y, x, y + height, x + width)
        out = self._blank(spec, region)
        for row, col in _tiles_under(spec, region):
            box = _box(spec, row, col)
            if region.covers(box):
                tile = self._passing_tile(level, row, col)
            else:
                tile = self.tile(level, row, col)
            _paste(out, tile, box, region)
        return out

    def close(self) -> None:
        """Release file handles and cached tiles; reading then raises SlideError.

        Where the slide is open a second time, that one keeps the tiles.
        """
        self._closed = True
        with _OPEN_LOCK:
            _OPEN.discard(self)
            last = all(other._token != self._token for other in _OPEN)
        if last:
            tile_cache().drop(self._token)

    def __reduce__(self) -> tuple[Callable[..., TiledSource], tuple[object, ...]]:
        return _reopened, (type(self), self.path, self.resolution, self.srgb)

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

    def _passing_tile(self, level: int, row: int, col: int) -> Pixels:
        """Return a tile that is read whole, without keeping it.

        Its neighbours' readers will not want it again, and memory that is kept must
        be taken anew for every tile, which costs a third of a decode.
        """
        kept = tile_cache().settled(self._key(level, row, col))
        return self._whole_tile(level, row, col) if kept is None else kept

    def _own_tile(self, level: int, row: int, col: int) -> Pixels:
        """Return a tile that the caller may write to."""
        tile = self._passing_tile(level, row, col)
        return tile if tile.flags.writeable else tile.copy()

    def _tile_shape(self, level: int, row: int, col: int) -> tuple[int, int, int]:
        spec = self.levels[level]
        return (
            min(spec.tile[0], spec.shape[0] - row * spec.tile[0]),
            min(spec.tile[1], spec.shape[1] - col * spec.tile[1]),
            self.channels,
        )

    def _blank(self, spec: Level, region: Box) -> Pixels:
        """Return the array for a region: white where it reaches over the edge."""
        height, width = region.y1 - region.y0, region.x1 - region.x0
        shape = (height, width, self.channels)
        if Box(0, 0, *spec.shape).covers(region):
            return np.empty(shape, self.dtype)
        return np.full(shape, self.fill, self.dtype)

    def _damaged(self, level: int, row: int, col: int, why: object) -> TileError:
        return TileError(
            f"{self.path.name} is damaged: tile row {row}, column {col} of level "
            f"{level} cannot be decoded ({why}); copy the file again from its source."
        )


def lost(path: Path, error: OSError) -> SlideError:
    """Return the error for a slide whose file cannot be read any more."""
    return SlideError(
        f"{path.name} can no longer be read ({error.strerror}): check that its drive "
        "or network share is connected, then open it again."
    )


def _reopened(
    reader: Callable[[Path], TiledSource],
    path: Path,
    resolution: Resolution,
    srgb: bool,
) -> TiledSource:
    """Return a pickled slide, opened again by its path."""
    try:
        source = reader(path)
    except OSError as error:
        raise lost(path, error) from error
    source.resolution = resolution
    if srgb:
        source.use_srgb()
    return source


def _only_tile(
    spec: Level, y: int, x: int, height: int, width: int
) -> tuple[int, int] | None:
    """Return (row, col) of the tile that a region is, None if it is not one whole."""
    (row, top), (col, left) = divmod(y, spec.tile[0]), divmod(x, spec.tile[1])
    if top or left or not (0 <= y < spec.shape[0] and 0 <= x < spec.shape[1]):
        return None
    sides = min(spec.tile[0], spec.shape[0] - y), min(spec.tile[1], spec.shape[1] - x)
    return (row, col) if sides == (height, width) else None


def _box(spec: Level, row: int, col: int) -> Box:
    """Return where a tile lies, cut off at the edge of its level."""
    y, x = row * spec.tile[0], col * spec.tile[1]
    return Box(
        y,
        x,
        min(y + spec.tile[0], spec.shape[0]),
        min(x + spec.tile[1], spec.shape[1]),
    )


def _tiles_under(spec: Level, region: Box) -> Iterator[tuple[int, int]]:
    """Yield (row, col) of the tiles that a region of a level touches."""
    y0, x0 = max(region.y0, 0), max(region.x0, 0)
    y1, x1 = min(region.y1, spec.shape[0]), min(region.x1, spec.shape[1])
    if y0 >= y1 or x0 >= x1:  # else the last tile, when just below the edge
        return
    for row in range(y0 // spec.tile[0], -(-y1 // spec.tile[0])):
        for col in range(x0 // spec.tile[1], -(-x1 // spec.tile[1])):
            yield row, col


def _paste(out: Pixels, tile: Pixels, box: Box, region: Box) -> None:
    """Copy the part of a tile that lies in the region into the region's array."""
    y0, x0 = max(box.y0, region.y0), max(box.x0, region.x0)
    y1, x1 = min(box.y1, region.y1), min(box.x1, region.x1)
    part = tile[y0 - box.y0 : y1 - box.y0, x0 - box.x0 : x1 - box.x0]
    out[y0 - region.y0 : y1 - region.y0, x0 - region.x0 : x1 - region.x0] = part
