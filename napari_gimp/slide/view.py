"""Progressive display levels: what is there at once, the rest as it arrives.

napari slices on the main thread. A level therefore never decodes there: it pastes
the tiles that are in the cache, fills gaps from coarser tiles, asks the decode pool
for the rest, and `updated` tells when to slice again.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from functools import partial
from typing import ClassVar

import numpy as np
from psygnal import Signal

from napari_gimp.errors import SlideError
from napari_gimp.slide.decoding import decode_pool
from napari_gimp.slide.display import display_levels
from napari_gimp.slide.source import Pixels, SlideSource
from napari_gimp.slide.view_base import FIRST_PAINT_S, ViewBase, shown_colour
from napari_gimp.slide.view_channels import ChannelLook, channel_look
from napari_gimp.slide.view_hatch import Hatch
from napari_gimp.slide.view_level import ViewLevel
from napari_gimp.slide.view_requests import Requests
from napari_gimp.slide.view_stand_ins import StandIns
from napari_gimp.slide.view_tiles import Area, Place, ViewTiles, paste

GREY = 150
"""Lines over damaged tiles of a colour picture; in channels a third of the contrast."""

LONGEST_PAINT_S = 0.05
"""No tile is begun while a picture is put together, unless that takes longer: each
of its many small copies would have to win the interpreter back from the decoders."""

_log = logging.getLogger(__name__)


class SlideView:
    """A slide's levels for a viewer, and a signal when they got better.

    Parameters
    ----------
    source
        The slide. The view does not close it.
    """

    updated: ClassVar[Signal] = Signal()
    """Emitted, from a thread of the decode pool, when it is worth slicing again: for
    new tiles, for damaged ones (see `source.damage`), and for an `error`."""

    def __init__(self, source: SlideSource) -> None:
        self.source = source
        self.plan = display_levels(source.levels)
        self.error: SlideError | None = None
        """Why the file cannot be read any more; None while it can."""
        self.tiles = ViewTiles(source, self.plan)
        self.base = ViewBase(self.tiles, len(self.plan) - 1)
        self.requests = Requests(self.tiles.token, self._work)
        self._stand_ins = StandIns(self.tiles, self.base)
        self._hatch = Hatch(source, self.plan)
        self._inks: dict[int, float] = {}
        self._calm = threading.Event()
        self._calm.set()
        self._base_owner = (*self.tiles.token, "coarsest")
        base = list(self.tiles.under(self.base.number))
        decode_pool().request(self._base_owner, 0, base, self._work)
        self.base.complete.wait(FIRST_PAINT_S)

    @property
    def levels(self) -> list[ViewLevel]:
        """The levels of the colour picture, or of the first channel."""
        return self._levels(None if self.source.rgb else 0)

    def channel_levels(self, channel: int) -> list[ViewLevel]:
        """Return the levels of one channel, each (rows, cols).

        All channels share their tiles: one is decoded once for all of them.
        """
        return self._levels(channel)

    def channel_look(self, channel: int) -> ChannelLook:
        """Return how a channel is drawn at first, by its coarsest level."""
        rows, cols = self.plan[-1].inner
        pixels = self.base.shown(channel)[:rows, :cols]
        return channel_look(self.source, channel, pixels)

    def paint(
        self, number: int, channel: int | None, y: int, x: int, height: int, width: int
    ) -> Pixels:
        """Return an area of a level as good as it is now; never decodes.

        Missing tiles are up-sampled from the finest coarser level that has the
        place, and queued for decoding, those in the middle first. Safe to be called
        from any thread.

        Parameters
        ----------
        number
            The level.
        channel
            Which channel (h, w), or None for the colour picture (h, w, 3).
        y, x, height, width
            The area, px of the level.
        """
        area = Area(y, x, y + height, x + width)
        if number == self.base.number:
            out = self._painted_base(channel, area)
        else:
            out = self._painted(number, channel, area)
        if len(self.source.damage) and out.size:
            self._hatch.draw(out, number, area, self._ink(channel))
        return out

    def exact(self, number: int, y: int, x: int, height: int, width: int) -> Pixels:
        """Return an area (h, w, C) of a level in true pixels; decodes here.

        Damaged tiles are `source.fill`.

        Raises
        ------
        SlideError
            If the file cannot be read any more.
        """
        return self.tiles.exact(number, Area(y, x, y + height, x + width))

    def close(self) -> None:
        """Stop decoding for this view; its levels then show only what is cached."""
        self.requests.close()
        decode_pool().withdraw(self._base_owner)
        self.tiles.close()
        self.base.complete.set()

    def _levels(self, channel: int | None) -> list[ViewLevel]:
        return [self._level(number, channel) for number in range(len(self.plan))]

    def _level(self, number: int, channel: int | None) -> ViewLevel:
        colour = channel is None
        return ViewLevel(
            shape=(*self.plan[number].shape, 3) if colour else self.plan[number].shape,
            dtype=np.dtype(np.uint8) if colour else self.source.dtype,
            paint=partial(self.paint, number, channel),
            whole=partial(self._whole, number, channel),
        )

    def _whole(self, number: int, channel: int | None) -> Pixels:
        if number == self.base.number:
            self.base.wait()
            return self.base.shown(channel)
        pixels = self.exact(number, 0, 0, *self.plan[number].shape)
        return self._shown(pixels, channel)

    def _shown(self, tile: Pixels, channel: int | None) -> Pixels:
        return shown_colour(tile) if channel is None else tile[:, :, channel]

    def _painted_base(self, channel: int | None, area: Area) -> Pixels:
        missing = [place for place in self._under(area) if place in self.base.left]
        self.requests.look((self.base.number, area), channel or 0, missing)
        whole = self.base.shown(channel)
        return whole[area.y0 : area.y1, area.x0 : area.x1].copy()

    def _under(self, area: Area) -> Iterable[Place]:
        return self.tiles.under(self.base.number, area)

    def _painted(self, number: int, channel: int | None, area: Area) -> Pixels:
        out = self._canvas(number, channel, area)
        found, missing, damaged = self._looked_up(number, area)
        self._ask(number, area, channel or 0, missing)
        if missing:
            asked = missing
            self.requests.wait(channel or 0)
            found, missing, damaged = self._looked_up(number, area)
            self.requests.seen(channel or 0, {*asked}.difference(missing))
        self._calm.clear()
        try:
            if missing or damaged:
                self._stand_ins.draw(out, number, area, [*missing, *damaged], channel)
            for place, tile in found:
                paste(out, self._shown(tile, channel), self.tiles.area(place), area)
        finally:
            self._calm.set()
        return out

    def _ask(self, number: int, area: Area, eye: int, missing: list[Place]) -> None:
        soon = self.requests.soon(len(missing))
        self.requests.look(
            (number, area),
            eye,
            self._from_the_middle(missing, area),
            first=() if soon else self._stand_ins.bridge(number, area),
            ring=() if missing else self._ring(number, area),
        )

    def _looked_up(
        self, number: int, area: Area
    ) -> tuple[list[tuple[Place, Pixels]], list[Place], list[Place]]:
        """Return what is decoded, what is missing, and what never will be there."""
        found: list[tuple[Place, Pixels]] = []
        missing: list[Place] = []
        damaged: list[Place] = []
        for place in self.tiles.under(number, area):
            tile = self.tiles.cached(place)
            if self.tiles.is_damaged(place):
                damaged.append(place)
            elif tile is None:
                missing.append(place)
            else:
                found.append((place, tile))
        return found, missing, damaged

    def _canvas(self, number: int, channel: int | None, area: Area) -> Pixels:
        """Return the array to paint on: filled only where it reaches over the edge."""
        shape = (*area.shape, 3) if channel is None else area.shape
        dtype = np.uint8 if channel is None else self.source.dtype
        rows, cols = self.plan[number].inner
        if area.y1 <= rows and area.x1 <= cols:
            return np.empty(shape, dtype)
        return np.full(shape, 255 if channel is None else self.source.fill, dtype)

    def _from_the_middle(self, places: list[Place], area: Area) -> list[Place]:
        y, x = (area.y0 + area.y1) / 2, (area.x0 + area.x1) / 2

        def distance(place: Place) -> float:
            at = self.tiles.area(place)
            return float(np.hypot((at.y0 + at.y1) / 2 - y, (at.x0 + at.x1) / 2 - x))

        return sorted(places, key=distance)

    def _ring(self, number: int, area: Area) -> list[Place]:
        """Return the tiles round an area that are not decoded, the nearest first."""
        rows, cols = self.plan[number].tile
        wider = Area(area.y0 - rows, area.x0 - cols, area.y1 + rows, area.x1 + cols)
        places = set(self.tiles.under(number, wider)) - {
            *self.tiles.under(number, area)
        }
        lacking = [place for place in places if self.tiles.cached(place) is None]
        return self._from_the_middle(lacking, area)

    def _ink(self, channel: int | None) -> float:
        """Return the value of the lines over damaged tiles."""
        if channel is None:
            return GREY
        if channel not in self._inks:
            low, high = self.channel_look(channel).contrast
            ink = low + (high - low) / 3
            self._inks[channel] = ink if self.source.dtype.kind == "f" else round(ink)
        return self._inks[channel]

    def _work(self, place: Place) -> None:
        """Decode a tile on a thread of the pool."""
        self._calm.wait(LONGEST_PAINT_S)
        if self.tiles.closed:
            return
        due = self._arrived(place)
        ready = place[0] == self.base.number and self.base.is_last(place)
        if ready:
            self._finish_base()
        if (due or ready) and not self.tiles.closed:
            self.updated.emit()

    def _finish_base(self) -> None:
        """Hatch the coarsest level for good: napari slices its copy without us."""
        if len(self.source.damage):
            channels = [None] if self.source.rgb else range(self.source.channels)
            whole = Area(0, 0, *self.plan[-1].shape)
            for channel in channels:
                shown, ink = self.base.shown(channel), self._ink(channel)
                self._hatch.draw(shown, self.base.number, whole, ink)
        self.base.complete.set()

    def _arrived(self, place: Place) -> bool:
        """Decode a tile; return whether it is time to slice again."""
        try:
            tile = self.tiles.decoded(place)
        except SlideError as error:
            news = not self.tiles.closed and self._fail(place, error)
            return self.requests.lost(place) or news
        news = place in self.base.lost or self.error is not None
        if place[0] == self.base.number:
            self.base.take(place, tile)
        if self.error is not None:
            self._recover()
        return self.requests.arrived(place) or news

    def _fail(self, place: Place, error: SlideError) -> bool:
        """Keep why the file cannot be read; return whether that is news."""
        news = self.error is None
        if news:
            _log.warning("%s", error)
        self.error = error
        if place[0] == self.base.number:
            self.base.lost.add(place)
        return news

    def _recover(self) -> None:
        """Forget the error, and ask for what the coarsest level lacks by it."""
        self.error = None
        decode_pool().request(self._base_owner, 0, list(self.base.lost), self._work)
