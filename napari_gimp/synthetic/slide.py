"""Writes synthetic slides as tiled, pyramidal JPEG TIFF files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_gimp.synthetic.layout import Layout
from napari_gimp.synthetic.paint import Painter
from napari_gimp.synthetic.patient import Patient

TILE_PX = 256
BLOCK_PX = 1024
FACTOR = 4
_STEP_PX = 16  # blocks are painted in whole pixels of the third level
QUALITY = 88
Progress = Callable[[int, int], None]
U8 = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class _Block:
    """One painted block: encoded tiles of the two finest levels, pixels of the next."""

    tiles: list[bytes]
    coarse_tile: bytes
    small: U8


def write_slide(
    path: Path,
    patient: Patient,
    *,
    side_px: int | tuple[int, int] = 3072,
    mpp: float = 0.5,
    workers: int = 1,
    progress: Progress | None = None,
) -> Layout:
    """Paint a patient's slide into a pyramidal TIFF and return its plan.

    Levels are 4x apart. Nothing is left at `path` unless the slide is whole.

    Parameters
    ----------
    path
        The file to write; its folder must exist.
    side_px
        Height and width, px, or one number for both.
    mpp
        um/px.
    workers
        Threads that paint; the pixels do not depend on it.
    progress
        Called with blocks done and blocks in all.
    """
    height, width = (side_px, side_px) if isinstance(side_px, int) else side_px
    layout = Layout(patient, (height * mpp, width * mpp))
    painter = Painter(layout, mpp)
    unfinished = path.with_name(f".{path.name}.partial-{os.getpid()}")
    try:
        _write(unfinished, painter, (height, width), workers, progress)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return layout


def _write(
    path: Path,
    painter: Painter,
    shape: tuple[int, int],
    workers: int,
    progress: Progress | None,
) -> None:
    import tifffile

    coarse: list[list[bytes]] = []
    small: list[U8] = []
    levels = _level_shapes(shape)
    with tifffile.TiffWriter(path, bigtiff=shape[0] * shape[1] > 2**31) as tif:
        tiles = _finest(painter, shape, coarse, small, workers, progress)
        _write_level(tif, _fitting(tiles, shape), shape, painter, 1)
        if len(levels) > 1:
            ordered = iter([tile for row in coarse for tile in row])
            _write_level(tif, ordered, levels[1], painter, FACTOR)
        pixels = np.concatenate(small) if small else np.empty((0, 0, 3), np.uint8)
        for number, level in enumerate(levels[2:], start=2):
            pixels = pixels if number == 2 else shrink(_even(pixels), FACTOR)
            part = pixels[: level[0], : level[1]]
            _write_level(tif, _cut_tiles(part), level, painter, FACTOR**number)


def _level_shapes(shape: tuple[int, int]) -> list[tuple[int, int]]:
    """Return the shapes of the levels, down to where one tile holds it all."""
    levels = [shape]
    while max(levels[-1]) > TILE_PX:
        factor = FACTOR ** len(levels)
        levels.append((-(-shape[0] // factor), -(-shape[1] // factor)))
    return levels


def _finest(
    painter: Painter,
    shape: tuple[int, int],
    coarse: list[list[bytes]],
    small: list[U8],
    workers: int,
    progress: Progress | None,
) -> Iterator[list[list[bytes]]]:
    """Yield rows of level-0 tiles per row of blocks; gather the coarser levels."""
    done = 0
    blocks = tuple(-(-side // BLOCK_PX) for side in shape)
    with ThreadPoolExecutor(workers, "synthetic") as pool:
        for row in range(blocks[0]):
            painted = []
            for block in pool.map(partial(_paint_at, painter, shape), _row(row, shape)):
                painted.append(block)
                done += 1
                if progress:
                    progress(done, blocks[0] * blocks[1])
            coarse.append([block.coarse_tile for block in painted])
            small.append(np.concatenate([block.small for block in painted], 1))
            across = BLOCK_PX // TILE_PX
            yield [
                [t for b in painted for t in b.tiles[k * across : (k + 1) * across]]
                for k in range(across)
            ]


def _row(row: int, shape: tuple[int, int]) -> list[tuple[int, int]]:
    """Return the corners (top, left) of a row of blocks."""
    return [(row * BLOCK_PX, left) for left in range(0, shape[1], BLOCK_PX)]


def _paint_at(
    painter: Painter, shape: tuple[int, int], corner: tuple[int, int]
) -> _Block:
    top, left = corner
    return _paint(painter, top, left, (shape[0] - top, shape[1] - left))


def _paint(painter: Painter, top: int, left: int, rest: tuple[int, int]) -> _Block:
    """Paint one block; no more of it than lies on the `rest` (h, w) of the slide."""
    side = min(BLOCK_PX, -(-max(rest) // _STEP_PX) * _STEP_PX)
    beyond = (0, BLOCK_PX - side)
    pixels = painter.block(top, left, side)
    pixels = np.pad(pixels, (beyond, beyond, (0, 0)), mode="edge")
    quarter = shrink(pixels, FACTOR)
    tiles = [encode(tile) for tile in _tiles(pixels)]
    return _Block(tiles, encode(quarter), shrink(quarter, FACTOR))


def _fitting(
    rows: Iterator[list[list[bytes]]], shape: tuple[int, int]
) -> Iterator[bytes]:
    """Yield only the tiles that the level's shape needs, in reading order."""
    down, across = (-(-side // TILE_PX) for side in shape)
    number = 0
    for group in rows:
        for row in group:
            if number < down:
                yield from row[:across]
            number += 1


def _write_level(
    tif: object,
    tiles: Iterator[bytes],
    shape: tuple[int, int],
    painter: Painter,
    factor: int,
) -> None:
    cm = 1e4 / (painter.mpp * factor)
    tif.write(  # type: ignore[attr-defined]
        tiles,
        shape=(*shape, 3),
        dtype=np.uint8,
        tile=(TILE_PX, TILE_PX),
        photometric="ycbcr",
        subsampling=(2, 2),
        compression="jpeg",
        subfiletype=0 if factor == 1 else 1,
        resolution=(cm, cm),
        resolutionunit="CENTIMETER",
        software="napari-gimp synthetic slide",
        description=_description(painter) if factor == 1 else None,
        metadata=None,
    )


def _description(painter: Painter) -> str:
    return (
        "Synthetic H&E slide made by napari-gimp; no patient, no diagnosis. "
        f"id={painter.layout.patient.name} mpp={painter.mpp:g}"
    )


def shrink(pixels: U8, factor: int) -> U8:
    """Return pixels (h/f, w/f, 3) area-averaged; both sides must be multiples of f."""
    from PIL import Image

    return np.asarray(Image.fromarray(pixels).reduce(factor))


def _even(pixels: U8) -> U8:
    """Return pixels padded at the far edges to multiples of the factor."""
    down, across = (-side % FACTOR for side in pixels.shape[:2])
    return np.pad(pixels, ((0, down), (0, across), (0, 0)), mode="edge")


def encode(tile: U8) -> bytes:
    """Return a tile (256, 256, 3) as JPEG."""
    import imagecodecs

    return bytes(
        imagecodecs.jpeg8_encode(
            np.ascontiguousarray(tile),
            level=QUALITY,
            colorspace="RGB",
            outcolorspace="YCBCR",
            subsampling="420",
        )
    )


def _tiles(pixels: U8) -> Iterator[U8]:
    for y in range(0, pixels.shape[0], TILE_PX):
        for x in range(0, pixels.shape[1], TILE_PX):
            yield pixels[y : y + TILE_PX, x : x + TILE_PX]


def _cut_tiles(pixels: U8) -> Iterator[bytes]:
    down, across = (-side % TILE_PX for side in pixels.shape[:2])
    padded = np.pad(pixels, ((0, down), (0, across), (0, 0)), mode="edge")
    return (encode(tile) for tile in _tiles(padded))
