"""What all readers share: regions put together from cached native tiles."""

from __future__ import annotations

import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Self

import numpy as np

from napari_gimp.errors import SlideError, TileError
from napari_gimp.geometry import YX
from napari_gimp.slide.boxes import Box, only_tile, paste, tile_box, tiles_under
from napari_gimp.slide.damage import Damage
from napari_gimp.slide.icc import to_srgb
from napari_gimp.slide.resolution import trusted_mpp
from napari_gimp.slide.source import Level, Pixels, Resolution
from napari_gimp.slide.tiles import TileCache, tile_cache

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
    corner_px: tuple[int, int] = (0, 0)


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
        self.corner_px = facts.corner_px
        self.srgb = False
        self.refused: tuple[str, ...] = ()
        self.damage = Damage(facts.path.name)
        self.fingerprint = facts.fingerprint
        self._convert: Callable[[Pixels], Pixels] | None = None
        self._apart: TileCache | None = None
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

    def read_associated(self, name: str) -> Pixels:
        """Return an associated image (height, width, channels).

        Raises
        ------
        SlideError
            If the slide has no such image or it is damaged.
        """
        self._check_open()
        if name not in self.associated:
            raise SlideError(
                f"{self.path.name} has no image called {name!r}; it has "
                f"{', '.join(self.associated) or 'none'}."
            )
        return self.decode_associated(name)

    def decode_associated(self, name: str) -> Pixels:
        """Return an image that `associated` names; for readers that name any."""
        raise NotImplementedError

    def tile(self, level: int, row: int, col: int) -> Pixels:
        """Return one native tile (h, w, C), read-only, from the cache or decoded.

        Raises
        ------
        SlideError
            If the slide is closed or its file can no longer be read.
        """
        self._check_open()
        place = level, row, col
        decode = partial(self._decoded, *place)
        return self._mended(place, partial(self._fetch, self._key(*place), decode))

    @contextmanager
    def passing(self, budget_bytes: int) -> Iterator[None]:
        """Keep what is decoded meanwhile apart, and forget it at the end.

        For whoever goes through a slide once: what is on display stays in the cache.
        """
        self._apart = TileCache(budget_bytes)
        try:
            yield
        finally:
            self._apart = None

    def _fetch(self, key: tuple[object, ...], decode: Callable[[], Pixels]) -> Pixels:
        if (apart := self._apart) is None:
            return tile_cache().fetch(key, decode)
        kept = tile_cache().settled(key)
        return apart.fetch(key, decode) if kept is None else kept

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

    def _mended(
        self, place: tuple[int, int, int], decode: Callable[[], Pixels]
    ) -> Pixels:
        """Return a tile, `fill` where it is damaged.

        That is never cached: whoever opens the slide a second time shall learn of
        the damage too, also when another decodes for him.
        """
        if place not in self.damage:
            try:
                return decode()
            except TileError as error:
                self.damage.note(place, str(error))
        return self._filled(*place)

    def _filled(self, level: int, row: int, col: int) -> Pixels:
        """Return what a damaged tile reads as, read-only."""
        tile = np.full(self._tile_shape(level, row, col), self.fill, self.dtype)
        tile.flags.writeable = False
        return tile

    def _decoded(self, level: int, row: int, col: int) -> Pixels:
        """Return a tile as decoded and converted; TileError where it is damaged."""
        place = level, row, col
        try:
            tile = self._checked(place, self.decode_tile(*place))
        except Exception as error:  # each codec raises its own kind
            reason = self._judged(place, error)
            if isinstance(reason, TileError):
                self.damage.note(place, str(reason))
            if reason is error:
                raise
            raise reason from error
        return tile if self._convert is None else self._convert(tile)

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

    def _judged(self, place: tuple[int, int, int], error: Exception) -> SlideError:
        """Return TileError for a damaged tile, SlideError where all else is amiss.

        Of errors of the operating system only those with a number are its own:
        codecs raise OSError too. Some libraries do not pass these errors on, so that
        the file itself is asked.
        """
        self._check_open()
        reason = error.__cause__ if isinstance(error, TileError) else error
        if not (isinstance(reason, OSError) and reason.errno is not None):
            reason = self._file_error() or reason
        if isinstance(reason, OSError) and reason.errno is not None:
            return lost(self.path, reason)
        if isinstance(reason, MemoryError):
            return SlideError(
                f"There is not enough memory for one tile of {self.path.name}: close "
                "other slides or programs, then try again."
            )
        return error if isinstance(error, SlideError) else self._damaged(*place, error)

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
        """Return a tile if it is in the cache or damaged; never decodes."""
        kept = tile_cache().peek(self._key(level, row, col))
        if kept is None and (level, row, col) in self.damage:
            return self._filled(level, row, col)
        return kept

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
        whole = only_tile(spec, y, x, height, width)
        if whole is not None:
            return self._own_tile(level, *whole)
        region = Box(y, x, y + height, x + width)
        out = self._blank(spec, region)
        for row, col in tiles_under(spec, region):
            box = tile_box(spec, row, col)
            if region.covers(box):
                tile = self._passing_tile(level, row, col)
            else:
                tile = self.tile(level, row, col)
            paste(out, tile, box, region)
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
        path = self.path.absolute()
        return _reopened, (type(self), path, self.resolution, self.srgb)

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
        place = level, row, col
        return self._mended(place, partial(self._kept_or_decoded, *place))

    def _kept_or_decoded(self, level: int, row: int, col: int) -> Pixels:
        kept = tile_cache().settled(self._key(level, row, col))
        return self._decoded(level, row, col) if kept is None else kept

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
