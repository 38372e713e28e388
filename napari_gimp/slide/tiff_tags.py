"""Which pages of a TIFF are the slide's levels, and what its tags say."""

from __future__ import annotations

import re
from typing import Any

from napari_gimp.errors import SlideError
from napari_gimp.geometry import YX
from napari_gimp.slide.factors import level_factor
from napari_gimp.slide.resolution import from_file, from_tags
from napari_gimp.slide.source import Resolution

UM_PER_OME_UNIT = {
    "nm": 1e-3, "µm": 1.0, "μm": 1.0, "um": 1.0, "mm": 1e3, "cm": 1e4, "m": 1e6,
}  # fmt: skip
PHOTOMETRIC = {1: "grey", 2: "RGB", 6: "YCbCr"}
OPENSLIDE_ONLY = ("ndpi", "philips", "bif", "scn")
"""Vendors whose levels need corrections that OpenSlide makes."""


class NoReaderError(SlideError):
    """The content is none that a slide has, so no other reader is to be tried."""


class OpenSlideOnlyError(SlideError):
    """The TIFF is for OpenSlide: what that reader says of it counts."""


class PictureOnlyError(SlideError):
    """The TIFF is a plain picture: what the picture reader says of it counts."""


def main_levels(tiff: Any, name: str) -> list[list[Any]]:
    """Return the pages of every level, finest first: one page, or one per channel.

    Raises
    ------
    SlideError
        If the image is not tiled or of a kind this reader does not know.
    """
    for vendor in OPENSLIDE_ONLY:
        if getattr(tiff, f"is_{vendor}"):
            raise OpenSlideOnlyError(
                f"{name} is a {vendor} file, which OpenSlide reads."
            )
    if not tiff.series or not tiff.pages:
        raise SlideError(
            f"{name} is a TIFF without images: it is cut off or damaged; copy the file "
            "again from its source."
        )
    series = _main_series(tiff)
    planar = series.axes in ("CYX", "SYX")
    if not planar and len(series.levels[0].pages) > 1:
        raise NoReaderError(
            f"{name} is a stack of {len(series.levels[0].pages)} images (axes "
            f"{series.axes}); a slide has one, or one for each channel (CYX)."
        )
    levels = _stored_levels(tiff, series, planar=planar)
    _check(levels[0][0], name)
    return levels


def _main_series(tiff: Any) -> Any:
    """Return the series of the slide: the first, in OME-TIFF the largest."""
    series = tiff.series
    return max(series, key=lambda s: s.levels[0].size) if tiff.is_ome else series[0]


def _stored_levels(tiff: Any, series: Any, *, planar: bool) -> list[list[Any]]:
    """Return tifffile's levels; where it sees one, look for unmarked pages."""
    levels = [
        [page.aspage() for page in (level.pages if planar else level.pages[:1])]
        for level in series.levels
    ]
    if len(levels) > 1 or tiff.is_ome:
        return [pages for pages in levels if pages[0].is_tiled] or levels
    return levels + [[page] for page in _unmarked_levels(tiff, levels[0][0])]


def _unmarked_levels(tiff: Any, finest: Any) -> list[Any]:
    """Return tiled pages that are smaller and smaller copies of `finest`."""
    levels, last = [], finest
    for page in tiff.pages[1:]:
        page = page.aspage()
        if (
            page.is_tiled
            and _is_copy(finest, page)
            and (page.imagewidth < last.imagewidth)
        ):
            levels.append(page)
            last = page
    return levels


def _is_copy(finest: Any, page: Any) -> bool:
    same = (page.samplesperpixel, page.dtype, page.photometric)
    if same != (finest.samplesperpixel, finest.dtype, finest.photometric):
        return False
    fy, fx = level_factor(
        (finest.imagelength, finest.imagewidth), (page.imagelength, page.imagewidth)
    )
    return abs(fy / fx - 1) < 0.02


def _check(page: Any, name: str) -> None:
    if not page.is_tiled:
        raise PictureOnlyError(f"{name} is a TIFF in strips, not in tiles.")
    if page.imagedepth > 1:
        raise NoReaderError(f"{name} holds a volume of {page.imagedepth} planes.")
    if page.photometric not in PHOTOMETRIC:
        raise SlideError(
            f"{name} stores colours as {page.photometric!r}; RGB, YCbCr and grey are "
            "read."
        )
    if not hasattr(page.compression, "name"):
        raise SlideError(
            f"{name} is compressed by method {page.compression}, which no reader knows."
        )
    if page.dtype is None:
        raise SlideError(
            f"{name} has {page.bitspersample} bits per sample, which are not read."
        )


def resolution(tiff: Any) -> Resolution:
    """Return the um/px the file states: Aperio's MPP, OME's size, or its tags."""
    if tiff.is_svs:
        return _aperio_resolution(tiff.pages[0].description)
    if tiff.is_ome and (mpp := _ome_mpp(tiff.ome_metadata)):
        return from_file(mpp, "OME PhysicalSize")
    page = tiff.pages[0]
    return from_tags(page.resolution, int(page.resolutionunit))


def _aperio_resolution(description: str) -> Resolution:
    mpp = aperio_fields(description).get("MPP")
    try:
        return from_file((float(mpp), float(mpp)) if mpp else None, "Aperio MPP")
    except ValueError:
        return Resolution(None, "none", False)


def aperio_fields(description: str) -> dict[str, str]:
    """Return the "key = value" pairs of an Aperio image description."""
    parts = (part.split("=", 1) for part in description.split("|") if "=" in part)
    return {key.strip(): value.strip() for key, value in parts}


def _ome_mpp(xml: str) -> YX | None:
    y, x = _ome_side(xml, "Y"), _ome_side(xml, "X")
    return (y, x) if y and x else None


def _ome_side(xml: str, axis: str) -> float | None:
    """Return PhysicalSizeX or Y of the first image in um; OME's default unit is um."""
    size = re.search(rf'PhysicalSize{axis}="([^"]+)"', xml)
    unit = re.search(rf'PhysicalSize{axis}Unit="([^"]+)"', xml)
    um = UM_PER_OME_UNIT.get(unit.group(1) if unit else "um")
    return float(size.group(1)) * um if size and um else None


def properties(tiff: Any) -> dict[str, str]:
    """Return vendor, compression, colour, objective and scanner, where stated.

    Only these: descriptions also carry file names, dates and patients' numbers.
    """
    page = tiff.pages[0]
    found = {
        "vendor": _vendor(tiff),
        "compression": getattr(page.compression, "name", str(page.compression)),
        "photometric": getattr(page.photometric, "name", str(page.photometric)),
    }
    if not tiff.is_svs:
        return found
    stated = aperio_fields(page.description)
    named = {"objective": "AppMag", "scanner": "ScanScope ID"}
    return found | {ours: stated[key] for ours, key in named.items() if key in stated}


def _vendor(tiff: Any) -> str:
    if tiff.is_svs:
        return "aperio"
    return "ome" if tiff.is_ome else "generic-tiff"
