"""Plain pictures with a resolution: PNG, JPEG, and TIFF in strips."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

DPI_PER_MPP = 25_400.0


def write_picture(
    path: Path, levels: list[np.ndarray], *, mpp: float = 0.5, **options: Any
) -> Path:
    """Write the finest of levels (h, w, C) as the name's suffix says.

    C is 1, 3 or 4, uint8 or uint16; a picture has one level, so others are left out.
    """
    pixels, dpi = levels[0], DPI_PER_MPP / mpp
    if pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    if path.suffix == ".tif":
        return _write_strips(path, pixels, dpi, **options)
    if pixels.dtype == np.uint16 and pixels.ndim == 3:
        return _write_deep_png(path, pixels, mpp)
    from PIL import Image

    Image.fromarray(pixels).save(path, dpi=(dpi, dpi), **options)
    return path


def _write_strips(path: Path, pixels: np.ndarray, dpi: float, **options: Any) -> Path:
    import tifffile

    colour = "rgb" if pixels.ndim == 3 else "minisblack"
    options = {"photometric": colour, "compression": "lzw", **options}
    tifffile.imwrite(
        path, pixels, resolution=(dpi, dpi), resolutionunit="INCH", metadata=None,
        rowsperstrip=16, **options,
    )  # fmt: skip
    return path


def _write_deep_png(path: Path, pixels: np.ndarray, mpp: float) -> Path:
    """Write 16-bit colour, which Pillow cannot, and put the scale in by hand."""
    import struct
    import zlib

    import imagecodecs

    png = bytes(imagecodecs.png_encode(pixels))
    per_metre = round(1e6 / mpp)
    chunk = b"pHYs" + struct.pack(">IIB", per_metre, per_metre, 1)
    whole = struct.pack(">I", 9) + chunk + struct.pack(">I", zlib.crc32(chunk))
    path.write_bytes(png[:33] + whole + png[33:])  # after the header
    return path
