"""Write Aperio SVS files: JPEG, or JPEG 2000 as 33003 (YCbCr) and 33005 (RGB)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tifffile

JPEG, J2K_YCBCR, J2K_RGB = 7, 33003, 33005


def write_svs(
    path: Path,
    levels: list[np.ndarray],
    mpp: float = 0.5,
    *,
    compression: int = JPEG,
    associated: bool = True,
    icc: bytes | None = None,
) -> Path:
    """Write levels (h, w, 3) uint8 as Aperio does: level 0, thumbnail, the rest.

    Parameters
    ----------
    associated
        Also write a thumbnail, a label (all red) and a macro image (all blue).
    """
    with tifffile.TiffWriter(path) as tiff:
        for number, level in enumerate(levels):
            _write_level(tiff, level, levels[0], mpp, compression, icc)
            if number == 0 and associated:
                _write_strips(tiff, levels[-1][:64, :64], "thumbnail")
        if associated:
            _write_strips(tiff, _plain(40, 30, (255, 0, 0)), "label", 1)
            _write_strips(tiff, _plain(30, 70, (0, 0, 255)), "macro", 9)
    return path


def _write_level(
    tiff: Any,
    level: np.ndarray,
    finest: np.ndarray,
    mpp: float,
    compression: int,
    icc: bytes | None,
) -> None:
    rows, cols = level.shape[:2]
    description = (
        f"Aperio Image Library v11.2.1 \r\n{finest.shape[1]}x{finest.shape[0]} "
        f"-> {cols}x{rows} - |AppMag = 20|ScanScope ID = SS0001|MPP = {mpp:.4f}"
        "|Filename = secret-name|User = secret-user|Date = 12/29/09"
    )
    kwargs: dict[str, Any] = {
        "tile": (128, 128),
        "description": description,
        "metadata": None,
        "iccprofile": icc,
    }
    if compression == JPEG:
        tiff.write(
            level, photometric="rgb", compression="jpeg",
            compressionargs={"level": 95}, **kwargs,
        )  # fmt: skip
        return
    tiles = list(_j2k_tiles(level, ycbcr=compression == J2K_YCBCR))
    tiff.write(
        iter(tiles), shape=level.shape, dtype=np.uint8, photometric="rgb",
        compression=compression, **kwargs,
    )  # fmt: skip


def _j2k_tiles(level: np.ndarray, *, ycbcr: bool) -> Any:
    import imagecodecs

    side = 128
    rows, cols = (-(-n // side) * side for n in level.shape[:2])
    padded = np.pad(
        level,
        ((0, rows - level.shape[0]), (0, cols - level.shape[1]), (0, 0)),
        mode="edge",
    )
    for y in range(0, rows, side):
        for x in range(0, cols, side):
            tile = np.ascontiguousarray(padded[y : y + side, x : x + side])
            if ycbcr:
                tile = rgb_to_ycbcr(tile)
            yield imagecodecs.jpeg2k_encode(
                tile, codecformat="j2k", reversible=True, mct=not ycbcr
            )


def rgb_to_ycbcr(pixels: np.ndarray) -> np.ndarray:
    """Return full-range YCbCr uint8 (ITU-R BT.601, as in JFIF) of RGB (h, w, 3)."""
    r, g, b = np.moveaxis(pixels.astype(np.float32), 2, 0)
    y = 0.299 * r + 0.587 * g + 0.114 * b
    stacked = np.stack((y, 128 + 0.564334 * (b - y), 128 + 0.713267 * (r - y)), 2)
    return np.clip(np.rint(stacked), 0, 255).astype(np.uint8)


def _write_strips(tiff: Any, image: np.ndarray, kind: str, subfile: int = 0) -> None:
    text = "" if kind == "thumbnail" else f"\r\n{kind} {image.shape[1]}x"
    tiff.write(
        image,
        photometric="rgb",
        compression="jpeg",
        rowsperstrip=16,
        subfiletype=subfile,
        description=f"Aperio Image Library v11.2.1 {text}{image.shape[0]}",
        metadata=None,
    )


def _plain(rows: int, cols: int, colour: tuple[int, int, int]) -> np.ndarray:
    return np.full((rows, cols, 3), colour, np.uint8)
