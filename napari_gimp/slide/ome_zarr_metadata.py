"""What the metadata of an OME-Zarr image says, versions 0.1 to 0.5.

0.5 keeps it under the attribute "ome", older versions at the top; 0.4 brought units
and scales. No zarr is needed here: everything is told from plain dictionaries.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from napari_gimp.errors import SlideError
from napari_gimp.geometry import YX
from napari_gimp.slide.factors import as_fraction, level_factor

UM_PER_UNIT = {
    "angstrom": 1e-4, "nanometer": 1e-3, "nm": 1e-3, "micrometer": 1.0, "micron": 1.0,
    "um": 1.0, "µm": 1.0, "μm": 1.0, "millimeter": 1e3, "mm": 1e3, "centimeter": 1e4,
    "cm": 1e4, "meter": 1e6, "m": 1e6, "inch": 25_400.0,
}  # fmt: skip
PURE = ("#ff0000", "#00ff00", "#0000ff")
NO_NAME = re.compile(r"(ch(annel)?)?[\s:_#-]*[\d:\s]*|r(ed)?|g(reen)?|b(lue)?", re.I)
"""Names that say nothing of a stain: "", "Channel 0", "0", "Red"."""


@dataclass(frozen=True, slots=True)
class Stored:
    """One level as the metadata names it.

    `scale` and `shift` are units per pixel and the place of the first pixel's centre,
    as (y, x); None where the file does not say.
    """

    path: str
    scale: YX | None
    shift: YX


@dataclass(frozen=True, slots=True)
class Multiscale:
    """The levels of one image, what its axes are, and how channels are shown."""

    axes: str
    """One letter for each axis of the arrays, out of t, c, z, y, x."""
    um: YX | None
    """Um in one unit of the scales (y, x); None where there is no unit of length."""
    levels: tuple[Stored, ...]
    channel_names: tuple[str, ...]
    channel_colors: tuple[str, ...]
    default_z: int | None
    version: str

    @property
    def mpp(self) -> YX | None:
        """Um per level-0 pixel (y, x), None where the file does not say."""
        scale = self.levels[0].scale
        if self.um is None or scale is None:
            return None
        return scale[0] * self.um[0], scale[1] * self.um[1]


def ome_block(attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the OME metadata among a group's attributes."""
    block = attributes.get("ome", attributes)
    return block if isinstance(block, Mapping) else {}


def multiscale(block: Mapping[str, Any], name: str) -> Multiscale:
    """Return the first image that a group's OME metadata describes.

    Raises
    ------
    SlideError
        If the metadata is not what OME-Zarr prescribes.
    """
    try:
        return _multiscale(block)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise SlideError(
            f"{name} has OME-Zarr metadata that cannot be understood ({error!r}): "
            "write the multiscales block as OME-Zarr 0.4 or 0.5 prescribes."
        ) from error


def _multiscale(block: Mapping[str, Any]) -> Multiscale:
    image = block["multiscales"][0]
    if not image["datasets"]:
        raise ValueError("no datasets")
    described = image.get("axes", "tczyx")
    axes = _letters(described)
    whole = _transformed(image.get("coordinateTransformations", ()), axes)
    names, colors = _channels(block.get("omero", {}))
    return Multiscale(
        axes=axes,
        um=_um(described, axes),
        levels=tuple(_stored(entry, axes, whole) for entry in image["datasets"]),
        channel_names=names,
        channel_colors=colors,
        default_z=_default_z(block.get("omero", {})),
        version=str(block.get("version", image.get("version", ""))),
    )


def _letters(described: Sequence[Any]) -> str:
    """Return one letter for each axis: by its name, else by its kind.

    Raises
    ------
    ValueError
        If y or x is absent or an axis occurs twice.
    """
    axes = "".join(_letter(axis) for axis in described)
    if "y" not in axes or "x" not in axes or len(set(axes)) < len(axes):
        raise ValueError(f"axes {axes}")
    return axes


def _letter(axis: Any) -> str:
    name = str(axis["name"] if isinstance(axis, Mapping) else axis).lower()
    if name in ("t", "c", "z", "y", "x"):
        return name
    kind = axis.get("type") if isinstance(axis, Mapping) else None
    letter = {"time": "t", "channel": "c"}.get(str(kind))
    if letter is None:
        raise ValueError(f"axis {name!r}")
    return letter


