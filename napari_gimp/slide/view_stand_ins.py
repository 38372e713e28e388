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
Index = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Patch:
    """A part of a field, and the coarser pixels that stand in for it."""

    part: Area
    pixels: Pixels
    rows: Index
    cols: Index

    def draw(self, out: Pixels, area: Area) -> None:
        """Write the pixels of the part into those of an area around it."""
        y, x = self.part.y0 - area.y0, self.part.x0 - area.x0
        here = out[y : y + len(self.rows), x : x + len(self.cols)]
        # columns first, while there are few rows, then each row as often as it is
        # wanted: no large array in between, which would cost as much again
        wide = self.pixels.take(self.cols, axis=1)
        starts = [0, *(np.flatnonzero(np.diff(self.rows)) + 1).tolist()]
        stops = [*starts[1:], len(self.rows)]
        for start, stop in zip(starts, stops, strict=True):
            here[start:stop] = wide[self.rows[start]]


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
            found, left = self._split(lookup, left, number, coarser)
            patches += found
        if left:
            patches.append(self._base_patch(left, number, channel))
        for patch in reversed(patches):  # finer ones last: a patch may cover others
            patch.draw(out, area)

    def bridge(self, number: int, area: Area) -> Sequence[Place]:
        """Return a few tiles of a coarser level worth decoding before the field's.

        There are none where the field has stand-ins as good already.
        """
        lookup = Lookup(self._tiles, None if self._tiles.source.rgb else 0)
        for coarser in range(number + 1, self._base.number):
            under = self._tiles.below(area, number, coarser)
            places = list(self._tiles.under(coarser, under))
            if all(lookup.tile(place) is not None for place in places):
                return ()
            if self._is_bridge(number, coarser, places):
                return [place for place in places if lookup.tile(place) is None]
        return ()

    def _split(
        self, lookup: Lookup, parts: list[Area], number: int, coarser: int
    ) -> tuple[list[Patch], list[Area]]:
        """Return what a coarser level can stand in for, and the parts it cannot."""
        if not parts:
            return [], []
        whole = reduce(Area.around, parts)
        under = self._tiles.below(whole, number, coarser)
        have = [lookup.tile(p) is not None for p in self._tiles.under(coarser, under)]
        if all(have):
            parts = [whole]
        found = {
            part: self._patch(lookup, part, number, coarser) if any(have) else None
            for part in parts
        }
        patches = [patch for patch in found.values() if patch is not None]
        return patches, [part for part, patch in found.items() if patch is None]

    def _is_bridge(self, number: int, coarser: int, places: Sequence[Place]) -> bool:
        plan = self._tiles.plan
        ratio = plan[coarser].factor[0] / plan[number].factor[0]
        stored = plan[coarser].stored is not None
        return stored and ratio >= FAR and len(places) <= BRIDGE_TILES

    def _patch(
        self, lookup: Lookup, part: Area, number: int, coarser: int
    ) -> Patch | None:
        pixels = lookup.area(coarser, self._tiles.below(part, number, coarser))
        if pixels is None:
            return None
        return Patch(part, pixels, *self._tiles.indices(part, number, coarser))

    def _base_patch(self, parts: list[Area], number: int, channel: int | None) -> Patch:
        """Return the coarsest level's pixels for all parts at once."""
        part = reduce(Area.around, parts)
        y0, x0, y1, x1 = self._tiles.below(part, number, self._base.number)
        pixels = self._base.shown(channel)[y0:y1, x0:x1]
        indices = self._tiles.indices(part, number, self._base.number)
        return Patch(part, pixels, *indices)


def _within(part: Area, area: Area) -> Area:
    """Return what two areas have in common."""
    return Area(
        max(part.y0, area.y0),
        max(part.x0, area.x0),
        min(part.y1, area.y1),
        min(part.x1, area.x1),
    )
