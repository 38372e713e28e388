"""Use a slide as the viewer and a model would, a little of everything."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from napari_gimp.errors import GimpError
from napari_gimp.slide.describe import as_rows, describe
from napari_gimp.slide.source import Level, SlideSource, open_slide
from napari_gimp.slide.tiles import tile_cache
from napari_gimp.slide.view import SlideView

SIDE_PX = 1024
"""Of a level whose size is damaged, no more than this is read at once."""


def use(path: Path) -> str:
    """Open, describe, read and paint a slide; returns how many tiles are damaged.

    Raises
    ------
    GimpError
        If it cannot be opened.
    """
    tile_cache().clear()
    with open_slide(path) as source:
        refusals = look_at(source)
    return (
        f"read by {source.reader}, {len(source.damage)} tiles damaged, "
        f"{len(refusals)} refusals"
    )


def look_at(source: SlideSource) -> list[str]:
    """Describe, read and paint an open slide; returns the texts of what it refused."""
    refusals = []
    as_rows(describe(source))
    for step in (_read_coarsest, _read_tiles, _paint, _read_associated):
        try:
            step(source)
        except GimpError as error:
            refusals.append(str(error))
    assert all(text.strip() for text in refusals)
    return refusals


def _read_coarsest(source: SlideSource) -> None:
    number = len(source.levels) - 1
    height, width = (min(side, SIDE_PX) for side in source.levels[number].shape)
    region = source.read_region(number, 0, 0, height, width)
    assert region.shape == (height, width, source.channels)
    assert region.dtype == source.dtype


def _read_tiles(source: SlideSource) -> None:
    for number, level in enumerate(source.levels):
        for row, col in _places(level):
            tile = source.tile(number, row, col)
            height = min(level.tile[0], level.shape[0] - row * level.tile[0])
            width = min(level.tile[1], level.shape[1] - col * level.tile[1])
            assert tile.shape == (height, width, source.channels)
            assert tile.dtype == source.dtype


def _places(level: Level) -> Iterator[tuple[int, int]]:
    """Yield (row, col) of the tiles at the corners and in the middle."""
    rows, cols = (
        -(-side // tile) for side, tile in zip(level.shape, level.tile, strict=True)
    )
    yield from {(0, 0), (0, cols - 1), (rows - 1, 0), (rows - 1, cols - 1)}
    yield rows // 2, cols // 2


def _paint(source: SlideSource) -> None:
    view = SlideView(source)
    try:
        for level in (view.levels[0], view.levels[-1]):
            level[:SIDE_PX, :SIDE_PX]
    finally:
        view.close()


def _read_associated(source: SlideSource) -> None:
    for name in source.associated:
        source.read_associated(name)
