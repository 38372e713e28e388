"""Progressive display levels: what is there at once, the rest as it arrives.

napari slices on the main thread. A level therefore never decodes there: it pastes
the tiles that are in the cache, fills gaps from coarser tiles, asks the decode pool
for the rest, and `updated` tells when to slice again.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from psygnal import Signal

from napari_gimp.errors import SlideError
from napari_gimp.slide.display import display_levels
from napari_gimp.slide.source import Pixels, SlideSource
from napari_gimp.slide.tiles import decode_pool, tile_cache
from napari_gimp.slide.view_level import ViewLevel

REFRESH_S = 0.04
"""Tiles that arrive within this time are shown by one refresh."""
FIRST_PAINT_S = 0.3
"""Longest wait for the coarsest level when a slide is opened."""
Place = tuple[int, int, int]
"""Level, row and column of a tile."""
Rectangle = tuple[int, int, int, int]
"""y0, x0, y1, x1 in pixels of a level."""

_log = logging.getLogger(__name__)


class SlideView:
    """A slide's levels for a viewer, and a signal when they got better.

    Parameters
    ----------
    source
        The slide, uint8 RGB or with one channel. The view does not close it.

    Raises
    ------
    SlideError
        If the pixels are neither colour nor grey.
    """

    updated: ClassVar[Signal] = Signal()
    """Emitted, from a background thread, some 40 ms after new tiles arrived."""

    def __init__(self, source: SlideSource) -> None:
        _check_displayable(source)
        self.source = source
        self.plan = display_levels(source.levels)
        self.levels = [self._level(number) for number in range(len(self.plan))]
        self.damaged: set[Place] = set()
        self._token = (source.fingerprint, source.reader, "view", id(self))
        self._lock = threading.Lock()
        self._due = False
        self._closed = threading.Event()
        self._coarsest: dict[tuple[int, int], Pixels] = {}
        self._complete = threading.Event()
        self._queue(list(self._tiles(len(self.plan) - 1)))
        self._complete.wait(FIRST_PAINT_S)

    def _level(self, number: int) -> ViewLevel:
        return ViewLevel(
            shape=(*self.plan[number].shape, self.source.channels),
            dtype=self.source.dtype,
            paint=partial(self.paint, number),
            exact=partial(self.exact, number),
        )

    def paint(self, number: int, y: int, x: int, height: int, width: int) -> Pixels:
        """Return a region (h, w, C) of a level as good as it is now; never decodes.

        Missing tiles are up-sampled from the finest coarser level that has the
        place, and queued for decoding, those in the middle first.
        """
        out = self._blank(height, width)
        missing = []
        for place in self._tiles(number, y, x, y + height, x + width):
            tile = self._peek(place)
            if tile is None:
                missing.append(place)
                tile = self._upsampled(place)
            _paste(out, tile, self._corner(place, y, x))
        middle = y + height / 2, x + width / 2
        self._queue(sorted(missing, key=partial(self._distance, middle), reverse=True))
        return out

    def exact(self, number: int, y: int, x: int, height: int, width: int) -> Pixels:
        """Return a region (h, w, C) of a level in true pixels; decodes here.

        Raises
        ------
        SlideError
            If a tile of a stored level is damaged; virtual levels are white there.
        """
        return self._joined(number, (y, x, y + height, x + width), self._tile)

    def close(self) -> None:
        """Stop decoding for this view; its levels then show only what is cached."""
        self._closed.set()
        decode_pool().withdraw(self._token)
        tile_cache().drop(self._token)

    def _tiles(
        self, number: int, y0: int = 0, x0: int = 0, y1: int = -1, x1: int = -1
    ) -> Iterator[Place]:
        """Yield the tiles of a level that hold slide pixels under a region."""
        level = self.plan[number]
        bottom = level.inner[0] if y1 < 0 else min(y1, level.inner[0])
        right = level.inner[1] if x1 < 0 else min(x1, level.inner[1])
        for row in range(max(y0, 0) // level.tile[0], -(-bottom // level.tile[0])):
            for col in range(max(x0, 0) // level.tile[1], -(-right // level.tile[1])):
                yield number, row, col

    def _joined(
        self, number: int, box: Rectangle, tile_at: Callable[[Place], Pixels]
    ) -> Pixels:
        """Return a region (h, w, C) put together from tiles."""
        y0, x0, y1, x1 = box
        out = self._blank(y1 - y0, x1 - x0)
        for place in self._tiles(number, *box):
            _paste(out, tile_at(place), self._corner(place, y0, x0))
        return out

    def _tile(self, place: Place) -> Pixels:
        """Return a tile in true pixels, decoding it where it is not cached."""
        number, row, col = place
        stored = self.plan[number].stored
        if stored is not None:
            return self.source.tile(stored, row, col)
        key = (self._token, *place)
        return tile_cache().fetch(key, partial(self._halved, place))

    def _halved(self, place: Place) -> Pixels:
        """Return a tile of a virtual level: 2x2 means of the level before."""
        number, _, _ = place
        if self._closed.is_set():
            raise SlideError(f"The view of {self.source.path.name} is closed.")
        y0, x0, y1, x1 = self._box(place)
        finer = 2 * y0, 2 * x0, 2 * y1, 2 * x1
        return halve(self._joined(number - 1, finer, self._tile_or_white))

    def _tile_or_white(self, place: Place) -> Pixels:
        """Return a tile in true pixels, white (and noted down) where damaged."""
        try:
            return self._tile(place)
        except SlideError as error:
            if self._closed.is_set():
                raise
            self._note(place, error)
            y0, x0, y1, x1 = self._box(place)
            return self._blank(y1 - y0, x1 - x0)

    def _note(self, place: Place, error: SlideError) -> None:
        if place not in self.damaged:
            _log.warning("%s", error)
        self.damaged.add(place)

    def _box(self, place: Place) -> Rectangle:
        """Return y0, x0, y1, x1 of a tile in px of its level, cut at the slide."""
        number, row, col = place
        level = self.plan[number]
        y0, x0 = row * level.tile[0], col * level.tile[1]
        y1 = min(y0 + level.tile[0], level.inner[0])
        return y0, x0, y1, min(x0 + level.tile[1], level.inner[1])

    def _corner(self, place: Place, y: int, x: int) -> tuple[int, int]:
        y0, x0, _, _ = self._box(place)
        return y0 - y, x0 - x

    def _distance(self, middle: tuple[float, float], place: Place) -> float:
        y0, x0, y1, x1 = self._box(place)
        return float(np.hypot((y0 + y1) / 2 - middle[0], (x0 + x1) / 2 - middle[1]))

    def _blank(self, height: int, width: int) -> Pixels:
        shape = (height, width, self.source.channels)
        return np.full(shape, self.source.fill, self.source.dtype)

    def _peek(self, place: Place) -> Pixels | None:
        """Return a tile if it is decoded already."""
        number, row, col = place
        if number == len(self.plan) - 1:
            return self._coarsest.get((row, col))
        stored = self.plan[number].stored
        if stored is not None:
            return self.source.cached_tile(stored, row, col)
        return tile_cache().peek((self._token, *place))

    def _upsampled(self, place: Place) -> Pixels:
        """Return a stand-in for a tile from coarser tiles; white before there are."""
        y0, x0, y1, x1 = self._box(place)
        for coarser in range(place[0] + 1, len(self.plan)):
            ys = self._under(place[0], coarser, 0, y0, y1)
            xs = self._under(place[0], coarser, 1, x0, x1)
            found = self._if_cached(coarser, ys[0], xs[0], ys[-1] + 1, xs[-1] + 1)
            if found is not None:
                # columns first, while there are few rows: three times faster
                wide = found.take(xs - xs[0], axis=1)
                return np.asarray(wide.take(ys - ys[0], axis=0))
        return self._blank(y1 - y0, x1 - x0)

    def _under(
        self, number: int, coarser: int, axis: int, start: int, stop: int
    ) -> NDArray[np.int64]:
        """Return the coarser pixels under the centres of pixels start to stop."""
        ratio = self.plan[number].factor[axis] / self.plan[coarser].factor[axis]
        under = ((np.arange(start, stop) + 0.5) * ratio).astype(np.int64)
        return np.minimum(under, self.plan[coarser].inner[axis] - 1)

    def _if_cached(
        self, number: int, y0: int, x0: int, y1: int, x1: int
    ) -> Pixels | None:
        """Return a region if all its tiles are decoded."""
        places = list(self._tiles(number, y0, x0, y1, x1))
        tiles = [self._peek(place) for place in places]
        out = self._blank(y1 - y0, x1 - x0)
        for place, tile in zip(places, tiles, strict=True):
            if tile is None:
                return None
            _paste(out, tile, self._corner(place, y0, x0))
        return out

    def _queue(self, places: list[Place]) -> None:
        """Ask for tiles; the pool works from the last to the first."""
        if self._closed.is_set():
            return
        for place in places:
            if place not in self.damaged:
                key = (self._token, *place)
                decode_pool().submit(key, partial(self._work, place))

    def _work(self, place: Place) -> None:
        """Decode a tile on a thread of the pool."""
        if self._closed.is_set():
            return
        try:
            self._keep(place, self._tile(place))
        except SlideError as error:
            if self._closed.is_set():
                return
            self._note(place, error)
        self._announce()

    def _keep(self, place: Place, tile: Pixels) -> None:
        """Hold on to coarsest tiles: with them no place is ever blank."""
        if place[0] != len(self.plan) - 1:
            return
        self._coarsest[place[1:]] = tile
        if len(self._coarsest) == sum(1 for _ in self._tiles(place[0])):
            self._complete.set()

    def _announce(self) -> None:
        """Emit `updated` once for all tiles of the next moment."""
        with self._lock:
            if self._due:
                return
            self._due = True
        timer = threading.Timer(REFRESH_S, self._emit)
        timer.daemon = True
        timer.name = "gimp-decode-refresh"
        timer.start()

    def _emit(self) -> None:
        with self._lock:
            self._due = False
        if not self._closed.is_set():
            self.updated.emit()


def halve(pixels: Pixels) -> Pixels:
    """Return the 2x2 means (h/2, w/2, C) of pixels (h, w, C), rounded half up."""
    if pixels.dtype == np.uint8 and pixels.shape[2] == 3:
        from PIL import Image

        return np.array(Image.fromarray(pixels).reduce(2))  # seven times numpy's rate
    whole = pixels.dtype.kind == "u"
    wide: NDArray[Any] = pixels.astype(np.uint64 if whole else np.float64)
    rows = wide[0::2] + wide[1::2]
    total = rows[:, 0::2] + rows[:, 1::2]
    mean: NDArray[Any] = (total + 2) // 4 if whole else total / 4
    return mean.astype(pixels.dtype)


def _paste(out: Pixels, tile: Pixels, corner: tuple[int, int]) -> None:
    """Copy into `out` the part of a tile whose corner lies at `corner` that fits."""
    y, x = corner
    y0, x0 = max(y, 0), max(x, 0)
    y1, x1 = min(y + tile.shape[0], out.shape[0]), min(x + tile.shape[1], out.shape[1])
    out[y0:y1, x0:x1] = tile[y0 - y : y1 - y, x0 - x : x1 - x]


def _check_displayable(source: SlideSource) -> None:
    colour = source.channels == 3 and source.dtype == np.uint8
    if not colour and source.channels != 1:
        raise SlideError(
            f"{source.path.name} has {source.channels} channels of {source.dtype}; "
            "8-bit RGB and single-channel slides are shown: open its channels with "
            "another reader."
        )
