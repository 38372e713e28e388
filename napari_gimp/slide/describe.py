"""What a slide is, in words and numbers, for the command line and the dock."""

from __future__ import annotations

from napari_gimp.slide.source import Resolution, SlideSource

UM_PER_MM = 1000.0


def describe(source: SlideSource) -> dict[str, str]:
    """Return a slide's facts by name: size, um/px and its origin, levels, reader.

    Associated images are named, never read: they may show the patient's name.
    """
    height, width = source.levels[0].shape
    facts = {
        "file": source.path.name,
        "size": f"{width} x {height} px{_size_mm(source)}",
        "um/px": _resolution(source.resolution),
        "levels": ", ".join(_level(level.shape) for level in source.levels),
        "tile": " x ".join(map(str, reversed(source.levels[0].tile))) + " px",
        "pixels": f"{source.channels} channels, {source.dtype}",
        "reader": source.reader,
        **source.properties,
        "associated": ", ".join(source.associated) or "none",
        "fingerprint": source.fingerprint,
    }
    return dict(facts)


def _size_mm(source: SlideSource) -> str:
    if source.resolution.mpp is None or not source.resolution.verified:
        return ""
    (height, width), (my, mx) = source.levels[0].shape, source.resolution.mpp
    return f", {width * mx / UM_PER_MM:.2f} x {height * my / UM_PER_MM:.2f} mm"


def _resolution(resolution: Resolution) -> str:
    if resolution.mpp is None:
        return "not in the file; give it with --mpp"
    my, mx = resolution.mpp
    value = f"{mx:.4g}" if abs(mx - my) < 1e-3 * mx else f"{mx:.4g} x {my:.4g}"
    doubt = "" if resolution.verified else ", unverified"
    return f"{value} ({resolution.origin}{doubt})"


def _level(shape: tuple[int, int]) -> str:
    return f"{shape[1]} x {shape[0]}"
