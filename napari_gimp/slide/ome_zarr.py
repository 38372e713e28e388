"""OME-Zarr images 0.4 (zarr v2) and 0.5 (zarr v3), read through zarr."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from napari_gimp.errors import SlideError
from napari_gimp.slide.ome_zarr_metadata import (
    Multiscale,
    lies_on,
    scale_factor,
    shows_colour,
)
from napari_gimp.slide.ome_zarr_series import Series, images_in, level_array
from napari_gimp.slide.ome_zarr_store import (
    content_fingerprint,
    is_there,
    is_zarr,
    open_group,
)
from napari_gimp.slide.resolution import from_file
from napari_gimp.slide.source import Level, Pixels
from napari_gimp.slide.tiled import SlideFacts, TiledSource

TILE_PX = (256, 1024)
"""Least and most px of a tile's side; smaller chunks are joined, larger ones cut."""
MOST_CHUNK_BYTES = 1 << 30
"""Decoded bytes of a chunk, all channels; the whole is needed for any pixel of it."""
FEW = 8
KINDS = "uif"
"""Kinds of numbers that are pixels: unsigned, signed, real."""


@dataclass(frozen=True, slots=True)
class Plane:
    """The shown plane of one level: all channels at one time and height."""

    array: Any
    axes: str
    z: int

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width, px."""
        return self._yx(self.array.shape)

    @property
    def chunk(self) -> tuple[int, int]:
        """Height and width of what is compressed together, px."""
        return self._yx(self.array.chunks)

    @property
    def channels(self) -> int:
        """Number of channels."""
        return self.array.shape[self.axes.index("c")] if "c" in self.axes else 1

    def read(self, y: slice, x: slice) -> Pixels:
        """Return pixels (h, w, C) of a rectangle within the level."""
        at: dict[str, slice | int] = {
            "t": 0, "z": self.z, "c": slice(None), "y": y, "x": x,
        }  # fmt: skip
        stored = self.array[tuple(at[axis] for axis in self.axes)]
        kept = [axis for axis in self.axes if axis in "cyx"]
        if "c" not in kept:
            stored, kept = stored[None], ["c", *kept]
        turned = stored.transpose([kept.index(axis) for axis in "yxc"])
        return _interleaved(turned.astype(turned.dtype.newbyteorder("="), copy=False))

    def _yx(self, sides: tuple[int, ...]) -> tuple[int, int]:
        return sides[self.axes.index("y")], sides[self.axes.index("x")]


def is_ome_zarr(path: Path) -> bool:
    """Whether a folder or zip file holds zarr; of what kind shows on opening."""
    return is_zarr(path)


class OmeZarrSource(TiledSource):
    """An OME-Zarr image.

    Three channels are one colour picture if their colours are pure red, green and
    blue, or if they have 8 bits and nothing is said of them; else channels. Of several
    focal planes the one the file names, else the middle one is shown. Chunks that were
    never written read as zarr's fill value.

    Parameters
    ----------
    path
        The folder, or a zip file of it; of several images the largest is read.

    Raises
    ------
    SlideError
        If it is no OME-Zarr image, is damaged, or holds what is not read.
    """

    def __init__(self, path: Path) -> None:
        self._root = open_group(path)
        try:
            slides, self._beside = images_in(self._root, path)
            self._planes, levels = _levels(slides[0], path.name)
            super().__init__(_facts(path, slides, self._planes, levels))
        except BaseException:
            self._root.store.close()
            raise
        self.associated = tuple(self._beside)
        self.properties = {**self.properties, **_choice(slides, self._planes[0])}

    def decode_tile(self, level: int, row: int, col: int) -> Pixels:
        """Return one tile (h, w, C), cut off at the edge of the level."""
        spec = self.levels[level]
        y, x = (
            _span(row, spec.tile[0], spec.shape[0]),
            _span(col, spec.tile[1], spec.shape[1]),
        )
        if self._cuts_chunks(level):
            return self._from_chunks(level, y, x)
        return self._read(level, y, x)

    def decode_associated(self, name: str) -> Pixels:
        """Return the label, macro or thumbnail image (height, width, channels).

        Raises
        ------
        SlideError
            If it is damaged.
        """
        series = self._beside[name]
        plane = _plane(series, series.finest(), series.finest())
        try:
            return plane.read(slice(None), slice(None))
        except Exception as error:  # each codec raises its own kind
            raise SlideError(
                f"The {name} image of {self.path.name} cannot be read ({error}): copy "
                "the slide again from its source."
            ) from error

    def close(self) -> None:
        """Release file handles and cached tiles."""
        super().close()
        self._root.store.close()

    def _cuts_chunks(self, level: int) -> bool:
        tile, chunk = self.levels[level].tile, self._planes[level].chunk
        return tile[0] < chunk[0] or tile[1] < chunk[1]

    def _from_chunks(self, level: int, y: slice, x: slice) -> Pixels:
        """Return a rectangle of chunks that are larger, each decoded once and kept."""
        plane = self._planes[level]
        shape = y.stop - y.start, x.stop - x.start, self.channels
        out = np.empty(shape, self.dtype)
        for row, rows, into_y, from_y in _overlaps(y, plane.chunk[0], plane.shape[0]):
            for col, cols, into_x, from_x in _overlaps(
                x, plane.chunk[1], plane.shape[1]
            ):
                key = self._token, "chunk", level, row, col
                read = partial(self._read, level, rows, cols)
                chunk = self._fetch(key, read)
                out[into_y, into_x] = chunk[from_y, from_x]
        return out

    def _read(self, level: int, y: slice, x: slice) -> Pixels:
        """Return a rectangle, making sure that empty means empty, not unplugged."""
        plane = self._planes[level]
        pixels = plane.read(y, x)
        empty = plane.array.fill_value
        seems_empty = pixels.flat[0] == empty and (pixels == empty).all()
        if seems_empty and not is_there(self.path, plane.array):
            raise FileNotFoundError(errno.ENOENT, "its folder is not there")
        return pixels


def _interleaved(pixels: Pixels) -> Pixels:
    """Return pixels (h, w, C) with the channels of a pixel side by side.

    Up to a handful of planes, one after the other is three times as fast.
    """
    if pixels.flags.c_contiguous or pixels.shape[2] > FEW:
        return np.ascontiguousarray(pixels)
    return np.stack([pixels[:, :, c] for c in range(pixels.shape[2])], axis=2)


def _span(number: int, side: int, end: int) -> slice:
    return slice(number * side, min((number + 1) * side, end))


def _overlaps(
    wanted: slice, side: int, end: int
) -> Iterator[tuple[int, slice, slice, slice]]:
    """Yield each chunk along one axis that overlaps what is wanted.

    Its number, where it lies, its part of what is wanted, and that part of the chunk.
    """
    for number in range(wanted.start // side, -(-wanted.stop // side)):
        chunk = _span(number, side, end)
        start, stop = max(wanted.start, chunk.start), min(wanted.stop, chunk.stop)
        yield (
            number,
            chunk,
            slice(start - wanted.start, stop - wanted.start),
            slice(start - chunk.start, stop - chunk.start),
        )


def _levels(series: Series, name: str) -> tuple[list[Plane], list[Level]]:
    """Return the levels that lie on the first, finest first."""
    finest, first = series.finest(), series.image.levels[0]
    found: dict[tuple[int, int], tuple[Plane, Level]] = {}
    for stored in series.image.levels:
        plane = _plane(series, level_array(series.group, stored.path), finest)
        _check(plane, name)
        whole = _plane(series, finest, finest).shape
        factor = scale_factor(first, stored, whole, plane.shape)
        if lies_on(first, stored, factor):
            tile = _side(plane.chunk[0]), _side(plane.chunk[1])
            level = Level(plane.shape, tile, factor)
            found.setdefault(plane.shape, (plane, level))
    ordered = [found[shape] for shape in sorted(found, key=prod, reverse=True)]
    if ordered[0][1].shape != whole:
        raise SlideError(
            f"{name} names a level of {whole[0]:,} x {whole[1]:,} px before a larger "
            "one: write its multiscales from fine to coarse."
        )
    return [plane for plane, _ in ordered], [level for _, level in ordered]


def _plane(series: Series, array: Any, finest: Any) -> Plane:
    axes, z = series.image.axes, series.image.default_z
    if "z" not in axes or array.ndim != len(axes):
        return Plane(array, axes, 0)
    here, whole = array.shape[axes.index("z")], finest.shape[axes.index("z")]
    shown = whole // 2 if z is None else min(max(z, 0), whole - 1)
    return Plane(array, axes, shown * here // whole)


def _check(plane: Plane, name: str) -> None:
    """Raise SlideError where an array cannot be a level of a slide."""
    array, axes = plane.array, plane.axes
    if array.ndim != len(axes) or 0 in array.shape:
        raise SlideError(
            f"{name} states the axes {axes} for an array of {array.shape}: its "
            "metadata is wrong; write it anew."
        )
    lengths = dict(zip(axes, array.shape, strict=True))
    if lengths.get("t", 1) > 1:
        raise SlideError(
            f"{name} is a film of {lengths['t']} times, not a slide (its axes: "
            f"{lengths}): save one time as an image."
        )
    if array.dtype.kind not in KINDS:
        raise SlideError(
            f"{name} holds {array.dtype}; whole and real numbers are read."
        )
    size = plane.chunk[0] * plane.chunk[1] * plane.channels * array.dtype.itemsize
    if size > MOST_CHUNK_BYTES:
        raise SlideError(
            f"{name} is stored in chunks of {plane.chunk[0]:,} x {plane.chunk[1]:,} px "
            f"({size / 2**30:.1f} GiB): write it anew with chunks of 512 or 1024 px."
        )


def _side(chunk: int) -> int:
    """Return a tile's side: a chunk's, or whole chunks, or a part of one."""
    least, most = TILE_PX
    if chunk > most:
        return -(-chunk // -(-chunk // most))
    return chunk * -(-least // chunk)


def _facts(
    path: Path, slides: list[Series], planes: list[Plane], levels: list[Level]
) -> SlideFacts:
    image, channels = slides[0].image, planes[0].channels
    dtype = planes[0].array.dtype.newbyteorder("=")
    arrays = [plane.array for plane in planes]
    return SlideFacts(
        path=path,
        reader="zarr",
        levels=tuple(levels),
        resolution=from_file(image.mpp, "OME-Zarr scale"),
        fingerprint=content_fingerprint(path, slides[0].group, arrays),
        channels=channels,
        dtype=dtype,
        properties=_properties(image, arrays[0]),
        rgb=shows_colour(image, channels, dtype.name),
        channel_names=_each(image.channel_names, channels),
        channel_colors=_each(image.channel_colors, channels),
    )


def _each(words: tuple[str, ...], channels: int) -> tuple[str, ...]:
    """Return what is said of the channels if it is said of each."""
    return words if len(words) == channels else ()


def _properties(image: Multiscale, array: Any) -> dict[str, str]:
    stated = {
        "vendor": "ome-zarr",
        "version": image.version,
        "compression": ", ".join(map(_codec, array.compressors)) or "none",
    }
    return {key: value for key, value in stated.items() if value}


def _codec(codec: Any) -> str:
    """Return a codec's name: "zstd", "blosc (lz4)"."""
    stated = getattr(codec, "codec_id", None) or codec.to_dict()["name"]
    inner = getattr(codec, "cname", None)
    return f"{stated} ({getattr(inner, 'value', inner)})" if inner else str(stated)


def _choice(slides: list[Series], plane: Plane) -> dict[str, str]:
    """Return which image and focal plane is shown, where there is a choice."""
    chosen = {}
    if len(slides) > 1:
        chosen["image"] = f"the largest of {len(slides)}"
    planes = plane.array.shape[plane.axes.index("z")] if "z" in plane.axes else 1
    if planes > 1:
        chosen["focal plane"] = f"{plane.z + 1} of {planes}"
    return chosen
