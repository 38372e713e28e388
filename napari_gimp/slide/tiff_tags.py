"""What the tags of a TIFF say of the slide: um/px, vendor, objective, channels."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_gimp.slide.fingerprint import fingerprint
from napari_gimp.slide.resolution import from_file, from_tags
from napari_gimp.slide.source import Level, Resolution
from napari_gimp.slide.tiff_ome import UM_PER_UNIT as UM_PER_NAME
from napari_gimp.slide.tiled import SlideFacts

if TYPE_CHECKING:
    from napari_gimp.slide.tiff_colour import Look
    from napari_gimp.slide.tiff_levels import StoredImage
    from napari_gimp.slide.tiff_ome import OmeImage

NO_LENGTH = 1
"""ResolutionUnit: the numbers give the ratio of the sides only."""


def slide_facts(
    tiff: Any, path: Path, image: StoredImage, seen: Look, levels: tuple[Level, ...]
) -> SlideFacts:
    """Return what a TIFF says of its slide."""
    names, colors = channels(tiff, image, seen.channels)
    return SlideFacts(
        path=path,
        reader="tifffile",
        levels=levels,
        resolution=resolution(tiff, image.page, image.ome),
        fingerprint=fingerprint(path),
        channels=seen.channels,
        dtype=seen.dtype,
        properties=properties(tiff, image.page),
        associated=tuple(image.associated),
        rgb=seen.rgb,
        channel_names=() if seen.rgb else names,
        channel_colors=() if seen.rgb else colors,
        icc=image.page.iccprofile,
    )


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
    tiff: Any, image: StoredImage, count: int
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return names and colours ("#rrggbb") of `count` channels; () if not of all."""
    names: tuple[str, ...] = ()
    colors: tuple[str, ...] = ()
    if image.ome is not None:
        names, colors = image.ome.names, image.ome.colors
    elif tiff.is_qpi:
        names = tuple(_qpi_field(page, "Name") for page in image.levels[0])
        colors = _qpi_colors(image.levels[0])
    elif tiff.is_imagej:
        names = tuple(map(str, (tiff.imagej_metadata or {}).get("Labels", ())))
    named = len(names) == count and any(names)
    return names if named else (), colors if len(colors) == count else ()


def _qpi_colors(pages: list[Any]) -> tuple[str, ...]:
    stated = [_qpi_field(page, "Color").split(",") for page in pages]
    if not all(len(rgb) == 3 and all(v.isdigit() for v in rgb) for rgb in stated):
        return ()
    return tuple("#" + bytes(min(int(v), 255) for v in rgb).hex() for rgb in stated)


def _qpi_field(page: Any, name: str) -> str:
    found = re.search(rf"<{name}>([^<]*)</{name}>", page.description)
    return found.group(1).strip() if found else ""


def _vendor(tiff: Any) -> str:
    kinds = {"svs": "aperio", "ome": "ome", "qpi": "akoya", "imagej": "imagej"}
    stated = [name for kind, name in kinds.items() if getattr(tiff, f"is_{kind}")]
    return stated[0] if stated else "generic-tiff"
