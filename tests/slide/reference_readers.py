"""The libraries behind our readers, reading whole levels (h, w, C) by themselves."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def composited(pixels: np.ndarray) -> np.ndarray:
    """Return RGB (h, w, 3) of RGBA uint8 over white; other pixels as they are."""
    if pixels.shape[2] != 4:
        return pixels
    alpha = pixels[:, :, 3:].astype(np.int64)
    sums = pixels[:, :, :3] * alpha + 255 * (255 - alpha)
    return ((sums * 2 + 255) // 510).astype(np.uint8)  # to the nearest


def by_tifffile(path: Path, level: int) -> np.ndarray:
    """Return a level of the largest series."""
    import tifffile

    with tifffile.TiffFile(path) as tiff:
        series = max(tiff.series, key=lambda found: found.levels[0].size)
        pixels = series.levels[level].asarray()
        planar = series.axes in ("CYX", "SYX")
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    pixels = np.moveaxis(pixels, 0, 2) if planar else pixels
    return composited(pixels.astype(pixels.dtype.newbyteorder("=")))


def by_openslide(path: Path, level: int) -> np.ndarray:
    """Return a level, over white where it is transparent."""
    import openslide

    with openslide.OpenSlide(path) as slide:
        image = slide.read_region((0, 0), level, slide.level_dimensions[level])
    return composited(np.asarray(image))


def by_pillow(path: Path, level: int) -> np.ndarray:
    """Return a picture, whatever its depth; there is one level."""
    import imagecodecs
    import tifffile
    from PIL import Image

    assert level == 0
    if path.suffix == ".tif":
        pixels = tifffile.imread(path)
    elif path.suffix == ".png":
        pixels = imagecodecs.png_decode(path.read_bytes())
    else:
        pixels = np.asarray(Image.open(path))
    return composited(np.atleast_3d(pixels))


def by_wsidicom(path: Path, level: int) -> np.ndarray:
    """Return a level; the finest is number 0. A file stands for its folder."""
    from wsidicom import WsiDicom

    path = path.parent if path.is_file() else path
    with WsiDicom.open(path) as slide:
        index = [found.level for found in slide.pyramids[0]][level]
        size = slide.pyramids[0].get(index).size
        image = slide.read_region((0, 0), index, (size.width, size.height))
    pixels = np.atleast_3d(np.asarray(image))
    return pixels.astype(np.uint16) if image.mode.startswith("I") else pixels


def by_zarr(path: Path, level: int, *, axes: str) -> np.ndarray:
    """Return an array whose axes but c, y and x have length 1."""
    import zarr

    pixels = np.asarray(zarr.open_group(path, mode="r")[str(level)])
    pixels = pixels[tuple(slice(None) if axis in "cyx" else 0 for axis in axes)]
    kept = [axis for axis in axes if axis in "cyx"]
    if "c" not in kept:
        return pixels[:, :, None]
    return np.moveaxis(pixels, kept.index("c"), 2)
