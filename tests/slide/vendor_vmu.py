"""Write Hamamatsu VMU files: a text file, and two NGR files of raw 12-bit RGB."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from vendor_jpeg import padded

COLUMN_PX = 128
HEADER_BYTES = 64


def write_vmu(path: Path, levels: list[np.ndarray], mpp: float = 0.5) -> Path:
    """Write the finest and the coarsest of the levels (h, w, 3) uint8.

    Both are padded with white to whole columns of 128 px.
    """
    finest, coarsest = padded([levels[0], levels[-1]], (1, COLUMN_PX))
    names = f"{path.stem}.ngr", f"{path.stem}_map2.ngr"
    for name, level in zip(names, (finest, coarsest), strict=True):
        (path.parent / name).write_bytes(_ngr(level))
    path.write_text(
        "[Uncompressed Virtual Microscope Specimen]\n"
        f"NoLayers=1\nImageFile={names[0]}\nMapFile={names[1]}\n"
        "BitsPerPixel=36\nPixelOrder=RGB\n"
        f"PhysicalWidth={round(finest.shape[1] * mpp * 1000)}\n"
        f"PhysicalHeight={round(finest.shape[0] * mpp * 1000)}\n"
        "SourceLens=20\nReference=secret-reference\n"
    )
    return path


def _ngr(level: np.ndarray) -> bytes:
    """Return a header, then the columns of 128 px, each from top to bottom."""
    rows, cols = level.shape[:2]
    head = b"GN" + struct.pack("<2x3i8xi", cols, rows, COLUMN_PX, HEADER_BYTES)
    deep = level.astype("<u2") << 4
    columns = [deep[:, x : x + COLUMN_PX] for x in range(0, cols, COLUMN_PX)]
    return head.ljust(HEADER_BYTES, b"\0") + b"".join(c.tobytes() for c in columns)
