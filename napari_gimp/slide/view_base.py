"""The coarsest level of a view: held in memory, so that no place is ever blank."""

from __future__ import annotations

import threading

import numpy as np

from napari_gimp.slide.source import Pixels
from napari_gimp.slide.view_tiles import Area, Place, ViewTiles, paste

FIRST_PAINT_S = 0.3
"""Longest that the main thread waits for it when a slide is opened."""


class ViewBase:
    """The coarsest level, put together as its tiles arrive.

    The arrays handed out are the ones written to: whoever keeps one, as napari does
    for its thumbnails, sees it get better.

    Parameters
    ----------
    tiles
        The tiles of the view.
    number
        The coarsest level.
    """

    def __init__(self, tiles: ViewTiles, number: int) -> None:
        rows, cols = tiles.plan[number].shape
        self._tiles, self.number = tiles, number
        self.pixels: Pixels = tiles.blank(rows, cols)
        self.picture = shown_colour(self.pixels) if tiles.source.rgb else self.pixels
        self.left = set(tiles.under(number))
        self.lost: set[Place] = set()
        self.complete = threading.Event()
        self._lock = threading.Lock()

    def take(self, place: Place, tile: Pixels) -> None:
        """Write a tile (h, w, C) where it belongs."""
        self.lost.discard(place)
        rows, cols = self._tiles.plan[self.number].shape
        whole, at = Area(0, 0, rows, cols), self._tiles.area(place)
        paste(self.pixels, tile, at, whole)
        if self.picture is not self.pixels:
            paste(self.picture, shown_colour(tile), at, whole)

    def is_last(self, place: Place) -> bool:
        """Note that a tile came or never will; return whether it was the last."""
        with self._lock:
            was_left = place in self.left
            self.left.discard(place)
            return was_left and not self.left

    def wait(self) -> None:
        """Wait until it is complete; on the main thread only for a moment."""
        main = threading.current_thread() is threading.main_thread()
        self.complete.wait(FIRST_PAINT_S if main else None)

    def shown(self, channel: int | None) -> Pixels:
        """Return what a layer shows of it: (h, w, 3), or (h, w) of a channel."""
        return self.picture if channel is None else self.pixels[:, :, channel]


def shown_colour(pixels: Pixels) -> Pixels:
    """Return colour pixels (h, w, 3) with 8 bits per channel, as screens show them."""
    if pixels.dtype == np.uint8:
        return pixels
    wide: Pixels = (pixels >> 8).astype(np.uint8)  # type: ignore[operator]
    return wide
