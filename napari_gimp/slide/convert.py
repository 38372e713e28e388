"""Write any readable slide as a tiled, pyramidal OME-TIFF.

A plain picture, or a slide whose levels lie far apart, gets virtual levels in memory
each time it is opened. Converted, they are on disk: that is done only when asked.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import count, islice, takewhile
from pathlib import Path
from typing import Any

import numpy as np

from napari_gimp.errors import SlideError
from napari_gimp.slide.averages import block_means
from napari_gimp.slide.source import Pixels, SlideSource
from napari_gimp.slide.tile_codec import TileCodec, tile_codec

Progress = Callable[[int, int], None]
AHEAD = 4
"""Tiles in work for each thread: enough to keep it busy, few in memory."""
CLASSIC_BYTES = 2**32 - 2**25
"""What the offsets of a classic TIFF reach, less some room for tags."""


def convert(
    source: SlideSource,
    out: Path,
    *,
    compression: str = "jpeg",
    quality: int = 90,
    tile: int = 512,
    overwrite: bool = False,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Path:
    """Write a slide as an OME-TIFF whose levels are 2x apart, and return its path.

    Pixels, um/px, names and colours of channels and the colour profile are kept;
    labels, dates and names of patients are not. Damaged tiles are written as empty:
    see `source.damage` afterwards. Nothing is left at `out` unless the file is whole.
    Memory holds a few rows of tiles; the folder of `out` needs twice the file's size.

    Parameters
    ----------
    source
        The slide; where it converts to sRGB, that is what is written.
    out
        The file to write, "....ome.tif" or "....tif"; its folder must exist.
    compression
        "jpeg" (8 bits, with losses), "deflate" or "none" (all kinds, without).
    quality
        Of JPEG, 1 to 100; from 90 on colour has the full resolution.
    tile
        Side of a tile, px: a multiple of 16.
    overwrite
        Whether a file that is there already may be replaced.
    progress
        Called with tiles of the finest level done, and in all.
    cancelled
        Asked after each tile; once it says True, nothing is written.

    Raises
    ------
    SlideError
        If the file exists, cannot be written, or cannot hold such pixels; if the
        slide can no longer be read; or if the conversion was cancelled.
    """
    steps = conversion(
        source,
        out,
        compression=compression,
        quality=quality,
        tile=tile,
        overwrite=overwrite,
    )
    for done, total in steps:
        if progress is not None:
            progress(done, total)
        if cancelled is not None and cancelled():
            steps.close()
            raise SlideError(
                f"The conversion to {out.name} was cancelled after {done} of {total} "
                "tiles; nothing was written."
            )
    return out


def conversion(
    source: SlideSource,
    out: Path,
    *,
    compression: str = "jpeg",
    quality: int = 90,
    tile: int = 512,
    overwrite: bool = False,
) -> Generator[tuple[int, int], None, None]:
    """Convert step by step; see `convert`. Closed before its end, it leaves nothing.

    Yields
    ------
    tuple
        Tiles of the finest level done, and in all.
    """
    codec = tile_codec(compression, quality, source, tile)
    _check_free(out, overwrite)
    if out.resolve() == source.path.resolve():
        raise SlideError(f"{out} is the slide itself: give another name.")
    with _errors_of_writing(out), _unfinished(out) as (part, spool):
        levels = _levels(source, codec)
        yield from _encode_all(source, levels, codec, spool)
        _write(part, source, levels, codec, spool)
        _check_free(out, overwrite)
        part.replace(out)


class _Spool:
    """Encoded tiles in a temporary file, by level and plane in the order added."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._places: dict[tuple[int, int], list[tuple[int, int]]] = {}
        self.size = 0

    def add(self, level: int, tiles: list[bytes]) -> None:
        """Keep one tile: its planes."""
        for plane, tile in enumerate(tiles):
            self._places.setdefault((level, plane), []).append((self.size, len(tile)))
            self._file.write(tile)
            self.size += len(tile)

    def read(self, level: int) -> Iterator[bytes]:
        """Yield the tiles of a level, plane by plane."""
        for plane in takewhile(lambda n: (level, n) in self._places, count()):
            for offset, size in self._places[level, plane]:
                self._file.seek(offset)
                yield self._file.read(size)


