"""Slides of the TIFF family, decoded straight from their tiles.

tifffile reads the structure, imagecodecs the tiles: five to six times OpenSlide's
rate. Aperio SVS, generic tiled pyramids and OME-TIFF are read here; what this reader
cannot read it refuses, and `open_slide` tries the next.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from napari_gimp.errors import SlideError
from napari_gimp.slide.factors import level_factors
from napari_gimp.slide.fingerprint import fingerprint
from napari_gimp.slide.source import Level, Pixels
from napari_gimp.slide.tiff_tags import main_levels, properties, resolution
from napari_gimp.slide.tiled import SlideFacts, TiledSource

JPEG = 7
APERIO_J2K_YCBCR = 33003
Decoder = Callable[[bytes, int], Pixels]


@dataclass(frozen=True, slots=True)
class Plane:
    """One stored plane of a level: where its tiles lie and how they decode."""

    offsets: tuple[int, ...]
    counts: tuple[int, ...]
    first: int
    decode: Decoder


@dataclass(frozen=True, slots=True)
class TiffLevel:
    """The planes of a level, and its number of tile columns."""

    planes: tuple[Plane, ...]
    columns: int


class TiffSource(TiledSource):
    """A tiled TIFF slide.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    SlideError
        If the file is no TIFF, is not tiled, or holds what this reader cannot
        decode; the text names the reason.
    """

    def __init__(self, path: Path) -> None:
        import tifffile

        try:
            self._tiff = tifffile.TiffFile(path)
        except (tifffile.TiffFileError, ValueError, OSError) as error:
            raise SlideError(f"{path.name} is no readable TIFF: {error}.") from error
        try:
            self._open(path)
        except BaseException:
            self._tiff.close()
            raise

    def _open(self, path: Path) -> None:
        pages = main_levels(self._tiff, path.name)
        super().__init__(_facts(self._tiff, path, pages))
        self._plans = [_plan(level) for level in pages]
        self._file = _Bytes(path)
        try:
            self._probe()
        except BaseException:
            self._file.close()
            raise

    def decode_tile(self, level: int, row: int, col: int) -> Pixels:
        """Return one native tile (h, w, C), cut off at the edge of the level."""
        spec, plan = self.levels[level], self._plans[level]
        index = row * plan.columns + col
        height = min(spec.tile[0], spec.shape[0] - row * spec.tile[0])
        width = min(spec.tile[1], spec.shape[1] - col * spec.tile[1])
        if plan.planes[0].counts[index] == 0:  # scanners leave empty glass out
            return np.full((height, width, self.channels), self.fill, self.dtype)
        try:
            planes = [self._decode_plane(plane, index) for plane in plan.planes]
        except Exception as error:  # each codec raises its own kind
            raise self._damaged(level, row, col, error) from error
        tile = planes[0] if len(planes) == 1 else np.concatenate(planes, axis=2)
        return tile[:height, :width, : self.channels]

    def read_associated(self, name: str) -> Pixels:
        """Return the label, macro or thumbnail image (height, width, channels).

        Raises
        ------
        SlideError
            If the slide has no such image.
        """
        self._check_open()
        series = {s.name.lower(): s for s in self._tiff.series[1:]}
        if name not in self.associated:
            raise SlideError(
                f"{self.path.name} has no image called {name!r}; it has "
                f"{', '.join(self.associated) or 'none'}."
            )
        pixels: Pixels = np.atleast_3d(series[name].asarray())
        return pixels

    def close(self) -> None:
        """Release file handles and cached tiles."""
        super().close()
        self._file.close()
        self._tiff.close()

    def _decode_plane(self, plane: Plane, index: int) -> Pixels:
        index += plane.first
        stored = self._file.read(plane.offsets[index], plane.counts[index])
        return plane.decode(stored, index)

    def _probe(self) -> None:
        """Decode tiles until one can be, so that a foreign codec shows at once.

        A slide with some damaged tiles is still worth opening.
        """
        errors = []
        for number in reversed(range(len(self.levels))):
            rows, cols = self.levels[number].shape
            tile = self.levels[number].tile
            place = rows // 2 // tile[0], cols // 2 // tile[1]
            try:
                return self._check_kind(self.decode_tile(number, *place))
            except SlideError as error:
                errors.append(error)
        raise errors[-1]

    def _check_kind(self, tile: Pixels) -> None:
        if tile.dtype != self.dtype or tile.shape[2] != self.channels:
            raise SlideError(
                f"{self.path.name} has tiles of {tile.shape[2]} x {tile.dtype}, but "
                f"states {self.channels} x {self.dtype}."
            )


class _Bytes:
    """Positioned reads from one file, safe from several threads."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb", buffering=0)
        self._lock = threading.Lock()

    def read(self, offset: int, count: int) -> bytes:
        if hasattr(os, "pread"):
            return os.pread(self._file.fileno(), count, offset)
        with self._lock:  # Windows
            self._file.seek(offset)
            return self._file.read(count)

    def close(self) -> None:
        self._file.close()


