"""Write Ventana BIF files: tiles that overlap, numbered from the bottom in a snake."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile

TILE = 128
MAGNIFICATION = 20.0


def write_bif(
    path: Path, levels: list[np.ndarray], mpp: float = 0.5, *, overlap_px: int = 0
) -> Path:
    """Write levels (h, w, 3) uint8, each an integer factor coarser than the first.

    The canvas is what whole tiles cover; beyond the picture it is white.

    Parameters
    ----------
    overlap_px
        Level-0 px that neighbouring tiles share; a multiple of the coarsest factor.
    """
    step = TILE - overlap_px
    rows, cols = (
        max(1, -(-(side - overlap_px) // step)) for side in levels[0].shape[:2]
    )
    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        _write_label(tiff, mpp)
        for number, level in enumerate(levels):
            factor = levels[0].shape[0] // level.shape[0]
            xml = _joints(rows, cols, overlap_px) if number == 0 else b""
            tiff.write(
                mosaic(level, (rows, cols), TILE, overlap_px, factor),
                photometric="rgb",
                compression="jpeg",
                compressionargs={"level": 95},
                tile=(TILE, TILE),
                description=f"level={number} mag={MAGNIFICATION / factor:g} quality=95",
                extratags=[_packet(xml)] if xml else [],
                metadata=None,
            )
    return path


def _write_label(tiff: tifffile.TiffWriter, mpp: float) -> None:
    scan = (
        f'<iScan Magnification="{MAGNIFICATION:g}" ScanRes="{mpp}" Z-layers="1" '
        'UnitNumber="2000515" BuildVersion="3.3.1.1" UserName="secret-name" '
        'ScanWhitePoint="235"><AOI0 AOIScanned="1"/></iScan>'
    ).encode()
    tiff.write(
        np.full((96, 48, 3), (255, 0, 0), np.uint8),
        photometric="rgb",
        description="Label Image",
        extratags=[_packet(scan)],
        metadata=None,
    )


def _packet(xml: bytes) -> tuple[int, str, int, bytes, bool]:
    return 700, "B", len(xml), xml, True


def mosaic(
    level: np.ndarray, grid: tuple[int, int], tile: int, overlap_px: int, factor: int
) -> np.ndarray:
    """Return overlapping tiles of a level side by side, each shrunk in its place.

    Parameters
    ----------
    grid
        Rows and columns of tiles.
    tile, overlap_px
        Side of a tile and what neighbours share, in level-0 px.
    factor
        By which the level is coarser.
    """
    (rows, cols), side, step = grid, tile // factor, (tile - overlap_px) // factor
    canvas = np.full(
        ((rows - 1) * step + side, (cols - 1) * step + side, 3), 255, np.uint8
    )
    canvas[: level.shape[0], : level.shape[1]] = level[
        : canvas.shape[0], : canvas.shape[1]
    ]
    out = np.empty((rows * side, cols * side, 3), np.uint8)
    for row in range(rows):
        for col in range(cols):
            part = canvas[row * step :, col * step :][:side, :side]
            out[row * side :, col * side :][:side, :side] = part
    return out


def _joints(rows: int, cols: int, overlap_px: int) -> bytes:
    """Return the description of how tiles join: only their mean overlap counts."""
    joints = "".join(
        _joint("RIGHT", (row, col), (row, col + 1), (rows, cols), overlap_px)
        for row in range(rows)
        for col in range(cols - 1)
    ) + "".join(
        _joint("UP", (row, col), (row - 1, col), (rows, cols), overlap_px)
        for row in range(1, rows)
        for col in range(cols)
    )
    return (
        '<EncodeInfo Ver="2"><SlideStitchInfo>'
        f'<ImageInfo AOIScanned="1" AOIIndex="0" NumRows="{rows}" NumCols="{cols}" '
        f'Width="{TILE}" Height="{TILE}" Pos-X="0" Pos-Y="0">{joints}</ImageInfo>'
        '</SlideStitchInfo><AoiOrigin><AOI0 OriginX="0" OriginY="0"/></AoiOrigin>'
        "</EncodeInfo>"
    ).encode()


def _joint(
    direction: str,
    one: tuple[int, int],
    two: tuple[int, int],
    grid: tuple[int, int],
    overlap_px: int,
) -> str:
    over = {"OverlapX": 0, "OverlapY": 0}
    over["OverlapX" if direction == "RIGHT" else "OverlapY"] = overlap_px
    stated = " ".join(f'{key}="{value}"' for key, value in over.items())
    return (
        f'<TileJointInfo FlagJoined="1" Confidence="100" Direction="{direction}" '
        f'Tile1="{_number(one, grid)}" Tile2="{_number(two, grid)}" {stated}/>'
    )


def _number(place: tuple[int, int], grid: tuple[int, int]) -> int:
    """Return a tile's number: from 1, from the bottom row up, every other row back."""
    row = grid[0] - 1 - place[0]
    col = place[1] if row % 2 == 0 else grid[1] - 1 - place[1]
    return row * grid[1] + col + 1
