"""OME-Zarr images 0.4 (zarr v2) and 0.5 (zarr v3), read through zarr."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_gimp.errors import SlideError
from napari_gimp.slide.ome_zarr_metadata import (
    Multiscale,
    lies_on,
    multiscale,
    ome_block,
    scale_factor,
    shows_colour,
)
from napari_gimp.slide.ome_zarr_store import content_fingerprint, is_zarr, open_group
from napari_gimp.slide.resolution import from_file
from napari_gimp.slide.source import Level, Pixels
from napari_gimp.slide.tiled import SlideFacts, TiledSource

TILE_PX = (256, 1024)
"""Least and most px of a tile's side; smaller chunks are joined, larger ones cut."""
KINDS = "uif"


@dataclass(frozen=True, slots=True)
class Layout:
    """Where an array's axes are, and which focal plane is shown."""

    axes: str
    z: int

    def index(self, y: slice, x: slice) -> tuple[slice | int, ...]:
        """Return what to ask zarr for: all channels of a rectangle."""
        at: dict[str, slice | int] = {
            "t": 0, "z": self.z, "c": slice(None), "y": y, "x": x,
        }  # fmt: skip
        return tuple(at[axis] for axis in self.axes)

    def arranged(self, stored: Pixels) -> Pixels:
        """Return pixels (h, w, C) of what zarr gave for `index`."""
        kept = [axis for axis in self.axes if axis in "cyx"]
        if "c" not in kept:
            stored, kept = stored[None], ["c", *kept]
        turned = stored.transpose([kept.index(axis) for axis in "yxc"])
        return np.ascontiguousarray(turned)


def is_ome_zarr(path: Path) -> bool:
    """Whether a folder or zip file holds zarr; what kind shows on opening."""
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
        The folder, or a zip file of it; with several images, the largest is read.

    Raises
    ------
    SlideError
        If it is no OME-Zarr image, is damaged, or holds what is not read.
    """

    def __init__(self, path: Path) -> None:
        series = _series(open_group(path), path.name)
        group = series[0]
        image = multiscale(ome_block(dict(group.attrs)), path.name)
        arrays = [_array(group, stored.path, path.name) for stored in image.levels]
        _check(arrays[0], image, path.name)
        kept, levels = _levels(arrays, image)
        self._arrays = kept
        self._layouts = [_layout(image, arrays[0], array) for array in kept]
        super().__init__(_facts(path, group, image, kept, levels))

    def decode_tile(self, level: int, row: int, col: int) -> Pixels:
        """Return one tile (h, w, C), cut off at the edge of the level."""
        spec = self.levels[level]
        y, x = row * spec.tile[0], col * spec.tile[1]
        y1, x1 = (
            min(y + spec.tile[0], spec.shape[0]),
            min(x + spec.tile[1], spec.shape[1]),
        )
        layout = self._layouts[level]
        try:
            stored = self._arrays[level][layout.index(slice(y, y1), slice(x, x1))]
        except OSError as error:
            raise self._gone(error) from error
        except Exception as error:  # each codec raises its own kind
            raise self._damaged(level, row, col, error) from error
        return layout.arranged(stored.astype(self.dtype, copy=False))

    def read_associated(self, name: str) -> Pixels:
        """Raise SlideError: no such image is known in this format."""
        self._check_open()
        raise SlideError(f"{self.path.name} has no image called {name!r}; it has none.")

    def _gone(self, error: Exception) -> SlideError:
        return SlideError(
            f"{self.path.name} can no longer be read ({error}): check that its drive "
            "is connected, then open the slide again."
        )


def _series(root: Any, name: str) -> list[Any]:
    """Return the groups that hold an image."""
    block = ome_block(dict(root.attrs))
    for kind in ("plate", "well"):
        if kind in block:
            raise SlideError(
                f"{name} is a {kind} of many images, not a slide: give the folder of "
                "one of its images."
            )
    if "multiscales" in block:
        return [root]
    found = [group for _, group in root.groups() if _has_image(group)]
    if not found:
        raise SlideError(
            f"{name} is zarr but no OME-Zarr image: it has no multiscales metadata; "
            "write it with an OME-Zarr writer (0.4 or 0.5)."
        )
    return found


def _has_image(group: Any) -> bool:
    return "multiscales" in ome_block(dict(group.attrs))


def _array(group: Any, path: str, name: str) -> Any:
    try:
        return group[path]
    except Exception as error:  # each kind of damage raises another
        raise SlideError(
            f"{name} has no readable level {path!r} ({error}): it is incomplete; copy "
            "it again from its source."
        ) from error


def _check(array: Any, image: Multiscale, name: str) -> None:
    if array.ndim != len(image.axes):
        raise SlideError(
            f"{name} states {len(image.axes)} axes ({image.axes}) for arrays of "
            f"{array.ndim}: write its metadata anew."
        )
    lengths = dict(zip(image.axes, array.shape, strict=True))
    if lengths.get("t", 1) > 1:
        raise SlideError(
            f"{name} is a series of {lengths['t']} times, not a slide (axes {lengths})."
        )
    if array.dtype.kind not in KINDS:
        raise SlideError(
            f"{name} holds {array.dtype}; whole and real numbers are read."
        )


def _levels(arrays: list[Any], image: Multiscale) -> tuple[list[Any], list[Level]]:
    """Return the arrays that lie on the first, finest first, and their levels."""
    shapes = [_yx(array.shape, image.axes) for array in arrays]
    kept, levels = [], []
    for array, stored, shape in zip(arrays, image.levels, shapes, strict=True):
        factor = scale_factor(image.levels[0], stored, shapes[0], shape)
        if lies_on(image.levels[0], stored, factor):
            kept.append(array)
            chunk = _yx(array.chunks, image.axes)
            levels.append(Level(shape, (_side(chunk[0]), _side(chunk[1])), factor))
    return kept, levels


def _yx(sides: tuple[int, ...], axes: str) -> tuple[int, int]:
    return sides[axes.index("y")], sides[axes.index("x")]


def _side(chunk: int) -> int:
    """Return a tile's side: a chunk's, or whole chunks, or a part of one."""
    least, most = TILE_PX
    if chunk > most:
        return -(-chunk // -(-chunk // most))
    return chunk * -(-least // chunk)


def _layout(image: Multiscale, finest: Any, array: Any) -> Layout:
    if "z" not in image.axes:
        return Layout(image.axes, 0)
    at = image.axes.index("z")
    z = image.default_z if image.default_z is not None else finest.shape[at] // 2
    return Layout(image.axes, z * array.shape[at] // finest.shape[at])


def _facts(
    path: Path, group: Any, image: Multiscale, arrays: list[Any], levels: list[Level]
) -> SlideFacts:
    first = arrays[0]
    channels = first.shape[image.axes.index("c")] if "c" in image.axes else 1
    dtype = first.dtype.newbyteorder("=")
    fitting = len(image.channel_names) in (0, channels)
    return SlideFacts(
        path=path,
        reader="zarr",
        levels=tuple(levels),
        resolution=from_file(image.mpp, "OME-Zarr scale"),
        fingerprint=content_fingerprint(path, path / group.path, arrays),
        channels=channels,
        dtype=dtype,
        properties={"vendor": "ome-zarr"},
        rgb=shows_colour(image, channels, dtype.name),
        channel_names=image.channel_names if fitting else (),
        channel_colors=image.channel_colors if fitting else (),
    )
