"""What the tags of a TIFF say of the slide: um/px, vendor, objective, channels."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from napari_gimp.errors import SlideError
from napari_gimp.slide.resolution import from_file, from_tags
from napari_gimp.slide.source import Resolution
from napari_gimp.slide.tiff_ome import UM_PER_UNIT as UM_PER_NAME

if TYPE_CHECKING:
    from napari_gimp.slide.tiff_ome import OmeImage

NO_LENGTH = 1
"""ResolutionUnit: the numbers give the ratio of the sides only."""


class NoReaderError(SlideError):
    """The content is none that a slide has, so no other reader is to be tried."""


class OpenSlideOnlyError(SlideError):
    """The TIFF is for OpenSlide: what that reader says of it counts."""


class PictureOnlyError(SlideError):
    """The TIFF is a plain picture: what the picture reader says of it counts."""


def resolution(tiff: Any, page: Any, ome: OmeImage | None) -> Resolution:
    """Return the um/px the file states: Aperio's MPP, OME's size, or its tags.

    Parameters
    ----------
    tiff, page
        tifffile's file, and the page of the finest level.
    ome
        What OME-XML says of the image, if there is one.
    """
    if tiff.is_svs:
        return _aperio_resolution(page.description)
    if ome is not None and ome.mpp:
        return from_file(ome.mpp, "OME PhysicalSize")
    per_unit, unit = page.resolution, int(page.resolutionunit)
    if tiff.is_imagej and unit == NO_LENGTH and min(per_unit) > 0:
        um = UM_PER_NAME.get(_imagej_unit(tiff), 0.0)
        return from_file((um / per_unit[1], um / per_unit[0]), "ImageJ unit")
    stated = from_tags(per_unit, unit)
    if not stated.verified and per_unit in {(72.0, 72.0), (96.0, 96.0)}:
        return Resolution(None, "none", False)  # a screen's, not the slide's
    return stated


def _imagej_unit(tiff: Any) -> str:
    unit = str((tiff.imagej_metadata or {}).get("unit", ""))
    return unit.replace("\\u00B5", "µ").strip()


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


def properties(tiff: Any, page: Any) -> dict[str, str]:
    """Return vendor, compression, colour, objective and scanner, where stated.

    Only these: descriptions also carry file names, dates and patients' numbers.
    """
    found = {
        "vendor": _vendor(tiff),
        "compression": getattr(page.compression, "name", str(page.compression)),
        "photometric": getattr(page.photometric, "name", str(page.photometric)),
    }
    if tiff.is_ome:
        power = re.search(r'NominalMagnification="([\d.]+)"', tiff.ome_metadata or "")
        return found | ({"objective": power.group(1)} if power else {})
    if not tiff.is_svs:
        return found
    stated = aperio_fields(page.description)
    named = {"objective": "AppMag", "scanner": "ScanScope ID"}
    return found | {ours: stated[key] for ours, key in named.items() if key in stated}


def channels(
    tiff: Any, pages: list[Any], ome: OmeImage | None, count: int
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names and colours ("#rrggbb") of `count` channels; () if not all."""
    names: tuple[str, ...] = ()
    colors: tuple[str, ...] = ()
    if ome is not None:
        names, colors = ome.names, ome.colors
    elif tiff.is_qpi:
        names = tuple(_qpi_field(page, "Name") for page in pages)
        stated = [_qpi_field(page, "Color").split(",") for page in pages]
        if all(len(rgb) == 3 and all(v.isdigit() for v in rgb) for rgb in stated):
            colors = tuple("#" + "".join(f"{int(v):02x}" for v in c) for c in stated)
    elif tiff.is_imagej:
        names = tuple(map(str, (tiff.imagej_metadata or {}).get("Labels", ())))
    return tuple(v if len(v) == count and any(v) else () for v in (names, colors))  # type: ignore[return-value]


def _qpi_field(page: Any, name: str) -> str:
    found = re.search(rf"<{name}>([^<]*)</{name}>", page.description)
    return found.group(1).strip() if found else ""


def _vendor(tiff: Any) -> str:
    kinds = {"svs": "aperio", "ome": "ome", "qpi": "akoya", "imagej": "imagej"}
    stated = [name for kind, name in kinds.items() if getattr(tiff, f"is_{kind}")]
    return stated[0] if stated else "generic-tiff"
