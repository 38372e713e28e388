"""Which pages of a TIFF are the slide's levels, and whether they can be true.

A damaged tag may state any size: what a level's tiles would need is compared with
the tiles that the file lists before anything is allocated.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any, TypeVar

from napari_gimp.errors import SlideError
from napari_gimp.slide.factors import level_factor
from napari_gimp.slide.refusals import (
    NoReaderError,
    OpenSlideOnlyError,
    PictureOnlyError,
)
from napari_gimp.slide.tiff_chain import check_chain
from napari_gimp.slide.tiff_colour import look
from napari_gimp.slide.tiff_ome import OmeImage, check_planes, ome_images

OPENSLIDE_ONLY = ("ndpi", "philips", "bif", "scn")
"""Vendors whose levels need corrections that OpenSlide makes."""
MAX_TILE_BYTES = 1 << 28
"""A tile of all channels; scanners' have at most some MB."""
ASSOCIATED = ("label", "macro", "thumbnail")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StoredImage:
    """The slide's image in a TIFF.

    Parameters
    ----------
    levels
        The pages of every level, finest first: one page, or one per channel.
    ome
        What OME-XML says of it, None where there is none.
    associated
        tifffile's series of the label, macro and thumbnail images, by name.
    planes
        Channels that lie one behind the other in the one page's bytes, as ImageJ
        writes them; 1 else.
    """

    levels: list[list[Any]]
    ome: OmeImage | None
    associated: dict[str, Any]
    planes: int = 1

    @property
    def page(self) -> Any:
        """The first page of the finest level."""
        return self.levels[0][0]


def open_tiff(path: Path) -> Any:
    """Return an open `tifffile.TiffFile`, which looks for no other files.

    Raises
    ------
    SlideError
        If the file is no readable TIFF.
    """
    import tifffile

    tiff = at_border(path.name, lambda: tifffile.TiffFile(path, _multifile=False))
    try:
        at_border(path.name, lambda: check_chain(tiff, path.name))
    except SlideError:
        tiff.close()
        raise
    return tiff


def at_border(name: str, work: Callable[[], T]) -> T:
    """Return what `work` does with tifffile; SlideError for whatever it raises."""
    with _quiet():
        try:
            return work()
        except SlideError:
            raise
        except Exception as error:  # damaged tags break tifffile in every way
            raise SlideError(
                f"{name} is no readable TIFF ({_told(error)}): it is cut off or "
                "damaged; copy the file again from its source."
            ) from error


def stored_image(tiff: Any, name: str) -> StoredImage:
    """Return the slide's image, of which `tiled_image` wants tiles.

    Raises
    ------
    SlideError
        If there is no image, or one of a kind that is no slide.
    """
    if vendor := _openslides_vendor(tiff):
        raise OpenSlideOnlyError(f"{name} is a {vendor} file, which OpenSlide reads.")
    described = _described(tiff, name)
    series = [s for s in tiff.series if s.levels and s.levels[0].pages]
    if not series or 0 in tiff.pages.first.shape:
        raise SlideError(
            f"{name} is a TIFF without images: it is cut off or damaged; copy the file "
            "again from its source."
        )
    main = _main_series(series)
    shape = main.keyframe.imagelength, main.keyframe.imagewidth
    ome = _image_of(described, main.name, shape)
    if ome is not None and ome.files > 1:
        raise NoReaderError(
            f"{name} is one of {ome.files} files that make an image together: convert "
            "them to one file."
        )
    planes = _check_channels(main, name)
    levels = _stored_levels(tiff, main, series, name)
    planes = planes if len(levels[0]) == 1 else 1
    return StoredImage(levels, ome, _associated(series, main), planes)


def tiled_image(tiff: Any, name: str) -> StoredImage:
    """Return the slide's image, checked to be tiled and true.

    Levels that cannot be true are left out, unless it is the finest.

    Raises
    ------
    SlideError
        If it is not tiled, or cannot be read here; the text says why.
    """
    image = stored_image(tiff, name)
    if not image.page.is_tiled:
        raise PictureOnlyError(f"{name} is a TIFF in strips, not in tiles.")
    if image.planes > 1:
        raise SlideError(f"{name} is damaged: it lists {image.planes} planes of tiles.")
    check_page(image.levels[0], name)
    levels = image.levels[:1]
    for pages in sorted(image.levels[1:], key=_width, reverse=True):
        if _width(pages) < _width(levels[-1]) and _is_true(pages, image, name):
            levels.append(pages)
    return replace(image, levels=levels)