def _um(described: Sequence[Any], axes: str) -> YX | None:
    units = [
        UM_PER_UNIT.get(str(axis.get("unit")).lower())
        for axis in described
        if isinstance(axis, Mapping)
    ]
    if len(units) < len(axes):
        return None
    y, x = units[axes.index("y")], units[axes.index("x")]
    return (y, x) if y and x else None


def _stored(entry: Mapping[str, Any], axes: str, whole: tuple[YX | None, YX]) -> Stored:
    """Return a level, its own transformations first and then the whole image's."""
    scale, shift = _transformed(entry.get("coordinateTransformations", ()), axes)
    outer, moved = whole
    if outer is not None:
        shift = (shift[0] * outer[0], shift[1] * outer[1])
        scale = (scale[0] * outer[0], scale[1] * outer[1]) if scale else outer
    return Stored(str(entry["path"]), scale, (shift[0] + moved[0], shift[1] + moved[1]))


def _transformed(
    transformations: Sequence[Mapping[str, Any]], axes: str
) -> tuple[YX | None, YX]:
    scale: YX | None = None
    shift: YX = (0.0, 0.0)
    for step in transformations:
        if "scale" in step:
            scale = _yx(step["scale"], axes)
            if min(scale) <= 0:
                raise ValueError(f"scale {step['scale']}")
        elif "translation" in step:
            shift = _yx(step["translation"], axes)
    return scale, shift


def _yx(values: Sequence[float], axes: str) -> YX:
    return float(values[axes.index("y")]), float(values[axes.index("x")])


def _channels(omero: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    channels = omero.get("channels", ())
    names = tuple(str(channel.get("label", "")) for channel in channels)
    colors = tuple(_color(channel.get("color")) for channel in channels)
    return (
        names if any(names) else (),
        colors if colors and all(colors) else (),
    )


def _color(stated: Any) -> str:
    """Return "#rrggbb" of six hex digits, "" where there are none."""
    digits = str(stated).lstrip("#").lower()[:6]
    return f"#{digits}" if re.fullmatch("[0-9a-f]{6}", digits) else ""


def _default_z(omero: Mapping[str, Any]) -> int | None:
    plane = omero.get("rdefs", {}).get("defaultZ")
    return plane if isinstance(plane, int) else None


def shows_colour(image: Multiscale, channels: int, dtype: str) -> bool:
    """Whether three channels are one colour picture, as brightfield is.

    They are if their colours are pure red, green and blue, in this order, and no name
    speaks of a stain; where the file says nothing of channels, if they have 8 bits.
    """
    if channels != 3 or dtype not in ("uint8", "uint16"):
        return False
    if not image.channel_colors:
        return not image.channel_names and dtype == "uint8"
    named = (name.strip() for name in image.channel_names)
    return image.channel_colors == PURE and all(map(NO_NAME.fullmatch, named))


def scale_factor(
    first: Stored, level: Stored, finest: tuple[int, int], shape: tuple[int, int]
) -> YX:
    """Return the factor (y, x) by which a level was made from the first.

    That is the quotient of their scales where the shapes agree with it to a pixel,
    else what the shapes say.
    """
    if first.scale is None or level.scale is None:
        return level_factor(finest, shape)
    pairs = zip(level.scale, first.scale, finest, shape, strict=True)
    y, x = (_side_factor(*pair) for pair in pairs)
    return (y, x) if y and x else level_factor(finest, shape)


def _side_factor(scale: float, first: float, finest: int, side: int) -> float | None:
    quotient = scale / first
    simple = float(as_fraction(quotient))
    factor = simple if abs(simple / quotient - 1) < 1e-6 else quotient
    return factor if abs(finest / factor - side) <= 1 else None


def lies_on(first: Stored, level: Stored, factor: YX) -> bool:
    """Whether a level's upper left corner is that of the first level.

    The translations name pixel centres, so a coarse level's is half a pixel further
    in; most writers leave them out, which means the same. Half a coarse pixel is
    allowed for.
    """
    if first.scale is None:
        return True
    pairs = zip(level.shift, first.shift, first.scale, factor, strict=True)
    for shift, start, scale, times in pairs:
        apart = (shift - start) / scale
        inside = (times - 1) / 2
        if not -times / 2 < apart - inside < times / 2 and apart:
            return False
    return True
