"""Rectangles of pixels: regions, the tiles under them, and what they share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from napari_gimp.slide.source import Level, Pixels


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


def only_tile(
    spec: Level, y: int, x: int, height: int, width: int
) -> tuple[int, int] | None:
    """Return (row, col) of the tile that a region is, None if it is not one whole."""
    (row, top), (col, left) = divmod(y, spec.tile[0]), divmod(x, spec.tile[1])
    if top or left or not (0 <= y < spec.shape[0] and 0 <= x < spec.shape[1]):
        return None
    sides = min(spec.tile[0], spec.shape[0] - y), min(spec.tile[1], spec.shape[1] - x)
    return (row, col) if sides == (height, width) else None


def tile_box(spec: Level, row: int, col: int) -> Box:
    """Return where a tile lies, cut off at the edge of its level."""
    y, x = row * spec.tile[0], col * spec.tile[1]
    return Box(
        y,
        x,
        min(y + spec.tile[0], spec.shape[0]),
        min(x + spec.tile[1], spec.shape[1]),
    )


def tiles_under(spec: Level, region: Box) -> Iterator[tuple[int, int]]:
    """Yield (row, col) of the tiles that a region of a level touches."""
    y0, x0 = max(region.y0, 0), max(region.x0, 0)
    y1, x1 = min(region.y1, spec.shape[0]), min(region.x1, spec.shape[1])
    if y0 >= y1 or x0 >= x1:  # else the last tile, when just below the edge
        return
    for row in range(y0 // spec.tile[0], -(-y1 // spec.tile[0])):
        for col in range(x0 // spec.tile[1], -(-x1 // spec.tile[1])):
            yield row, col


def paste(out: Pixels, tile: Pixels, box: Box, region: Box) -> None:
    """Copy the part of a tile that lies in the region into the region's array."""
    y0, x0 = max(box.y0, region.y0), max(box.x0, region.x0)
    y1, x1 = min(box.y1, region.y1), min(box.x1, region.x1)
    part = tile[y0 - box.y0 : y1 - box.y0, x0 - box.x0 : x1 - box.x0]
    out[y0 - region.y0 : y1 - region.y0, x0 - region.x0 : x1 - region.x0] = part