def _facts(tiff: Any, path: Path, levels: list[list[Any]]) -> SlideFacts:
    pages = [planes[0] for planes in levels]
    shapes = [(page.imagelength, page.imagewidth) for page in pages]
    tiles = [(page.tilelength, page.tilewidth) for page in pages]
    first = pages[0]
    return SlideFacts(
        path=path,
        reader="tifffile",
        levels=tuple(map(Level, shapes, tiles, level_factors(shapes))),
        resolution=resolution(tiff),
        fingerprint=fingerprint(path),
        channels=len(levels[0]) * min(first.samplesperpixel, 3),
        dtype=np.dtype(first.dtype.newbyteorder("=")),
        properties=properties(tiff),
        associated=_associated(tiff),
        rgb=len(levels[0]) == 1 and first.samplesperpixel >= 3,
        icc=first.iccprofile,
    )


def _associated(tiff: Any) -> tuple[str, ...]:
    names = (series.name.lower() for series in tiff.series[1:])
    return tuple(n for n in names if n in ("label", "macro", "thumbnail"))


def _plan(pages: list[Any]) -> TiffLevel:
    columns = -(-pages[0].imagewidth // pages[0].tilewidth)
    if pages[0].planarconfig == 1 or pages[0].samplesperpixel == 1:
        return TiffLevel(tuple(_plane(page, 0) for page in pages), columns)
    page, rows = pages[0], -(-pages[0].imagelength // pages[0].tilelength)
    firsts = range(0, page.samplesperpixel * rows * columns, rows * columns)
    return TiffLevel(tuple(_plane(page, first) for first in firsts), columns)


def _plane(page: Any, first: int) -> Plane:
    return Plane(page.dataoffsets, page.databytecounts, first, _decoder(page))


def _decoder(page: Any) -> Decoder:
    """Return a function from a tile's bytes and index to pixels (h, w, S).

    JPEG in 8 bits, the bulk of all slides, goes to the codec directly: tifffile's
    own wrapper costs a tenth of the time.
    """
    if page.compression == JPEG and page.bitspersample == 8:
        return _jpeg_decoder(page)
    decode = partial(_decode_by_tifffile, page.decode, page.jpegtables)
    if page.compression == APERIO_J2K_YCBCR:
        return lambda data, index: ycbcr_to_rgb(decode(data, index))
    return decode


def _jpeg_decoder(page: Any) -> Decoder:
    import imagecodecs
    from tifffile.tifffile import jpeg_decode_colorspace

    stored, wanted = jpeg_decode_colorspace(
        page.photometric, page.planarconfig, page.extrasamples, page.is_jfif
    )
    decode = partial(
        imagecodecs.jpeg8_decode,
        tables=page.jpegtables,
        colorspace=stored,
        outcolorspace=wanted,
    )

    def decode_jpeg(data: bytes, index: int) -> Pixels:
        pixels: Pixels = decode(data)
        return pixels if pixels.ndim == 3 else pixels[:, :, None]

    return decode_jpeg


def _decode_by_tifffile(
    decode: Callable[..., Any], tables: bytes | None, data: bytes, index: int
) -> Pixels:
    pixels: Pixels = decode(data, index, jpegtables=tables)[0][0]
    return np.array(pixels, pixels.dtype.newbyteorder("="), order="C")


def ycbcr_to_rgb(pixels: Pixels) -> Pixels:
    """Return RGB (h, w, 3) of full-range YCbCr uint8 (ITU-R BT.601, as in JFIF)."""
    y, cb, cr = np.moveaxis(pixels.astype(np.float32), 2, 0)
    cb, cr = cb - 128, cr - 128
    rgb = np.stack(
        (y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb), axis=2
    )
    rounded: Pixels = np.clip(np.rint(rgb), 0, 255).astype(np.uint8)
    return rounded
