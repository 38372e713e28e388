"""Write Hamamatsu VMS files: a text file, four JPEGs for level 0, one for the map."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vendor_jpeg import jpeg_with_restarts, padded

TILE_PX = 128


def write_vms(path: Path, levels: list[np.ndarray], mpp: float = 0.5) -> Path:
    """Write the finest and the coarsest of the levels (h, w, 3) uint8.

    Both are padded with white to whole tiles. OpenSlide adds levels 2, 4 and 8 times
    coarser than each of them.
    """
    finest, coarsest = padded([levels[0], levels[-1]], (8, TILE_PX))
    row = finest.shape[0] // 16 * 8
    col = finest.shape[1] // (2 * TILE_PX) * TILE_PX
    parts = {
        (0, 0): finest[:row, :col],
        (1, 0): finest[:row, col:],
        (0, 1): finest[row:, :col],
        (1, 1): finest[row:, col:],
    }
    names = {at: f"{path.stem}({at[0]},{at[1]}).jpg" for at in parts}
    for at, part in parts.items():
        (path.parent / names[at]).write_bytes(jpeg_with_restarts(part, TILE_PX))
    map_name = f"{path.stem}_map2.jpg"
    (path.parent / map_name).write_bytes(jpeg_with_restarts(coarsest, TILE_PX))
    images = "\n".join(
        f"ImageFile{'' if at == (0, 0) else f'({at[0]},{at[1]})'}={name}"
        for at, name in names.items()
    )
    path.write_text(
        "[Virtual Microscope Specimen]\n"
        f"NoLayers=1\nNoJpegColumns=2\nNoJpegRows=2\n{images}\n"
        f"MapFile={map_name}\n"
        f"PhysicalWidth={round(finest.shape[1] * mpp * 1000)}\n"
        f"PhysicalHeight={round(finest.shape[0] * mpp * 1000)}\n"
        "SourceLens=20\nReference=secret-reference\n"
    )
    return path
