"""Slides of the TIFF family, decoded straight from their tiles.

tifffile reads the structure, imagecodecs the tiles: five to six times OpenSlide's
rate. Aperio SVS, generic tiled pyramids and OME-TIFF are read here, in colour or in
separate channels; what this reader cannot read it refuses, and `open_slide` tries
the next.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_gimp.errors import SlideError
from napari_gimp.slide.damage import Place
from napari_gimp.slide.factors import level_factors
from napari_gimp.slide.source import Level, Pixels
from napari_gimp.slide.tiff_bytes import FileBytes
from napari_gimp.slide.tiff_codec import Decoder, decoder
from napari_gimp.slide.tiff_colour import look
from napari_gimp.slide.tiff_levels import (
    StoredImage,
    at_border,
    check_page,
    open_tiff,
    tiled_image,
)
from napari_gimp.slide.tiff_tags import slide_facts
from napari_gimp.slide.tiled import TiledSource

PROBES = 8
"""Tiles tried at opening until one can be decoded."""
MOST_TIMES_RAW = 4
"""A stored tile is never that much larger than its pixels."""


@dataclass(frozen=True, slots=True)
class Plane:
    """One stored plane of a level: where its tiles lie and how they decode."""

    offsets: tuple[int, ...]
    counts: tuple[int, ...]
    first: int
    decode: Decoder


@dataclass(frozen=True, slots=True)
class TiffLevel:
    """The planes of a level, its tile columns, and the most bytes a tile has."""

    planes: tuple[Plane, ...]
    columns: int
    most_bytes: int


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
        self._tiff = open_tiff(path)
        try:
            at_border(path.name, lambda: self._open(path))
            self._file = at_border(path.name, lambda: FileBytes(path))
            self._probe()
        except BaseException:
            self._release()
            raise

    def _open(self, path: Path) -> None:
        self._image = tiled_image(self._tiff, path.name)
        self._look = look(self._image.levels[0], path.name)
        levels = _levels(self._image)
        super().__init__(slide_facts(self._tiff, path, self._image, self._look, levels))
        self._plans = [_plan(pages) for pages in self._image.levels]

    def decode_tile(self, level: int, row: int, col: int) -> Pixels:
        """Return one native tile (h, w, C), cut off at the edge of the level."""
        spec, plan = self.levels[level], self._plans[level]
        index = row * plan.columns + col
        height = min(spec.tile[0], spec.shape[0] - row * spec.tile[0])
        width = min(spec.tile[1], spec.shape[1] - col * spec.tile[1])
        if len(plan.planes) == 1:
            stored = self._stored(plan, plan.planes[0], index)
            if stored is None:  # scanners leave empty glass out
                return self._empty(height, width)
            tile = plan.planes[0].decode(stored, index)
        else:
            tile = self._joined(plan, index, height, width)
        finish = self._look.finish
        tile = tile[:height, :width]
        return tile if finish is None else finish(tile)

    def decode_associated(self, name: str) -> Pixels:
        """Return the label, macro or thumbnail image (height, width, channels).

        Raises
        ------
        SlideError
            If it is damaged.
        """
        try:
            return associated_pixels(self._image.associated[name], name)
        except Exception as error:  # damaged tags break tifffile in every way
            raise SlideError(
                f"The {name} image in {self.path.name} cannot be decoded ({error}): "
                "copy the file again from its source."
            ) from error

    def close(self) -> None:
        """Release file handles and cached tiles."""
        super().close()
        self._release()

    def _release(self) -> None:
        self._tiff.close()
        if hasattr(self, "_file"):
            self._file.close()

    def _stored(self, plan: TiffLevel, plane: Plane, index: int) -> bytes | None:
        """Return the bytes of a tile, None where it was left out."""
        place = plane.first + index
        offset, count = plane.offsets[place], plane.counts[place]
        if count == 0:
            return None
        if count > plan.most_bytes:
            raise ValueError(f"it is said to take {count:,} bytes")
        return self._file.read(offset, count)

    def _joined(self, plan: TiffLevel, index: int, height: int, width: int) -> Pixels:
        """Return the tiles of all planes beside each other (h, w, C)."""
        page = self._image.page
        tile = np.empty((height, width, len(plan.planes)), page.dtype.newbyteorder("="))
        for channel, plane in enumerate(plan.planes):
            stored = self._stored(plan, plane, index)
            if stored is None:
                tile[:, :, channel] = self.fill
            else:
                decoded = plane.decode(stored, plane.first + index)
                tile[:, :, channel] = decoded[:height, :width, 0]
        return tile

    def _empty(self, height: int, width: int) -> Pixels:
        return np.full((height, width, self.channels), self.fill, self.dtype)

    def _probe(self) -> None:
        """Decode tiles until one can be, so that a foreign codec shows at once.

        A slide with some damaged tiles is still worth opening.
        """
        errors: list[SlideError] = []
        for place in self._probed():
            try:
                self._checked(place, self.decode_tile(*place))
            except SlideError as error:
                errors.append(error)
            except Exception as error:  # each codec raises its own kind
                errors.append(self._damaged(*place, error))
            else:
                return
        if errors:
            raise errors[-1]

    def _probed(self) -> Iterator[Place]:
        """Yield the middle tile of each level, coarsest first, then others."""
        for number in reversed(range(len(self.levels))):
            spec = self.levels[number]
            rows, cols = (side // 2 for side in spec.shape)
            yield number, rows // spec.tile[0], cols // spec.tile[1]
        spec, columns = self.levels[0], self._plans[0].columns
        count = columns * -(-spec.shape[0] // spec.tile[0])
        stored = self._plans[0].planes[0].counts
        for index in range(0, count, -(-count // PROBES)):
            if stored[index]:
                yield 0, *divmod(index, columns)


def associated_pixels(series: Any, name: str) -> Pixels:
    """Return the pixels (h, w, C) of a series that holds one small image."""
    page = series.keyframe
    check_page([page], f"its {name} image")
    pixels: Pixels = np.atleast_3d(series.asarray())
    if page.planarconfig == 2 and page.samplesperpixel > 1:
        pixels = np.moveaxis(pixels, 0, 2)
    finish = look([page], name).finish
    return pixels if finish is None else finish(pixels)


def _levels(image: StoredImage) -> tuple[Level, ...]:
    pages = [planes[0] for planes in image.levels]
    shapes = [(page.imagelength, page.imagewidth) for page in pages]
    tiles = [(page.tilelength, page.tilewidth) for page in pages]
    return tuple(map(Level, shapes, tiles, level_factors(shapes)))


def _plan(pages: list[Any]) -> TiffLevel:
    page = pages[0]
    columns, rows = (
        -(-page.imagewidth // page.tilewidth),
        -(-page.imagelength // page.tilelength),
    )
    raw = page.tilelength * page.tilewidth * page.samplesperpixel * page.dtype.itemsize
    most = MOST_TIMES_RAW * raw + (1 << 16)
    if page.planarconfig == 1 or page.samplesperpixel == 1:
        planes = tuple(_plane(page, 0) for page in pages)
    else:
        firsts = range(0, page.samplesperpixel * rows * columns, rows * columns)
        planes = tuple(_plane(page, first) for page in pages for first in firsts)
    return TiffLevel(planes, columns, most)


def _plane(page: Any, first: int) -> Plane:
    return Plane(page.dataoffsets, page.databytecounts, first, decoder(page))
