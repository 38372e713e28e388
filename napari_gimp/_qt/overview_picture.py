"""The small picture of a whole slide, made off the main thread. No Qt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from napari_gimp.slide.view import SlideView

LONGEST_PX = 220
"""Longer side of the picture on screen, px."""
POLL_S = 0.2
"""How often it is asked whether the coarsest level is there, s."""
RGB = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Tone:
    """How one channel is shown.

    Parameters
    ----------
    channel
        Its number.
    color
        Red, green, blue (0 to 1) of its brightest value.
    low, high
        Values shown black and brightest.
    """

    channel: int
    color: RGB
    low: float
    high: float


def pictures(
    view: SlideView, tones: Sequence[Tone] | None, ratio: float
) -> Iterator[NDArray[np.uint8] | None]:
    """Yield None while the coarsest level is being decoded, then the picture.

    Nothing is decoded for it: the viewer needs that level anyway. Parameters as for
    `picture_of`.
    """
    while not view.base.complete.wait(POLL_S):
        yield None
    yield picture_of(view, tones, ratio)


def picture_of(
    view: SlideView, tones: Sequence[Tone] | None = None, ratio: float = 1.0
) -> NDArray[np.uint8]:
    """Return the slide as RGB (h, w, 3), at most `LONGEST_PX` times `ratio` long.

    Parameters
    ----------
    view
        The slide.
    tones
        How its channels are shown, None for a colour slide.
    ratio
        Physical pixels per screen px.
    """
    from skimage.transform import resize

    rows, cols = view.plan[-1].inner
    pixels = view.base.pixels[:rows, :cols]
    picture = eight_bit(pixels) if tones is None else colours(pixels, tones)
    shrink = min(1.0, LONGEST_PX * ratio / max(picture.shape[:2]))
    shape = [max(1, round(side * shrink)) for side in picture.shape[:2]]
    small = resize(picture, shape, anti_aliasing=True, preserve_range=True)
    return np.asarray(np.round(small), dtype=np.uint8)


def eight_bit(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """Return colour pixels (h, w, 3) of 8 or 16 bits as 8 bits."""
    if pixels.dtype == np.uint8:
        return pixels
    return (pixels >> 8).astype(np.uint8)


def colours(pixels: NDArray[Any], tones: Sequence[Tone]) -> NDArray[np.uint8]:
    """Return channels (h, w, C) laid over each other in their colours (h, w, 3)."""
    total = np.zeros((*pixels.shape[:2], 3))
    for tone in tones:
        span = max(tone.high - tone.low, 1e-9)
        values = pixels[:, :, tone.channel].astype(np.float64)
        bright = np.clip((values - tone.low) / span, 0, 1)
        total += bright[:, :, np.newaxis] * np.asarray(tone.color)
    return np.asarray(np.round(255 * np.clip(total, 0, 1)), dtype=np.uint8)