def check_page(pages: list[Any], name: str) -> None:
    """Check a level: its kind is known, its tiles or strips are listed.

    Raises
    ------
    SlideError
        If they are not.
    """
    first = pages[0]
    if first.imagedepth > 1:
        raise NoReaderError(f"{name} holds a volume of {first.imagedepth} planes.")
    if not hasattr(first.compression, "name"):
        raise SlideError(
            f"{name} is compressed by method {first.compression}, which no reader "
            "knows."
        )
    if not _can_be_decoded(first):
        raise SlideError(
            f"{name} is compressed with {first.compression.name} "
            f"({first.compression.value}), which cannot be decoded here."
        )
    look(pages, name)
    for page in pages:
        if _kind(page) != _kind(first):
            raise SlideError(
                f"{name} has channels of differing size or kind, which are not read."
            )
        _check_segments(page, name)
    if first.is_tiled:
        _check_tile_size(first, len(pages), name)


def _can_be_decoded(page: Any) -> bool:
    from tifffile import TIFF

    return page.compression in TIFF.DECOMPRESSORS


def segment_count(page: Any) -> int:
    """Return how many tiles or strips a page's size needs, over all its planes."""
    planes: int = page.samplesperpixel if page.planarconfig == 2 else 1
    if not page.is_tiled:
        return int(planes * -(-page.imagelength // page.rowsperstrip))
    rows = -(-page.imagelength // page.tilelength)
    return int(planes * rows * -(-page.imagewidth // page.tilewidth))


def _check_segments(page: Any, name: str) -> None:
    sides = [page.imagelength, page.imagewidth]
    sides += [page.tilelength, page.tilewidth] if page.is_tiled else [page.rowsperstrip]
    if min(sides) < 1:
        raise SlideError(f"{name} is damaged: one of its sides is {min(sides)} px.")
    needed = segment_count(page)
    listed = min(len(page.dataoffsets), len(page.databytecounts))
    if listed < needed:
        raise SlideError(
            f"{name} is damaged: {sides[0]:,} x {sides[1]:,} px need {needed:,} tiles "
            f"or strips, but it lists {listed:,}; copy the file again from its source."
        )


def _check_tile_size(page: Any, pages: int, name: str) -> None:
    tile = page.tilelength, page.tilewidth
    size = prod(tile) * page.samplesperpixel * page.dtype.itemsize * pages
    if size > MAX_TILE_BYTES:
        raise SlideError(
            f"{name} has tiles of {tile[0]:,} x {tile[1]:,} px ({size / 1e6:,.0f} MB); "
            f"up to {MAX_TILE_BYTES / 1e6:,.0f} MB are read: convert it to tiles of "
            "256 to 1024 px."
        )


def _kind(page: Any) -> tuple[object, ...]:
    """Return what all channels of a level must have in common."""
    size = page.imagelength, page.imagewidth, page.is_tiled
    tile = (page.tilelength, page.tilewidth) if page.is_tiled else page.rowsperstrip
    return size, tile, _samples(page)


def _samples(page: Any) -> tuple[object, ...]:
    return page.samplesperpixel, page.dtype, page.photometric


def _is_true(pages: list[Any], image: StoredImage, name: str) -> bool:
    """Whether a coarser level is a copy of the finest that can be read."""
    if len(pages) != len(image.levels[0]) or not pages[0].is_tiled:
        return False
    try:
        check_page(pages, name)
    except SlideError:
        return False
    return _is_copy(image.page, pages[0])


def _openslides_vendor(tiff: Any) -> str | None:
    """Return the vendor of a file whose levels need corrections, else None."""
    if tiff.pages.first.software.startswith("MedScan"):  # its tiles overlap
        return "trestle"
    return next((v for v in OPENSLIDE_ONLY if getattr(tiff, f"is_{v}")), None)


def _described(tiff: Any, name: str) -> tuple[OmeImage, ...]:
    xml = tiff.ome_metadata if tiff.is_ome else None
    if not xml:
        return ()
    check_planes(xml, name)
    return ome_images(xml)


def _image_of(
    described: tuple[OmeImage, ...], name: str, shape: tuple[int, int]
) -> OmeImage | None:
    """Return the description of an image: by size, then by name if two fit."""
    fitting = [image for image in described if image.shape == shape]
    named = [image for image in fitting if image.name == name]
    return next(iter(named or fitting), None)


def _width(pages: list[Any]) -> int:
    return int(pages[0].imagewidth)


def _main_series(series: list[Any]) -> Any:
    """Return the series of the slide: the largest in tiles that is no label or macro.

    Where none is in tiles, the largest.
    """
    slides = [one for one in series if _role(one) is None] or series
    pages = [one.keyframe for one in slides]
    sizes = [(page.is_tiled, page.imagelength * page.imagewidth) for page in pages]
    return slides[sizes.index(max(sizes))]


def _role(series: Any) -> str | None:
    """Return "label", "macro" or "thumbnail" for a series named so, else None."""
    name = (series.name or "").lower().replace("overview", "macro")
    return next((role for role in ASSOCIATED if role in name), None)


def _associated(series: list[Any], main: Any) -> dict[str, Any]:
    others = [(_role(one), one) for one in series if one is not main]
    return {role: one for role, one in reversed(others) if role is not None}


def _stored_levels(
    tiff: Any, main: Any, series: list[Any], name: str
) -> list[list[Any]]:
    """Return the levels of the slide, in any order after the finest.

    tifffile knows those of OME and of channels; elsewhere it ends at the first that
    is not smaller by the same whole factor as the one before.
    """
    levels = [[_full(page, tiff, name) for page in v.pages] for v in main.levels]
    if len(levels[0]) > 1 or tiff.is_ome:
        return levels
    return levels[:1] + [[page] for page in _copies(tiff, series, levels[0][0])]


def _check_channels(series: Any, name: str) -> int:
    """Return how many planes of equal size a series has: one, or one a channel."""
    planes: int = max(1, prod(series.shape) // max(1, series.keyframe.size))
    if planes > 1 and not ("C" in series.axes and set(series.axes) <= set("CYX")):
        raise NoReaderError(
            f"{name} is a stack of {planes} images (axes {series.axes}); a slide has "
            "one, or one for each channel (CYX)."
        )
    return planes


def _full(page: Any, tiff: Any, name: str) -> Any:
    """Return a page with all its tags; its own are read, not those of another."""
    if page is None or page.parent is not tiff:
        raise NoReaderError(
            f"{name} lacks some of its channels, which are in other files: convert "
            "them to one file."
        )
    return page.aspage()


def _copies(tiff: Any, series: list[Any], finest: Any) -> list[Any]:
    """Return tiled pages, of the file and below its pages, that copy `finest`."""
    below = [v.pages[0] for one in series if _role(one) is None for v in one.levels]
    pages = {
        page.offset: page.aspage() for page in [*below, *tiff.pages] if page is not None
    }
    return [
        page
        for page in pages.values()
        if page.is_tiled
        and page.imagewidth < finest.imagewidth
        and not (tiff.is_svs and page.is_reduced)  # a label or macro
        and _is_copy(finest, page)
    ]


def _is_copy(finest: Any, page: Any) -> bool:
    if _samples(page) != _samples(finest) or min(page.imagelength, page.imagewidth) < 1:
        return False
    height, width = int(page.imagelength), int(page.imagewidth)
    fy, fx = level_factor((finest.imagelength, finest.imagewidth), (height, width))
    return abs(fy / fx - 1) < 0.02 + 1 / min(height, width)  # sides are rounded


def _told(error: Exception) -> str:
    """Return the first line of an error's text, or its kind."""
    lines = str(error).splitlines()
    return lines[0].rstrip(".")[:200] if lines else type(error).__name__


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep tifffile's log of what it finds wrong: our errors say it once."""
    thread, log = threading.get_ident(), logging.getLogger("tifffile")

    def others(record: logging.LogRecord) -> bool:
        return record.thread != thread

    log.addFilter(others)
    try:
        yield
    finally:
        log.removeFilter(others)
