"""What the Slide dock says of a slide. No Qt."""

from __future__ import annotations

from dataclasses import dataclass

from napari_gimp._qt.wording import resolution, size_mm, size_px
from napari_gimp.slide.describe import Facts, IccFacts

USUAL_MPP = 0.5
"""A 20x scan, the guess where a file says nothing, um/px."""
UM_PER_MM = 1000.0
NOBODY = ("unknown", "generic-tiff", "ome", "none")
BITS = {"uint8": "8 bit", "uint16": "16 bit", "uint32": "32 bit", "int16": "16 bit"}


@dataclass(frozen=True, slots=True)
class Fact:
    """A line of the dock.

    Parameters
    ----------
    text
        What it says.
    tip
        What its tooltip adds.
    """

    text: str
    tip: str = ""


def facts_of(facts: Facts) -> dict[str, Fact]:
    """Return what is known of a slide by title, in the order of the dock."""
    rows = {
        "File": Fact(facts.file),
        "Size": Fact(_size(facts)),
        "Resolution": _resolution(facts),
        "Objective": Fact("" if facts.objective is None else f"{facts.objective:g}×"),
        "Vendor": Fact(_said(facts.vendor)),
        "Scanner": Fact(_said(facts.scanner)),
        "Pixels" if facts.rgb else "Channels": _pixels(facts),
        "Levels": _levels(facts),
        "Tiles": Fact(_tiles(facts)),
        "Compression": Fact(_compression(facts.compression)),
        "Colour profile": _profile(facts.icc),
        "Reader": _reader(facts),
        "Label images": _associated(facts),
    }
    return {title: fact for title, fact in rows.items() if fact.text}


def doubt_about(facts: Facts) -> str:
    """Return why the um/px must be asked for, "" where it need not."""
    if facts.mpp_usable:
        return ""
    if facts.mpp is None:
        return (
            "The file does not say how large a pixel is, so the slide is shown in "
            "pixels and cannot be analysed yet."
        )
    return (
        f"The file states {resolution(facts.mpp)} ({facts.mpp_origin}), which no slide "
        "scanner has. The slide is shown in pixels and cannot be analysed yet."
    )


def guess_mpp(facts: Facts) -> float:
    """Return a likely um/px where the stated one is missing or cannot be."""
    if facts.mpp_usable and facts.mpp is not None:
        return facts.mpp[1]
    return USUAL_MPP if facts.likely_mpp is None else facts.likely_mpp


def hint_of(facts: Facts) -> str:
    """Return where the guess comes from, for the question's tooltip."""
    if facts.likely_mpp is None:
        return "About 0.25 at 40×, 0.5 at 20×, 1.0 at 10×"
    reason = (
        f"the file's {facts.mpp[1]:.4g} in another unit"
        if facts.mpp is not None and facts.likely_origin == "wrong unit"
        else f"the usual one of a {facts.objective:g}× objective"
    )
    return f"Probably {facts.likely_mpp:.3g} µm/px: {reason}"


def _size(facts: Facts) -> str:
    size = size_px(facts.size_px)
    if facts.size_mm is None:
        return size
    height_mm, width_mm = facts.size_mm
    return f"{size}\n{size_mm((height_mm * UM_PER_MM, width_mm * UM_PER_MM))}"


def _resolution(facts: Facts) -> Fact:
    if facts.mpp is None:
        return Fact("not in the file", doubt_about(facts))
    text = f"{resolution(facts.mpp)} ({facts.mpp_origin}"
    if facts.mpp_verified:
        return Fact(f"{text})")
    if facts.mpp_usable:
        return Fact(f"{text}, unverified)", "Your answer; the file does not confirm it")
    likely = facts.likely_mpp
    meant = "" if likely is None else f"; probably {likely:.3g} is meant"
    return Fact(f"{text}, implausible{meant})", doubt_about(facts))


def _said(name: str) -> str:
    """Return a maker's name; "" for what a format writes where there is none."""
    return "" if name.casefold() in NOBODY else name


def _compression(name: str) -> str:
    """Return a compression without the firm that TIFF names it by."""
    return name.removeprefix("ADOBE_").replace("_", " ")


def _pixels(facts: Facts) -> Fact:
    kind = BITS.get(facts.dtype, facts.dtype)
    if facts.rgb:
        return Fact(f"colour, {kind}")
    names = ", ".join(facts.channel_names)
    return Fact(f"{names or facts.channels} ({kind})")


def _levels(facts: Facts) -> Fact:
    factors = ", ".join(f"{level.factor[0]:.4g}×" for level in facts.levels)
    sizes = "\n".join(size_px(level.size_px) for level in facts.levels)
    count = len(facts.levels)
    return Fact(f"{count} stored ({factors})" if count > 1 else "1 stored", sizes)


def _tiles(facts: Facts) -> str:
    tile, whole = facts.levels[0].tile_px, facts.levels[0].size_px
    return "none (one whole picture)" if tile == whole else size_px(tile)


def _profile(icc: IccFacts | None) -> Fact:
    if icc is None:
        return Fact("none")
    state = "converted to sRGB" if icc.applied else "not applied"
    return Fact(f"{icc.description or 'unnamed'} ({state})", f"{icc.bytes:,} bytes")


def _reader(facts: Facts) -> Fact:
    if not facts.refused:
        return Fact(facts.reader)
    others = "1 other" if len(facts.refused) == 1 else f"{len(facts.refused)} others"
    return Fact(f"{facts.reader} ({others} refused the file)", "\n".join(facts.refused))


def _associated(facts: Facts) -> Fact:
    if not facts.associated:
        return Fact("")
    names = ", ".join(facts.associated)
    return Fact(f"{names}: not read, may show the patient's name")
