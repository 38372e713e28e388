"""What a slide is, as numbers and as words, for the command line and the dock.

`describe` reads no pixel: associated images are named, never opened, since labels
may show the patient's name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from napari_gimp.geometry import YX
from napari_gimp.slide.resolution import is_usable, likely_mpp
from napari_gimp.slide.source import Resolution, SlideSource

LikelyOrigin = Literal["wrong unit", "objective", ""]

UM_PER_MM = 1000.0
UM_AT_1X = 10.0
"""um/px of a usual scanner times its objective: 0.5 at 20x, 0.25 at 40x."""
TOLD = ("vendor", "scanner", "objective", "compression", "photometric")
"""Properties that have a place of their own among the facts."""


@dataclass(frozen=True, slots=True)
class LevelFacts:
    """One stored level.

    Parameters
    ----------
    size_px
        Height and width, px.
    factor
        By which it was made from level 0 (y, x).
    tile_px
        Height and width of a tile, px.
    """

    size_px: tuple[int, int]
    factor: YX
    tile_px: tuple[int, int]


@dataclass(frozen=True, slots=True)
class IccFacts:
    """The colour profile in a file.

    Parameters
    ----------
    description
        What the profile calls itself, "" if it does not or cannot be read.
    bytes
        Its size.
    applied
        Whether pixels are converted from it to sRGB.
    """

    description: str
    bytes: int
    applied: bool


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a slide without looking at its pixels.

    Parameters
    ----------
    file
        Its name.
    size_px
        Height and width of level 0, px.
    size_mm
        The same in mm; None where the um/px is unknown or implausible.
    mpp
        um per level-0 pixel (y, x) as stated, None where nobody said.
    mpp_origin
        The property or tag it was read from, "user", or "none".
    mpp_verified
        False where it is missing, implausible or a user's word.
    mpp_usable
        Whether maps and models work with it: it is plausible, or a user's word.
    likely_mpp
        What is probably meant where the um/px is missing or implausible, to be
        confirmed; None without a guess.
    objective
        Magnification of the objective, None where unknown.
    vendor, scanner, compression, photometric
        As the file says, "" where it is silent.
    reader
        The library that reads it.
    refused
        What faster readers said when they refused the file.
    levels
        From finest to coarsest.
    rgb
        Whether the channels are one colour picture.
    channels
        How many there are.
    channel_names
        What each shows, () where the file is silent.
    dtype
        Kind of number of a pixel, "uint8" or another.
    icc
        The colour profile, None if there is none.
    associated
        Names of the label, macro and thumbnail images.
    fingerprint
        Hex digest that names the pixels.
    properties
        What else the file says.
    likely_origin
        Where `likely_mpp` is from: "wrong unit", "objective", "" without one.
    """

    file: str
    size_px: tuple[int, int]
    size_mm: YX | None
    mpp: YX | None
    mpp_origin: str
    mpp_verified: bool
    mpp_usable: bool
    likely_mpp: float | None
    objective: float | None
    vendor: str
    scanner: str
    compression: str
    photometric: str
    reader: str
    refused: tuple[str, ...]
    levels: tuple[LevelFacts, ...]
    rgb: bool
    channels: int
    channel_names: tuple[str, ...]
    dtype: str
    icc: IccFacts | None
    associated: tuple[str, ...]
    fingerprint: str
    properties: Mapping[str, str] = field(default_factory=dict)
    likely_origin: LikelyOrigin = ""

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; the keys are the fields, sides are (y, x)."""
        return {**asdict(self), "properties": dict(self.properties)}


def describe(source: SlideSource) -> Facts:
    """Return the facts of an open slide."""
    said, stated = source.properties, source.resolution
    objective = _number(said.get("objective", ""))
    likely, likely_origin = _likely(stated, objective)
    return Facts(
        file=source.path.name,
        size_px=source.levels[0].shape,
        size_mm=_size_mm(source),
        mpp=stated.mpp,
        mpp_origin=stated.origin,
        mpp_verified=stated.verified,
        mpp_usable=is_usable(stated),
        likely_mpp=likely,
        objective=objective,
        vendor=said.get("vendor", ""),
        scanner=said.get("scanner", ""),
        compression=said.get("compression", ""),
        photometric=said.get("photometric", ""),
        reader=source.reader,
        refused=source.refused,
        levels=tuple(LevelFacts(v.shape, v.downsample, v.tile) for v in source.levels),
        rgb=source.rgb,
        channels=source.channels,
        channel_names=source.channel_names,
        dtype=str(source.dtype),
        icc=_icc(source),
        associated=source.associated,
        fingerprint=source.fingerprint,
        properties={k: v for k, v in said.items() if k not in TOLD},
        likely_origin=likely_origin,
    )


def _size_mm(source: SlideSource) -> YX | None:
    stated = source.resolution
    if stated.mpp is None or not is_usable(stated):
        return None
    (height, width), (my, mx) = source.levels[0].shape, stated.mpp
    return height * my / UM_PER_MM, width * mx / UM_PER_MM


def _likely(
    stated: Resolution, objective: float | None
) -> tuple[float | None, LikelyOrigin]:
    """Return a guess: a wrong unit put right, else what the objective usually has."""
    if is_usable(stated):
        return None, ""
    if stated.mpp is not None and (meant := likely_mpp(stated.mpp[0])):
        return meant, "wrong unit"
    return (UM_AT_1X / objective, "objective") if objective else (None, "")


def _number(text: str) -> float | None:
    """Return a magnification such as "20", "20x" or "20.0"."""
    try:
        value = float(text.strip().rstrip("xX×"))
    except ValueError:
        return None
    return value if math.isfinite(value) and value > 0 else None


def _icc(source: SlideSource) -> IccFacts | None:
    if source.icc is None:
        return None
    return IccFacts(profile_name(source.icc), len(source.icc), source.srgb)


def profile_name(profile: bytes) -> str:
    """Return what a colour profile calls itself, "" if it cannot be read."""
    import io

    from PIL import ImageCms

    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        return ImageCms.getProfileDescription(opened).strip()
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
        return ""


def as_rows(facts: Facts) -> dict[str, str]:
    """Return the facts as a table's rows for a person; no row is empty."""
    rows = {
        "file": facts.file,
        "size": _size(facts),
        "um/px": _resolution(facts),
        "objective": "" if facts.objective is None else f"{facts.objective:g}x",
        "vendor": facts.vendor,
        "scanner": facts.scanner,
        "levels": "\n".join(map(_level, facts.levels)),
        "compression": facts.compression,
        "pixels": _pixels(facts),
        "profile": _profile(facts.icc),
        "reader": facts.reader,
        "refused": "\n".join(facts.refused),
        **facts.properties,
        "associated": ", ".join(facts.associated) or "none",
        "fingerprint": facts.fingerprint,
    }
    return {name: text for name, text in rows.items() if text}


