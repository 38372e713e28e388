"""Plain pictures: PNG, JPEG and TIFF in strips, decoded by bands of rows.

A picture has no tiles, so that one tile of 512 px may need a whole band, or the
whole picture. Bands are kept within a budget of bytes and decoded once for all tiles
on them.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np

from napari_gimp.errors import SlideError, TileError
from napari_gimp.slide.flat_picture import WholePicture
from napari_gimp.slide.source import Pixels
from napari_gimp.slide.tiff_colour import ForeignKindError
from napari_gimp.slide.tiff_strips import StripPicture
from napari_gimp.slide.tiled import SlideFacts, TiledSource
from napari_gimp.slide.tiles import TileCache

TILE = 512
MAX_BAND_BYTES = 1_200_000_000
"""Of decoded pixels that must be in memory at once: 400 million of RGB."""
KEPT_BYTES = 1 << 28
"""Of bands kept for the tiles beside; a single band is always kept."""
DECODED_AT_ONCE = 1 << 26
"""Bytes of a band up to which one is decoded at opening, to know that it can be."""
TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


class Picture(Protocol):
    """A picture that is decoded by whole rows."""

    facts: SlideFacts
    band_rows: int
    """Rows that are best decoded at once."""

    def decode(self, y0: int, y1: int) -> Pixels:
        """Return the rows from y0 up to, not with, y1 (h, w, C)."""
        ...

    def close(self) -> None:
        """Release the file."""
        ...


class FlatSource(TiledSource):
    """A plain picture; it is decoded when its pixels are first wanted.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    SlideError
        If it is no picture, is damaged, or needs more than `MAX_BAND_BYTES` at once.
    """

    def __init__(self, path: Path) -> None:
        self._picture = _opened(path)
        try:
            super().__init__(self._picture.facts)
            band = self._check_size()
            self._bands = TileCache(max(KEPT_BYTES, band))
            self._failed: dict[int, str] = {}
            if band <= DECODED_AT_ONCE:
                self._probe()
        except BaseException:
            self._picture.close()
            raise

    def decode_tile(self, level: int, row: int, col: int) -> Pixels:
        """Return one square (h, w, C) of the picture, cut off at its edge."""
        y0, x = row * TILE, col * TILE
        y1, rows = min(y0 + TILE, self.levels[0].shape[0]), self._picture.band_rows
        parts = [
            self._band(band)[max(y0 - band * rows, 0) : y1 - band * rows, x : x + TILE]
            for band in range(y0 // rows, -(-y1 // rows))
        ]
        if rows >= self.levels[0].shape[0]:
            return parts[0]  # a view: the one band stays as long as the picture
        return np.concatenate(parts)

    def close(self) -> None:
        """Release the file and the pixels."""
        super().close()
        self._bands.clear()
        self._picture.close()

    def _band(self, band: int) -> Pixels:
        """Return the rows of a band (h, w, C), read-only.

        Raises
        ------
        TileError
            If they cannot be decoded; it is not tried again for each tile on it.
        """
        if band in self._failed:
            raise TileError(self._failed[band])
        try:
            return self._bands.fetch((band,), partial(self._decode, band))
        except TileError as error:
            self._failed[band] = str(error)
            raise

    def _decode(self, band: int) -> Pixels:
        rows, height = self._picture.band_rows, self.levels[0].shape[0]
        y0, y1 = band * rows, min((band + 1) * rows, height)
        try:
            return self._picture.decode(y0, y1)
        except (SlideError, OSError) as error:
            if isinstance(error, SlideError) or error.errno is not None:
                raise  # the file is gone, not damaged
            raise self._torn(y0, y1, error) from error
        except Exception as error:  # each codec raises its own kind
            raise self._torn(y0, y1, error) from error

    def _torn(self, y0: int, y1: int, why: object) -> TileError:
        return TileError(
            f"{self.path.name} is damaged: its rows {y0:,} to {y1:,} cannot be decoded "
            f"({why}); copy the file again from its source."
        )

    def _probe(self) -> None:
        """Decode a band, the middle one first, so that a foreign codec shows at once.

        Raises
        ------
        SlideError
            If none of five bands can be decoded.
        """
        bands = -(-self.levels[0].shape[0] // self._picture.band_rows)
        places = {bands * share // 8: None for share in (4, 0, 2, 6)} | {
            bands - 1: None
        }
        errors: list[TileError] = []
        for band in places:
            try:
                self._band(band)
            except TileError as error:
                errors.append(error)
            else:
                return
        raise errors[0]

    def _check_size(self) -> int:
        """Return the bytes of a band."""
        height, width = self.levels[0].shape
        rows = min(self._picture.band_rows, height)
        size = rows * width * self.channels * self.dtype.itemsize
        if size > MAX_BAND_BYTES:
            raise SlideError(
                f"{self.path.name} is a picture of {height:,} x {width:,} px of which "
                f"{size / 1e9:,.1f} GB must be decoded at once; up to "
                f"{MAX_BAND_BYTES / 1e9:,.1f} GB are read: convert it to a tiled "
                f'pyramid, with "vips tiffsave {self.path.name} OUT.tif --tile '
                '--pyramid".'
            )
        return size


def _opened(path: Path) -> Picture:
    """Return the picture, a TIFF by Pillow only if tifffile cannot read its kind.

    Pillow makes pictures of damaged TIFFs that are whole to look at.
    """
    with path.open("rb") as file:
        head = file.read(4)
    if head not in TIFF_MAGIC:
        return WholePicture(path, TILE)
    try:
        return StripPicture(path, TILE)
    except ForeignKindError as error:
        try:
            return WholePicture(path, TILE)
        except SlideError:
            raise error from None
