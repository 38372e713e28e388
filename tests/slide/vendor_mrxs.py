"""Write MIRAX files: name.mrxs and beside it a folder name/ with index and tiles.

Each level has its own file of tiles, Data0000.dat and so on.
"""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np

from vendor_bif import mosaic

TILE = 128
SLIDE_ID = "0123456789abcdef0123456789abcdef"


def write_mrxs(
    path: Path,
    levels: list[np.ndarray],
    mpp: float = 0.5,
    *,
    image_format: str = "JPEG",
    empty: frozenset[tuple[int, int]] = frozenset(),
    overlap_px: int = 0,
) -> Path:
    """Write levels (h, w, 3) uint8 whose factors to the first are powers of two.

    The canvas is padded with white to whole tiles.

    Parameters
    ----------
    image_format
        "JPEG" or "PNG", which loses nothing.
    empty
        (row, column) of tiles of 128 px that were not scanned, and so are left out;
        on each level.
    overlap_px
        Level-0 px that neighbouring photographs share, as most scanners have them; a
        multiple of the coarsest factor.
    """
    folder = path.with_suffix("")
    folder.mkdir()
    factors = [levels[0].shape[0] // level.shape[0] for level in levels]
    grid = _grid(levels[0].shape, factors[-1], overlap_px)
    whole = [
        mosaic(level, grid, TILE, overlap_px, factor)
        for level, factor in zip(levels, factors, strict=True)
    ]
    records = []
    for number, (level, factor) in enumerate(zip(whole, factors, strict=True)):
        stored, found = _store(level, factor, grid[1], image_format, empty)
        (folder / f"Data{number:04}.dat").write_bytes(stored)
        records.append([(*record, number) for record in found])
    (folder / "Index.dat").write_bytes(_index(records))
    (folder / "Slidedat.ini").write_text(
        _slidedat(grid, factors, mpp, image_format, overlap_px)
    )
    path.write_bytes(_encoded(levels[-1], "JPEG"))
    return path


def _grid(shape: tuple[int, ...], coarsest: int, overlap_px: int) -> tuple[int, int]:
    """Return rows and columns of photographs: whole tiles on the coarsest level."""
    step = TILE - overlap_px
    needed = (-(-(side - overlap_px) // step) for side in shape[:2])
    rows, cols = (-(-count // coarsest) * coarsest for count in needed)
    return rows, cols


def _store(
    level: np.ndarray,
    factor: int,
    columns: int,
    image_format: str,
    empty: frozenset[tuple[int, int]],
) -> tuple[bytes, list[tuple[int, int, int]]]:
    """Return a level's tiles one behind the other; index, offset, length of each."""
    stored, records = b"head", []
    for y in range(0, level.shape[0], TILE):
        for x in range(0, level.shape[1], TILE):
            row, col = y // TILE * factor, x // TILE * factor
            covered = {
                (r, c)
                for r in range(row, row + factor)
                for c in range(col, col + factor)
            }
            if covered <= empty:
                continue
            tile = _encoded(level[y : y + TILE, x : x + TILE], image_format)
            records.append((row * columns + col, len(stored), len(tile)))
            stored += tile
    return stored, records


def _encoded(image: np.ndarray, image_format: str) -> bytes:
    from PIL import Image

    out = io.BytesIO()
    options = {"quality": 95, "subsampling": 0} if image_format == "JPEG" else {}
    Image.fromarray(np.ascontiguousarray(image)).save(out, image_format, **options)
    return out.getvalue()


def _index(records: list[list[tuple[int, int, int, int]]]) -> bytes:
    """Return the index: a version, two roots, and one page of records for a level."""
    head = ("01.02" + SLIDE_ID).encode()
    table = len(head) + 8
    pages = table + 4 * len(records)
    pointers, body = b"", b""
    for level in records:
        place = pages + len(body)
        pointers += struct.pack("<i", place)
        body += struct.pack("<4i", 0, place + 8, len(level), 0)
        body += b"".join(struct.pack("<4i", *record) for record in level)
    return head + struct.pack("<2i", table, 0) + pointers + body


def _slidedat(
    grid: tuple[int, int],
    factors: list[int],
    mpp: float,
    image_format: str,
    overlap_px: int,
) -> str:
    exponents = [factor.bit_length() - 1 for factor in factors]
    names = "\n".join(
        f"HIER_0_VAL_{k} = ZoomLevel_{k}\nHIER_0_VAL_{k}_SECTION = LAYER_{k}_SECTION"
        for k in range(len(factors))
    )
    sections = "\n".join(
        f"[LAYER_{k}_SECTION]\n"
        f"OVERLAP_X = {overlap_px / factor}\nOVERLAP_Y = {overlap_px / factor}\n"
        f"MICROMETER_PER_PIXEL_X = {mpp * factor}\n"
        f"MICROMETER_PER_PIXEL_Y = {mpp * factor}\n"
        f"IMAGE_FORMAT = {image_format}\nIMAGE_FILL_COLOR_BGR = 16777215\n"
        f"DIGITIZER_WIDTH = {TILE}\nDIGITIZER_HEIGHT = {TILE}\n"
        f"IMAGE_CONCAT_FACTOR = {exponents[k] - (exponents[k - 1] if k else 0)}\n"
        for k, factor in enumerate(factors)
    )
    files = "\n".join(f"FILE_{k} = Data{k:04}.dat" for k in range(len(factors)))
    return (
        f"[GENERAL]\nSLIDE_VERSION = 01.02\nSLIDE_ID = {SLIDE_ID}\n"
        f"SLIDE_NAME = secret-name\nIMAGENUMBER_X = {grid[1]}\n"
        f"IMAGENUMBER_Y = {grid[0]}\nOBJECTIVE_MAGNIFICATION = 20\n"
        "CameraImageDivisionsPerSide = 1\n"
        f"[HIERARCHICAL]\nHIER_COUNT = 1\nNONHIER_COUNT = 0\nINDEXFILE = Index.dat\n"
        f"HIER_0_NAME = Slide zoom level\nHIER_0_COUNT = {len(factors)}\n{names}\n"
        f"[DATAFILE]\nFILE_COUNT = {len(factors)}\n{files}\n{sections}"
    )
