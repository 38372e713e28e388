"""What the Slide dock says of a slide. No Qt."""

from __future__ import annotations

from napari_gimp._qt.wording import resolution, size_mm, size_px
from napari_gimp.slide.resolution import likely_mpp
from napari_gimp.slide.source import Resolution, SlideSource, level_grid

USUAL_MPP = 0.5
"""A 20x scan, the guess where a file says nothing, um/px."""

TITLES = {
    "objective": "Objective",
    "vendor": "Vendor",
    "scanner": "Scanner",
    "compression": "Compression",
}


def facts_of(source: SlideSource) -> dict[str, str]:
    """Return the facts of an open slide by title."""
    shape, res = source.levels[0].shape, source.resolution
    facts = {"File": source.path.name, "Size": size_px(shape)}
    if res.mpp is not None and not doubt_about(res):
        facts["Area"] = size_mm(level_grid(source, 0).rect.size_um)
        doubt = "" if res.verified else ", unverified"
        facts["Resolution"] = f"{resolution(res.mpp)} ({res.origin}{doubt})"
    for key, title in TITLES.items():
        if text := source.properties.get(key):
            facts[title] = text
    if "Objective" in facts:
        facts["Objective"] += "×"
    facts["Levels"] = _levels(source)
    facts["Reader"] = source.reader
    if source.associated:
        facts["Not read"] = f"{', '.join(source.associated)} (may carry names)"
    return facts


def doubt_about(stated: Resolution) -> str:
    """Return why the um/px must be asked for, "" where it need not."""
    if stated.verified or stated.origin == "user":
        return ""
    if stated.mpp is None:
        return (
            "The file does not say how large a pixel is, so the slide is shown in "
            "pixels and cannot be analysed yet."
        )
    return (
        f"The file states {resolution(stated.mpp)} ({stated.origin}), which no slide "
        "scanner has. The slide is shown in pixels and cannot be analysed yet."
    )


def guess_mpp(stated: Resolution) -> float:
    """Return a likely um/px where the stated one is missing or cannot be."""
    likely = None if stated.mpp is None else likely_mpp(stated.mpp[0])
    return USUAL_MPP if likely is None else likely


def _levels(source: SlideSource) -> str:
    factors = [f"{level.downsample[0]:.4g}×" for level in source.levels]
    return f"{len(factors)} stored ({', '.join(factors)})"
