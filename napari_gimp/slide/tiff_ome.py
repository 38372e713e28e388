"""What the OME-XML of a TIFF says of its images: names, um/px, channels."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_gimp.errors import SlideError
from napari_gimp.geometry import YX

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

UM_PER_UNIT = {
    "pm": 1e-6, "nm": 1e-3, "µm": 1.0, "μm": 1.0, "um": 1.0, "micron": 1.0, "mm": 1e3,
    "cm": 1e4, "m": 1e6, "in": 25_400.0, "inch": 25_400.0, "Å": 1e-4,
}  # fmt: skip
"""um in the units of length that OME and ImageJ write; pixels have no length."""
MAX_PLANES = 100_000
"""Planes an OME-XML may speak of; a damaged number would take all memory."""


@dataclass(frozen=True, slots=True)
class OmeImage:
    """One image of an OME-XML.

    Parameters
    ----------
    name
        As stated, "" where it is not.
    shape
        Height and width, px.
    mpp
        um/px (y, x), None where it is not stated for both sides.
    names
        What each channel shows; () where no channel is named.
    colors
        "#rrggbb" of each channel; () where no channel has one.
    files
        Number of files over which its planes are spread.
    """

    name: str
    shape: tuple[int, int]
    mpp: YX | None
    names: tuple[str, ...]
    colors: tuple[str, ...]
    files: int


def ome_images(xml: str) -> tuple[OmeImage, ...]:
    """Return the images that an OME-XML describes; () where it is damaged.

    A slide whose pixels are whole is worth reading without its description.
    """
    from xml.etree import ElementTree

    try:
        root = ElementTree.fromstring(_utf8_stated(xml))
        return tuple(map(_image, root.iterfind("{*}Image")))
    except (ElementTree.ParseError, ValueError, KeyError):
        return ()


def check_planes(xml: str, file_name: str) -> None:
    """Refuse numbers of planes that no slide has.

    Raises
    ------
    SlideError
        If an image is said to have more than `MAX_PLANES`.
    """
    for name in ("SizeC", "SizeZ", "SizeT", "PlaneCount", "NumPlanes", "IFD"):
        for value in re.findall(rf'\b{name}="(\d+)"', xml):
            if len(value) > 9 or int(value) > MAX_PLANES:
                raise SlideError(
                    f"The OME-XML of {file_name} states {name}={value}, which no "
                    "slide has: copy the file again from its source."
                )


def color_of(rgba: int) -> str:
    """Return "#rrggbb" of an OME colour: RGBA, a byte each, as one signed int."""
    return f"#{(rgba & 0xFFFFFFFF) >> 8:06x}"


def _utf8_stated(xml: str) -> bytes:
    """Return bytes that the parser takes for UTF-8, whatever the XML head says."""
    return re.sub(r"^\s*<\?xml[^>]*\?>", "", xml).encode()


def _image(image: Element) -> OmeImage:
    pixels = image.find("{*}Pixels")
    if pixels is None:
        raise KeyError("an Image without Pixels")
    channels = pixels.findall("{*}Channel")
    names = [channel.get("Name") or channel.get("Fluor") or "" for channel in channels]
    colors = [channel.get("Color") for channel in channels]
    sides = _side_um(pixels, "Y"), _side_um(pixels, "X")
    stated = [None if color is None else color_of(int(color)) for color in colors]
    return OmeImage(
        name=image.get("Name") or "",
        shape=(int(pixels.attrib["SizeY"]), int(pixels.attrib["SizeX"])),
        mpp=None if sides[0] is None or sides[1] is None else (sides[0], sides[1]),
        names=tuple(names) if any(names) else (),
        colors=tuple(c for c in stated if c) if stated and all(stated) else (),
        files=len({uuid.text for uuid in pixels.iterfind("{*}TiffData/{*}UUID")}) or 1,
    )


def _side_um(pixels: Element, axis: str) -> float | None:
    """Return PhysicalSizeX or Y in um; OME's default unit is um."""
    size = pixels.get(f"PhysicalSize{axis}")
    um = UM_PER_UNIT.get(pixels.get(f"PhysicalSize{axis}Unit", "um"))
    if not size or um is None or not math.isfinite(float(size)):
        return None
    return float(size) * um
