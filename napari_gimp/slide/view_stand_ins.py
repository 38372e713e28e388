"""What is shown where a tile is missing: coarser pixels of the same place, enlarged."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from napari_gimp.slide.source import Pixels
from napari_gimp.slide.view_base import ViewBase, shown_colour
from napari_gimp.slide.view_tiles import Area, Place, ViewTiles, paste

FAR = 4.0
"""A bridge is a level at least this many times coarser than the field: a few of its
tiles, decoded before the field's own, make the first picture much better."""
BRIDGE_TILES = 6
"""Tiles of a bridge at the most: what one round of the decode pool brings."""
Index = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Patch:
    """A part of a field, and the coarser pixels that stand in for it."""

    part: Area
    pixels: Pixels
    rows: Index
    cols: Index

    def drawn(self) -> Pixels:
        """Return the pixels of the part."""
        # columns first, while there are few rows: three times faster
        return np.asarray(self.pixels.take(self.cols, axis=1).take(self.rows, axis=0))


@dataclass
class Lookup:
    """The coarser tiles found so far for one field: each is looked up once."""

    tiles: ViewTiles
    channel: int | None
    known: dict[Place, Pixels | None] = field(default_factory=dict)

    def tile(self, place: Place) -> Pixels | None:
        """Return what a layer shows of a tile, None if it is not decoded."""
        if place not in self.known:
            tile = None
            if not self.tiles.is_damaged(place):
                tile = self.tiles.cached(place)
            self.known[place] = None if tile is None else self._shown(tile)
        return self.known[place]

    def area(self, number: int, area: Area) -> Pixels | None:
        """Return an area of a level if all of its tiles are decoded."""
        places = list(self.tiles.under(number, area))
        tiles = [self.tile(place) for place in places]
        found = [tile for tile in tiles if tile is not None]
        if len(found) < len(places):
            return None
        out = np.empty((*area.shape, *found[0].shape[2:]), found[0].dtype)
        for place, tile in zip(places, found, strict=True):
            paste(out, tile, self.tiles.area(place), area)
        return out

    def _shown(self, tile: Pixels) -> Pixels:
        return shown_colour(tile) if self.channel is None else tile[:, :, self.channel]


class StandIns:
    """Draws coarser tiles in place of missing ones.

    Parameters
    ----------
    tiles
        The tiles of the view.
    base
        Its coarsest level, which always stands in.
    """

    def __init__(self, tiles: ViewTiles, base: ViewBase) -> None:
        self._tiles, self._base = tiles, base

    def draw(
        self,
        out: Pixels,
        number: int,
        area: Area,
        places: Iterable[Place],
        channel: int | None,
    ) -> None:
        """Fill tiles of an area from the finest coarser level that has them.

        Parameters
        ----------
        out
            The area's pixels (h, w) or (h, w, 3), written to.
        number
            Its level.
        area
            Where they lie.
        places
            The tiles that are missing; what lies between them may be written to.
        channel
            Which channel is shown, None for the colour picture.
        """
        left = [_within(self._tiles.area(place), area) for place in places]
        patches: list[Patch] = []
        lookup = Lookup(self._tiles, channel)
        for coarser in range(number + 1, self._base.number):
            found = {part: self._patch(lookup, part, number, coarser) for part in left}
            patches += [patch for patch in found.values() if patch is not None]
            left = [part for part, patch in found.items() if patch is None]
        if left:
            patches.insert(0, self._base_patch(left, number, channel))
        for patch in patches:
            paste(out, patch.drawn(), patch.part, area)

    def bridge(self, number: int, area: Area) -> Sequence[Place]:
        """Return a few tiles of a coarser level worth decoding before the field's.

        There are none where the field has stand-ins as good already.
        """
        lookup = Lookup(self._tiles, None if self._tiles.source.rgb else 0)
        for coarser in range(number + 1, self._base.number):
            rows, cols = self._tiles.below(area, number, coarser)
            under = _area_of(rows, cols)
            places = list(self._tiles.under(coarser, under))
            if all(lookup.tile(place) is not None for place in places):
                return ()
            if self._is_bridge(number, coarser, places):
                return [place for place in places if lookup.tile(place) is None]
        return ()

    def _is_bridge(self, number: int, coarser: int, places: Sequence[Place]) -> bool:
        plan = self._tiles.plan
        ratio = plan[coarser].factor[0] / plan[number].factor[0]
        stored = plan[coarser].stored is not None
        return stored and ratio >= FAR and len(places) <= BRIDGE_TILES

    def _patch(
        self, lookup: Lookup, part: Area, number: int, coarser: int
    ) -> Patch | None:
        rows, cols = self._tiles.below(part, number, coarser)
        under = _area_of(rows, cols)
        pixels = lookup.area(coarser, under)
        if pixels is None:
            return None
        return Patch(part, pixels, rows - under.y0, cols - under.x0)

    def _base_patch(self, parts: list[Area], number: int, channel: int | None) -> Patch:
        """Return the coarsest level's pixels for all parts at once."""
        part = reduce(Area.around, parts)
        rows, cols = self._tiles.below(part, number, self._base.number)
        under = _area_of(rows, cols)
        whole = self._base.shown(channel)
        pixels = whole[under.y0 : under.y1, under.x0 : under.x1]
        return Patch(part, pixels, rows - under.y0, cols - under.x0)


def _within(part: Area, area: Area) -> Area:
    """Return what two areas have in common."""
    return Area(
        max(part.y0, area.y0),
        max(part.x0, area.x0),
        min(part.y1, area.y1),
        min(part.x1, area.x1),
    )


def _area_of(rows: Index, cols: Index) -> Area:
    """Return the area from the first to the last row and column."""
    return Area(int(rows[0]), int(cols[0]), int(rows[-1]) + 1, int(cols[-1]) + 1)
