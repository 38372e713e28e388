"""TIFF pictures in strips, read band by band: some rows over the whole width.

What is not compressed is read from any row, however it is cut into strips; a
compressed strip is decoded whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_gimp.errors import SlideError
from napari_gimp.slide.source import Level, Pixels
from napari_gimp.slide.tiff_bytes import FileBytes
from napari_gimp.slide.tiff_codec import Decoder, decoder
from napari_gimp.slide.tiff_colour import look
from napari_gimp.slide.tiff_levels import (
    StoredImage,
    at_border,
    check_page,
    open_tiff,
    stored_image,
)
from napari_gimp.slide.tiff_tags import slide_facts

BAND_ROWS = 512
BAND_BYTES = 1 << 26
"""Rows that are not compressed are read in bands of at most that size."""
NOT_COMPRESSED = 1


@dataclass(frozen=True, slots=True)
class StripPlane:
    """One stored plane: where its strips lie, and how one is decoded.

    Parameters
    ----------
    offsets, counts
        Of each strip, bytes.
    first
        Index of its first strip among those of the page.
    decode
        None where the rows lie as they are.
    """

    offsets: tuple[int, ...]
    counts: tuple[int, ...]
    first: int
    decode: Decoder | None


class StripPicture:
    """A TIFF in strips; see `flat.Picture`.

    Parameters
    ----------
    path
        The file.
    tile
        Side in px of the tiles into which the picture is to be cut.

    Raises
    ------
    SlideError
        If it is no TIFF in strips, or cannot be read here.
    """

    def __init__(self, path: Path, tile: int) -> None:
        tiff = open_tiff(path)
        try:
            at_border(path.name, lambda: self._open(tiff, path, tile))
        finally:
            tiff.close()
        self._file = at_border(path.name, lambda: FileBytes(path))

    def _open(self, tiff: Any, path: Path, tile: int) -> None:
        image = stored_image(tiff, path.name)
        page = image.page
        check_page(image.levels[0], path.name)
        if page.is_tiled:
            raise SlideError(f"{path.name} is a TIFF in tiles, not in strips.")
        seen = look(image.levels[0] * image.planes, path.name)
        self._finish = seen.finish
        shape = page.imagelength, page.imagewidth
        level = Level(shape, (tile, tile), (1.0, 1.0))
        self.facts = slide_facts(tiff, path, image, seen, (level,))
        self._stored = np.dtype(page.dtype).newbyteorder(tiff.byteorder)
        self._samples = page.samplesperpixel if page.planarconfig == 1 else 1
        self._empty = np.iinfo(seen.dtype.str).max if seen.rgb else 0
        self._strip_rows = page.rowsperstrip
        self._planes = _planes(image)
        row_bytes = shape[1] * seen.channels * seen.dtype.itemsize
        self.band_rows = _band_rows(page, row_bytes)

    def decode(self, y0: int, y1: int) -> Pixels:
        """Return the rows from y0 up to, not with, y1 (h, w, C)."""
        planes = [self._rows(plane, y0, y1) for plane in self._planes]
        band = planes[0] if len(planes) == 1 else np.concatenate(planes, axis=2)
        finished = band if self._finish is None else self._finish(band)
        return np.ascontiguousarray(finished, self.facts.dtype)

    def close(self) -> None:
        """Release the file."""
        self._file.close()

    def _rows(self, plane: StripPlane, y0: int, y1: int) -> Pixels:
        rows = self._strip_rows
        parts = [
            self._part(plane, strip, max(y0, strip * rows), min(y1, (strip + 1) * rows))
            for strip in range(y0 // rows, -(-y1 // rows))
        ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _part(self, plane: StripPlane, strip: int, y0: int, y1: int) -> Pixels:
        """Return the rows y0 to y1 of one strip (h, w, S)."""
        index, above = plane.first + strip, strip * self._strip_rows
        offset, count = plane.offsets[index], plane.counts[index]
        width = self.facts.levels[0].shape[1]
        if count == 0:  # left out
            return np.full((y1 - y0, width, self._samples), self._empty, self._stored)
        if plane.decode is not None:
            decoded = plane.decode(self._file.read(offset, count), index)
            return decoded[y0 - above : y1 - above]
        row_bytes = width * self._samples * self._stored.itemsize
        stored = self._file.read(
            offset + (y0 - above) * row_bytes, (y1 - y0) * row_bytes
        )
        return np.frombuffer(stored, self._stored).reshape(y1 - y0, width, -1)


def _planes(image: StoredImage) -> tuple[StripPlane, ...]:
    """Return the planes of a picture: pages, samples apart, or ImageJ's behind."""
    pages, page = image.levels[0], image.page
    if image.planes > 1:
        size = page.nbytes
        behind = range(0, image.planes * size, size)
        return tuple(
            StripPlane((page.dataoffsets[0] + at,), (size,), 0, None) for at in behind
        )
    strips = -(-page.imagelength // page.rowsperstrip)
    apart = page.samplesperpixel if page.planarconfig == 2 else 1
    return tuple(
        StripPlane(page.dataoffsets, page.databytecounts, first * strips, _decode(page))
        for page in pages
        for first in range(apart)
    )


def _decode(page: Any) -> Decoder | None:
    plain = page.compression == NOT_COMPRESSED and page.fillorder == 1
    whole_bytes = page.bitspersample == page.dtype.itemsize * 8
    return None if plain and whole_bytes and page.predictor == 1 else decoder(page)


def _band_rows(page: Any, row_bytes: int) -> int:
    """Return how many rows to decode at once: whole strips, about `BAND_ROWS`."""
    if _decode(page) is None:
        return max(1, min(BAND_ROWS, BAND_BYTES // row_bytes))
    return int(page.rowsperstrip * max(1, BAND_ROWS // page.rowsperstrip))
