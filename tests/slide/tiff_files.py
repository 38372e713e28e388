"""Small TIFF slides of every layout, written with tifffile; plain functions.

Pixels are (h, w, C), or (h, w) where there is one channel, and every writer takes
the levels from finest to coarsest and returns the path it wrote.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

MPP = 0.5
TILE = (128, 128)


def picture(
    rows: int = 300,
    cols: int = 420,
    channels: int = 3,
    dtype: Any = np.uint8,
    seed: int = 7,
) -> np.ndarray:
    """Return smooth coloured noise (rows, cols, channels) over the dtype's range."""
    rng = np.random.default_rng(seed)
    knots = rng.random((rows // 20 + 2, cols // 20 + 2, channels))
    at = [np.arange(side) / 20 for side in (rows, cols)]
    y, x = (a.astype(int) for a in at)
    wy, wx = (at[0] - y)[:, None, None], (at[1] - x)[None, :, None]
    top = knots[y][:, x] * (1 - wx) + knots[y][:, x + 1] * wx
    low = knots[y + 1][:, x] * (1 - wx) + knots[y + 1][:, x + 1] * wx
    values = top * (1 - wy) + low * wy
    if np.dtype(dtype).kind == "f":
        return np.ascontiguousarray(values, dtype)
    high = np.iinfo(dtype).max
    return np.ascontiguousarray(np.rint(values * high), dtype)


def halved(finest: np.ndarray, levels: int = 3) -> list[np.ndarray]:
    """Return `finest` and means of 2 x 2 of it, of 4 x 4, ...: `levels` in all."""
    found = [finest]
    for _ in range(levels - 1):
        last = found[-1]
        rows, cols = last.shape[0] // 2 * 2, last.shape[1] // 2 * 2
        blocks = last[:rows, :cols].reshape(rows // 2, 2, cols // 2, 2, -1)
        mean = blocks.astype(np.float64).mean(axis=(1, 3))
        if finest.dtype.kind != "f":
            mean = np.rint(mean)
        found.append(mean.astype(finest.dtype).reshape(-1, cols // 2, *last.shape[2:]))
    return found


def write_tiled(
    path: Path,
    levels: Sequence[np.ndarray],
    *,
    compression: Any = None,
    tile: tuple[int, int] | None = TILE,
    mpp: float = MPP,
    byteorder: Any = None,
    bigtiff: bool = False,
    **options: Any,
) -> Path:
    """Write a pyramid whose levels follow each other, marked as reduced."""
    one = levels[0].ndim == 2 or levels[0].shape[2] == 1
    options = {"photometric": "minisblack" if one else "rgb", **options}
    with tifffile.TiffWriter(path, byteorder=byteorder, bigtiff=bigtiff) as tiff:
        for number, level in enumerate(levels):
            tiff.write(
                level[:, :, 0] if one and level.ndim == 3 else level,
                tile=tile,
                compression=compression,
                subfiletype=int(number > 0),
                **_scale(mpp),
                metadata=None,
                **options,
            )
    return path


def write_rgba(
    path: Path, levels: Sequence[np.ndarray], *, associated: bool = False, **kw: Any
) -> Path:
    """Write (h, w, 4) levels: `associated` colours are multiplied by alpha."""
    kind = "assocalpha" if associated else "unassalpha"
    return write_tiled(path, levels, extrasamples=[kind], **kw)


def write_planar(path: Path, levels: Sequence[np.ndarray], **kw: Any) -> Path:
    """Write (h, w, C) levels plane by plane."""
    options = {"tile": TILE, "photometric": "rgb", "planarconfig": "separate", **kw}
    planes = [np.ascontiguousarray(np.moveaxis(level, 2, 0)) for level in levels]
    with tifffile.TiffWriter(path) as tiff:
        for number, level in enumerate(planes):
            tiff.write(
                level,
                **_scale(MPP),
                subfiletype=int(number > 0),
                metadata=None,
                **options,
            )
    return path


def write_aperio(
    path: Path,
    levels: Sequence[np.ndarray],
    *,
    extra: Sequence[tuple[str, np.ndarray]] = (),
    **options: Any,
) -> Path:
    """Write an SVS: level 0, thumbnail, further levels, then label and macro.

    `extra` names images ("label", "macro") and gives their pixels (h, w, 3).
    """
    rows, cols = levels[0].shape[:2]
    head = f"Aperio Image Library v12.0.0\n{cols}x{rows} [0,0 {cols}x{rows}]"
    about = f"{head} (256x256) JPEG/RGB Q=95|AppMag = 20|MPP = {MPP}|ScanScope ID = S1"
    options = {"tile": TILE, "photometric": "rgb", "compression": "deflate", **options}
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(levels[0], description=about, metadata=None, **options)
        thumbnail = np.ascontiguousarray(levels[-1][:, :, :3])
        tiff.write(thumbnail, description=head, metadata=None, rowsperstrip=16)
        for level in levels[1:]:
            tiff.write(level, description=head, metadata=None, **options)
        for name, pixels in extra:
            kind = {"label": 1, "macro": 9}[name]
            tiff.write(
                pixels,
                description=f"Aperio Image Library v12.0.0\n{name} "
                f"{pixels.shape[1]}x{pixels.shape[0]}",
                subfiletype=kind,
                metadata=None,
                rowsperstrip=16,
            )
    return path


def write_ome_multichannel(
    path: Path,
    levels: Sequence[np.ndarray],
    *,
    names: Sequence[str] = (),
    colors: Sequence[int] = (),
    compression: Any = "deflate",
    tile: tuple[int, int] | None = TILE,
    mpp: float = MPP,
) -> Path:
    """Write an OME-TIFF with a page per channel, each with its levels as SubIFDs.

    `levels` are (h, w, C); `colors` are RGBA as OME has them, one signed int each.
    """
    planes = [np.ascontiguousarray(np.moveaxis(level, 2, 0)) for level in levels]
    about: dict[str, Any] = {"axes": "CYX", **_ome_size(mpp)}
    channel: dict[str, Any] = {}
    if names:
        channel["Name"] = list(names)
    if colors:
        channel["Color"] = list(colors)
    if channel:
        about["Channel"] = channel
    return _write_ome(path, planes, about, "minisblack", compression, tile)


def write_ome_rgb(
    path: Path,
    levels: Sequence[np.ndarray],
    *,
    compression: Any = "deflate",
    tile: tuple[int, int] | None = TILE,
    mpp: float = MPP,
) -> Path:
    """Write (h, w, 3) levels as an OME-TIFF with SubIFDs."""
    about = {"axes": "YXS", **_ome_size(mpp)}
    return _write_ome(path, list(levels), about, "rgb", compression, tile)


def write_imagej(path: Path, pixels: np.ndarray) -> Path:
    """Write (h, w, C) as ImageJ does: a strip per channel, a page each."""
    planes = np.ascontiguousarray(np.moveaxis(pixels, 2, 0))
    names = [f"channel {number}" for number in range(len(planes))]
    about = {"axes": "CYX", "Labels": names, "unit": "um"}
    scale = (1 / MPP, 1 / MPP)
    tifffile.imwrite(path, planes, imagej=True, resolution=scale, metadata=about)
    return path


def spoil(path: Path, page: int, tile: int) -> None:
    """Overwrite the stored bytes of one tile."""
    with tifffile.TiffFile(path) as tiff:
        offset = tiff.pages[page].dataoffsets[tile]
        count = tiff.pages[page].databytecounts[tile]
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\xff" * count)


def change_tag(path: Path, name: str, value: Any, *, page: int = 0) -> None:
    """Overwrite one tag's value where it stands."""
    with tifffile.TiffFile(path, mode="r+") as tiff:
        tiff.pages[page].tags[name].overwrite(value)


def _write_ome(
    path: Path,
    levels: list[np.ndarray],
    about: dict[str, Any],
    photometric: Any,
    compression: Any,
    tile: tuple[int, int] | None,
) -> Path:
    options = {"tile": tile, "photometric": photometric, "compression": compression}
    with tifffile.TiffWriter(path, ome=True) as tiff:
        tiff.write(levels[0], subifds=len(levels) - 1, metadata=about, **options)
        for level in levels[1:]:
            tiff.write(level, subfiletype=1, metadata=None, **options)
    return path


def _ome_size(mpp: float) -> dict[str, Any]:
    size: dict[str, Any] = {}
    for axis in "XY":
        size |= {f"PhysicalSize{axis}": mpp, f"PhysicalSize{axis}Unit": "µm"}
    return size


def _scale(mpp: float) -> dict[str, Any]:
    return {"resolution": (1e4 / mpp, 1e4 / mpp), "resolutionunit": "CENTIMETER"}
