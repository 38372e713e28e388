"""How the channels of a fluorescence slide look at first: name, colour, contrast."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_gimp.slide.source import Pixels, SlideSource

COLOURS = {1: ("gray",), 2: ("magenta", "green")}
MANY = ("cyan", "yellow", "magenta", "red", "green", "blue")
"""napari's own colours for more than two channels."""
DARK, BRIGHT = 1.0, 99.8
"""Percentiles of the coarsest level that become black and the full colour."""
SHOWN = 6
"""Channels that are visible at first; more than that add up to white."""


@dataclass(frozen=True, slots=True)
class ChannelLook:
    """How a channel is drawn at first.

    Parameters
    ----------
    name
        What it shows, "channel 3" where the file does not say.
    colormap
        A name or "#rrggbb".
    contrast
        The values drawn as black and as the full colour.
    visible
        Whether it is shown before anybody asks for it.
    alone
        Whether there is no other channel for it to be added to.
    """

    name: str
    colormap: str
    contrast: tuple[float, float]
    visible: bool
    alone: bool

    @property
    def layer_kwargs(self) -> dict[str, Any]:
        """What napari calls it; the name is left to the caller."""
        return {
            "colormap": self.colormap,
            "contrast_limits": self.contrast,
            "blending": "translucent" if self.alone else "additive",
            "visible": self.visible,
        }


def channel_look(source: SlideSource, channel: int, coarsest: Pixels) -> ChannelLook:
    """Return how a channel is drawn at first.

    Parameters
    ----------
    source
        The slide.
    channel
        Its number.
    coarsest
        Pixels (h, w) of the channel in a coarse level.
    """
    colours = source.channel_colors or COLOURS.get(source.channels, MANY)
    names = source.channel_names
    named = channel < len(names) and names[channel]
    return ChannelLook(
        name=names[channel] if named else f"channel {channel + 1}",
        colormap=colours[channel % len(colours)],
        contrast=contrast_of(coarsest),
        visible=channel < SHOWN,
        alone=source.channels == 1,
    )


def contrast_of(pixels: Pixels) -> tuple[float, float]:
    """Return the values to draw as black and as the full colour, low < high.

    They are percentiles: a single hot pixel would else make everything else dark.
    """
    known = pixels[np.isfinite(pixels)] if pixels.dtype.kind == "f" else pixels
    if not known.size:
        return 0.0, 1.0
    low, high = np.percentile(known.astype(np.float64), (DARK, BRIGHT))
    if high > low:
        return float(low), float(high)
    most = float(known.max())
    return (float(low), most) if most > low else (float(low), float(low) + 1.0)
