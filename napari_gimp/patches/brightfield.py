"""A slide's colours as encoders take them: 8-bit RGB, whatever the file stores.

Everything that models, reports and tissue detection see is read here, so that a
16-bit slide becomes 8 bits in one way only and nothing else passes for colour.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_gimp.errors import SlideError
from napari_gimp.geometry import Grid
from napari_gimp.slide.source import Pixels, SlideSource

Rgb = NDArray[np.uint8]

STEP = 257
"""65535 / 255: a 16-bit value of white becomes 255."""


def is_colour(source: SlideSource) -> bool:
    """Whether a slide is a colour picture in 8 or 16 bits."""
    return source.rgb and source.dtype in (np.uint8, np.uint16)


def check_brightfield(source: SlideSource) -> None:
    """Refuse a slide that is no colour picture in 8 or 16 bits.

    Raises
    ------
    SlideError
        If it has separate channels (fluorescence, grey) or another kind of pixel;
        the text names the channels and the kind.
    """
    if is_colour(source):
        return
    raise SlideError(
        f"The slide '{source.path.name}' cannot be analysed: it has "
        f"{_channels(source)} of {source.dtype}, and models look at stained tissue in "
        f"colour (RGB, 8 or 16 bits). {_remedy(source)}"
    )


def read_rgb(
    source: SlideSource,
    y_um: float,
    x_um: float,
    shape_px: tuple[int, int],
    mpp: float,
) -> Rgb:
    """Return pixels (h, w, 3) at `mpp` um/px; parameters as for `read_at`.

    Raises
    ------
    SlideError
        If the slide is no bright-field picture or its file can no longer be read.
    """
    from napari_gimp.slide.resample import read_at

    check_brightfield(source)
    return eight_bits(read_at(source, y_um, x_um, shape_px, mpp))


def overview_rgb(source: SlideSource, mpp: float) -> tuple[Rgb, Grid]:
    """Return the whole slide (h, w, 3) at `mpp` um/px, and its place.

    Raises
    ------
    SlideError
        If the slide is no bright-field picture or its file can no longer be read.
    """
    from napari_gimp.slide.resample import overview

    check_brightfield(source)
    pixels, grid = overview(source, mpp)
    return eight_bits(pixels), grid


def eight_bits(pixels: Pixels) -> Rgb:
    """Return uint8 or full-range uint16 pixels (h, w, 3) as uint8, rounded."""
    if pixels.dtype == np.uint8:
        same: Rgb = pixels.view(np.uint8)
        return same
    scaled: Rgb = ((pixels.astype(np.uint32) + STEP // 2) // STEP).astype(np.uint8)
    return scaled


def _channels(source: SlideSource) -> str:
    if source.rgb:
        return "colour"
    if source.channels == 1 and not source.channel_names:
        return "1 grey channel"
    names = f" ({', '.join(source.channel_names)})" if source.channel_names else ""
    plural = "" if source.channels == 1 else "s"
    return f"{source.channels} separate channel{plural}{names}"


def _remedy(source: SlideSource) -> str:
    if source.rgb:
        return "Export the slide with 8 or 16 bits per colour."
    if source.channels == 1:
        return (
            "Without colour, haematoxylin and eosin cannot be told apart: give the "
            "slide as scanned in colour."
        )
    return (
        "Fluorescence can be viewed, not analysed: give the bright-field (H&E) slide "
        "of the same patient."
    )
