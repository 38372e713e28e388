"""Small OME-Zarr pyramids, 0.4 (zarr v2) and 0.5 (zarr v3), written with zarr.

Pixels are (h, w, C), levels from finest to coarsest; every writer returns the folder.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from napari_gimp.slide.ome_zarr import OmeZarrSource

MPP = 0.5
TILE = (128, 128)
VERSIONS = ("0.4", "0.5")
FLUORESCENCE = (
    ("DAPI", "0000FF"),
    ("CD3", "00FF00"),
    ("CD20", "FF0000"),
    ("panCK", "FFFF00"),
)
RGB = (("Red", "FF0000"), ("Green", "00FF00"), ("Blue", "0000FF"))


def write_ome_zarr(
    folder: Path,
    levels: Sequence[np.ndarray],
    *,
    version: str = "0.5",
    factor: Fraction | int = 2,
    mpp: float | None = MPP,
    axes: str = "cyx",
    tile: tuple[int, int] = TILE,
    channels: Sequence[tuple[str, str]] = (),
    unit: str | None = "micrometer",
    half_pixel: bool = False,
    **array: Any,
) -> Path:
    """Write a multiscales group.

    Parameters
    ----------
    axes
        Any order of t, c, z, y, x; t and z have length 1.
    channels
        Name and "RRGGBB" of each channel, for the omero block; () leaves it out.
    half_pixel
        Also write the translations by which a level's first pixel centre lies
        further in than level 0's.
    array
        To zarr's `create_array`: compressors, shards, fill_value, ...
    """
    group = zarr.open_group(folder, mode="w", zarr_format=2 if version == "0.4" else 3)
    for number, level in enumerate(levels):
        write_array(group, str(number), level, axes=axes, tile=tile, **array)
    datasets = [
        {
            "path": str(number),
            "coordinateTransformations": _transforms(
                axes, mpp or 1.0, float(factor) ** number, half_pixel=half_pixel
            ),
        }
        for number in range(len(levels))
    ]
    block: dict[str, Any] = {
        "multiscales": [{"axes": _axes(axes, unit), "datasets": datasets}]
    }
    if channels:
        shown = [{"label": n, "color": c, "active": True} for n, c in channels]
        block["omero"] = {"channels": shown}
    write_attributes(group, block, version)
    return folder


def write_array(
    group: zarr.Group,
    name: str,
    pixels: np.ndarray,
    *,
    axes: str = "cyx",
    tile: tuple[int, int] = TILE,
    **array: Any,
) -> zarr.Array[Any]:
    """Write pixels (h, w, C) as an array with the given axes, one chunk per tile."""
    stored = np.ascontiguousarray(arranged(pixels, axes))
    sides = {"y": tile[0], "x": tile[1]}
    chunks = tuple(sides.get(axis, 1) for axis in axes)
    if "shards" not in array:  # a shard holds whole chunks only
        chunks = tuple(map(min, chunks, stored.shape))
    array = {"chunks": chunks, "fill_value": 0, **array}
    made = group.create_array(name, shape=stored.shape, dtype=stored.dtype, **array)
    made[...] = stored
    return made


def write_attributes(group: zarr.Group, block: dict[str, Any], version: str) -> None:
    """Put the metadata where the version has it."""
    if version == "0.4":
        scales = [{**m, "version": version} for m in block.get("multiscales", [])]
        if scales:
            block = {**block, "multiscales": scales}
        group.attrs.put(block)
    else:
        group.attrs.put({"ome": {"version": version, **block}})


def arranged(pixels: np.ndarray, axes: str) -> np.ndarray:
    """Return pixels (h, w, C) with the given axes, t and z of length 1."""
    full = pixels[:, :, :, None, None]
    order = ["yxczt".index(axis) for axis in axes]
    left_out = [i for i in range(5) if i not in order]
    return full.transpose(order + left_out).reshape([full.shape[i] for i in order])


def _axes(axes: str, unit: str | None) -> list[dict[str, str]]:
    kinds = {"t": "time", "c": "channel"}
    made = []
    for axis in axes:
        entry = {"name": axis, "type": kinds.get(axis, "space")}
        if unit is not None and axis in "zyx":
            entry["unit"] = unit
        made.append(entry)
    return made


def _transforms(
    axes: str, mpp: float, factor: float, *, half_pixel: bool
) -> list[dict[str, Any]]:
    scale = [mpp * factor if axis in "yx" else 1.0 for axis in axes]
    transforms: list[dict[str, Any]] = [{"type": "scale", "scale": scale}]
    if half_pixel:
        shift = [mpp * (factor - 1) / 2 if axis in "yx" else 0.0 for axis in axes]
        transforms.append({"type": "translation", "translation": shift})
    return transforms


def whole(path: Path, level: int = 0) -> np.ndarray:
    with OmeZarrSource(path) as slide:
        return slide.read_region(level, 0, 0, *slide.levels[level].shape)


def edit(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the OME metadata of a 0.5 image in place."""
    path = folder / "zarr.json"
    stored = json.loads(path.read_text())
    change(stored["attributes"]["ome"])
    path.write_text(json.dumps(stored))


def chunk_file(folder: Path, level: int = 0, *place: int) -> Path:
    array = zarr.open_group(folder, mode="r")[str(level)]
    return folder / str(level) / array.metadata.encode_chunk_key(place or (0, 1, 1))