def _size(facts: Facts) -> str:
    height, width = facts.size_px
    text = f"{width} x {height} px"
    if facts.size_mm is None:
        return text
    return f"{text}, {facts.size_mm[1]:.2f} x {facts.size_mm[0]:.2f} mm"


def _resolution(facts: Facts) -> str:
    remedy = "give the true value with --mpp"
    if facts.likely_mpp is not None:
        remedy = f"probably {facts.likely_mpp:.3g}, to be confirmed with --mpp"
    if facts.mpp is None:
        return f"not in the file; {remedy}"
    my, mx = facts.mpp
    value = f"{mx:.4g}" if abs(mx - my) < 1e-3 * mx else f"{mx:.4g} x {my:.4g}"
    if facts.mpp_verified:
        return f"{value} ({facts.mpp_origin})"
    if facts.mpp_usable:
        return f"{value} ({facts.mpp_origin}, unverified)"
    return f"{value} ({facts.mpp_origin}), implausible and not used: {remedy}"


def _level(level: LevelFacts) -> str:
    (height, width), (fy, fx) = level.size_px, level.factor
    factor = f"1/{fy:.4g}" if abs(fy - fx) < 1e-3 * fy else f"1/{fx:.4g} x 1/{fy:.4g}"
    tile = " x ".join(map(str, reversed(level.tile_px)))
    return f"{factor}: {width} x {height} px in tiles of {tile}"


def _pixels(facts: Facts) -> str:
    if facts.rgb:
        return f"colour, {facts.dtype}"
    channels = "1 channel" if facts.channels == 1 else f"{facts.channels} channels"
    names = f" ({', '.join(facts.channel_names)})" if facts.channel_names else ""
    return f"{channels}{names}, {facts.dtype}, not a colour picture"


def _profile(icc: IccFacts | None) -> str:
    if icc is None:
        return "none"
    name = f"'{icc.description}'" if icc.description else "without a readable name"
    state = "converted to sRGB" if icc.applied else "not applied (--srgb does)"
    return f"{name}, {icc.bytes} bytes, {state}"