class _Level:
    """A level while it is written: its shape, and the row of tiles being gathered."""

    def __init__(self, shape: tuple[int, int], source: SlideSource, side: int) -> None:
        self.shape = shape
        self.rows, self.cols = (-(-length // side) for length in shape)
        self._side = side
        self._row = (side, shape[1], source.channels)
        self._dtype = source.dtype
        self._pixels: Pixels | None = None

    def put(self, row: int, col: int, pixels: Pixels) -> None:
        """Take the means of a tile (row, col) of the level before."""
        if self._pixels is None:
            self._pixels = np.empty(self._row, self._dtype)
        y, x = row % 2 * self._side // 2, col * self._side // 2
        self._pixels[y : y + pixels.shape[0], x : x + pixels.shape[1]] = pixels

    def tile(self, row: int, col: int) -> Pixels:
        """Return a tile of the row that was gathered, cut off at the edge."""
        assert self._pixels is not None
        height, x = self.shape[0] - row * self._side, col * self._side
        return self._pixels[:height, x : x + self._side]


def _levels(source: SlideSource, codec: TileCodec) -> list[_Level]:
    """Return the levels to write, each half the one before, down to one tile."""
    shapes = [source.levels[0].shape]
    while max(shapes[-1]) > codec.side:
        shapes.append((-(-shapes[-1][0] // 2), -(-shapes[-1][1] // 2)))
    return [_Level(shape, source, codec.side) for shape in shapes]


class _Encoder:
    """Encodes the levels of a slide from one reading of its finest."""

    def __init__(
        self, source: SlideSource, levels: list[_Level], codec: TileCodec
    ) -> None:
        self._source, self._levels, self._codec = source, levels, codec
        self._planes = 1 if source.rgb else source.channels

    def tile(self, number: int, row: int, col: int) -> list[bytes]:
        """Return the encoded planes of a tile; its means go to the next level."""
        pixels = self._pixels(number, row, col)
        if number + 1 < len(self._levels):
            self._levels[number + 1].put(row, col, block_means(pixels, 2))
        side = self._codec.side
        rest = [(0, side - length) for length in pixels.shape[:2]]
        whole = np.pad(pixels, (*rest, (0, 0)), mode="edge")
        planes = np.split(whole, self._planes, axis=2)
        return [self._codec.encode(np.ascontiguousarray(plane)) for plane in planes]

    def _pixels(self, number: int, row: int, col: int) -> Pixels:
        if number:
            return self._levels[number].tile(row, col)
        side, (height, width) = self._codec.side, self._levels[0].shape
        y, x = row * side, col * side
        return self._source.read_region(
            0, y, x, min(side, height - y), min(side, width - x)
        )


def _encode_all(
    source: SlideSource, levels: list[_Level], codec: TileCodec, spool: _Spool
) -> Iterator[tuple[int, int]]:
    """Encode row after row of the finest level and what is whole above it."""
    encoder, total = _Encoder(source, levels, codec), levels[0].rows * levels[0].cols
    threads = (os.cpu_count() or 1) if source.thread_safe else 1
    pool = ThreadPoolExecutor(threads, thread_name_prefix="gimp-decode-convert")
    done = 0
    try:
        for row in range(levels[0].rows):
            for number, tiles in _whole_rows(encoder, levels, row, pool, threads):
                spool.add(number, tiles)
                if number == 0:
                    done += 1
                    yield done, total
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _whole_rows(
    encoder: _Encoder,
    levels: list[_Level],
    row: int,
    pool: ThreadPoolExecutor,
    threads: int,
) -> Iterator[tuple[int, list[bytes]]]:
    """Yield level and tiles of a row of the finest, then of rows that it completes."""
    for number, level in enumerate(levels):
        work = [partial(encoder.tile, number, row, col) for col in range(level.cols)]
        for tiles in _in_order(work, pool, threads * AHEAD):
            yield number, tiles
        if row % 2 == 0 and row + 1 < level.rows:
            return
        row //= 2


def _in_order(
    work: Sequence[Callable[[], list[bytes]]], pool: ThreadPoolExecutor, ahead: int
) -> Iterator[list[bytes]]:
    """Yield the results of the work in its order, some of it being done ahead."""
    submitted = (pool.submit(one) for one in work)
    flying: deque[Future[list[bytes]]] = deque(islice(submitted, ahead))
    while flying:
        yield flying.popleft().result()
        flying.extend(islice(submitted, 1))


def _write(
    path: Path,
    source: SlideSource,
    levels: list[_Level],
    codec: TileCodec,
    spool: _Spool,
) -> None:
    """Put the encoded levels into a TIFF, the smaller ones as sub-images."""
    import tifffile

    with tifffile.TiffWriter(
        path, bigtiff=spool.size > CLASSIC_BYTES, ome=True
    ) as tiff:
        for number, level in enumerate(levels):
            tiff.write(
                spool.read(number),
                shape=_stored_shape(source, level.shape),
                dtype=source.dtype,
                photometric="rgb" if source.rgb else "minisblack",
                tile=(codec.side, codec.side),
                subifds=len(levels) - 1 if number == 0 else None,
                subfiletype=int(number > 0),
                metadata=_metadata(source) if number == 0 else None,
                iccprofile=None if source.srgb else source.icc,
                **codec.tags,
                **_resolution(source, number),
            )


def _stored_shape(source: SlideSource, shape: tuple[int, int]) -> tuple[int, ...]:
    if source.rgb:
        return *shape, source.channels
    return shape if source.channels == 1 else (source.channels, *shape)


def _resolution(source: SlideSource, number: int) -> dict[str, Any]:
    if source.resolution.mpp is None:
        return {}
    y, x = (2**number * side for side in source.resolution.mpp)
    return {"resolution": (1e4 / x, 1e4 / y), "resolutionunit": "CENTIMETER"}


def _metadata(source: SlideSource) -> dict[str, Any]:
    """Return what the OME block says: um/px, names and colours of channels."""
    stated: dict[str, Any] = {"axes": "YXS" if source.rgb else "CYX"}
    if not source.rgb and source.channels == 1:
        stated["axes"] = "YX"
    if source.resolution.mpp is not None:
        for axis, side in zip("YX", source.resolution.mpp, strict=True):
            stated |= {f"PhysicalSize{axis}": side, f"PhysicalSize{axis}Unit": "µm"}
    channel: dict[str, Any] = {}
    if source.channel_names and not source.rgb:
        channel["Name"] = list(source.channel_names)
    if source.channel_colors and not source.rgb:
        channel["Color"] = [_ome_color(color) for color in source.channel_colors]
    return stated | ({"Channel": channel} if channel else {})


def _ome_color(color: str) -> int:
    """Return "#rrggbb" as OME's signed 32-bit number RGBA, opaque."""
    rgba = int(color[1:7], 16) << 8 | 0xFF
    return rgba - 2**32 if rgba >= 2**31 else rgba


def _check_free(out: Path, overwrite: bool) -> None:
    if out.exists() and not (overwrite and out.is_file()):
        raise SlideError(f"{out} exists already: give another name, or --overwrite.")


@contextmanager
def _errors_of_writing(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SlideError(
            f"{out} cannot be written ({error.strerror or error}); nothing was kept: "
            "check the folder and the free space on its disk."
        ) from error


@contextmanager
def _unfinished(out: Path) -> Iterator[tuple[Path, _Spool]]:
    """Give a name to write under and a spool beside it; both go in the end."""
    import tempfile

    part = out.with_name(f".{out.name}.partial-{os.getpid()}")
    try:
        with tempfile.TemporaryFile(dir=out.parent) as file:
            yield part, _Spool(file)
    finally:
        part.unlink(missing_ok=True)
