"""Where OpenSlide finds the pixels of a Leica slide, whose picture starts anywhere.

A picture that starts 61 px into the canvas starts at 15.25 px of a level made by 4:
its pixels lie between those of the canvas. OpenSlide moves them onto whole pixels,
up to one pixel of the level away. Here whole stored pixels are read, and the canvas'
own are made of their parts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_gimp.slide.source import Level, Pixels

NO_SHARE = 1e-3
"""Parts of a pixel below this are none."""
REACH_PX = 4
"""OpenSlide puts the picture's first pixel at most so far from where it belongs."""


@dataclass(frozen=True, slots=True)
class Span:
    """What to read along an axis: from which level-0 px on, and how it is shared out.

    Parameters
    ----------
    corner
        The level-0 px that OpenSlide is given.
    share
        Which part of each pixel lies on the next stored one, 0 to 1.
    """

    corner: int
    share: float = 0.0

    @property
    def more(self) -> int:
        """How many pixels more than wanted must be read."""
        return 1 if self.share else 0


@dataclass(frozen=True, slots=True)
class Axis:
    """How one axis of a level lies on the canvas.

    Parameters
    ----------
    start
        Where the picture starts, px of the level; rarely a whole number.
    origin
        The whole px at which OpenSlide has it start.
    factor
        The level's factor by OpenSlide, which takes it from rounded sides.
    """

    start: float
    origin: int
    factor: float

    def span(self, position: int) -> Span:
        """Return what to read for a position, px of the level."""
        pixel = position - self.start
        first = math.floor(pixel + NO_SHARE)
        # OpenSlide rounds towards the picture's first pixel
        exact = round((first + self.origin) * self.factor, 6)
        corner = math.ceil(exact) if first >= 0 else math.floor(exact)
        share = pixel - first
        return Span(corner, share) if share > NO_SHARE else Span(corner)


def axes(slide: Any, number: int, level: Level) -> tuple[Axis, Axis]:
    """Return how a level lies along y and x, by the first scanned part.

    Parameters
    ----------
    slide
        OpenSlide's handle.
    number, level
        The level, with the factor by which it was made.

    Raises
    ------
    openslide.OpenSlideError
        If the picture's first corner cannot be decoded; see `assumed_axes`.
    """
    y, x = _start(slide, level)
    factor = slide.level_downsamples[number]
    corner = [math.floor((math.floor(v) - REACH_PX) * factor) for v in (y, x)]
    size = 2 * REACH_PX + 1
    image = slide.read_region((corner[1], corner[0]), number, (size, size))
    opaque = np.asarray(image)[:, :, 3]
    origin_y = _origin(opaque.max(axis=1) > 0, corner[0] / factor, y)
    origin_x = _origin(opaque.max(axis=0) > 0, corner[1] / factor, x)
    return Axis(y, origin_y, factor), Axis(x, origin_x, factor)


def assumed_axes(slide: Any, number: int, level: Level) -> tuple[Axis, Axis]:
    """Return how a level lies if OpenSlide rounds down; it may be a px off."""
    y, x = _start(slide, level)
    factor = slide.level_downsamples[number]
    return Axis(y, math.floor(y), factor), Axis(x, math.floor(x), factor)


def _start(slide: Any, level: Level) -> tuple[float, float]:
    """Return where the first scanned part starts (y, x), px of a level."""
    y, x = (int(slide.properties.get(f"openslide.region[0].{v}", 0)) for v in "yx")
    return y / level.downsample[0], x / level.downsample[1]


def _origin(there: np.ndarray[Any, Any], place: float, start: float) -> int:
    """Return the px at which OpenSlide has the picture start.

    Parameters
    ----------
    there
        Whether a pixel, read from `place` (px of the level) on, holds picture.
    place
        Not a whole number: OpenSlide rounds it towards the picture.
    start
        Where the picture starts, for an answer if nothing was found.
    """
    if not there.any() or there[0]:
        return math.floor(start)
    return math.ceil(place) + int(there.argmax())


def between(pixels: Pixels, share_y: float, share_x: float) -> Pixels:
    """Return pixels (h, w, 3) that reach a share into the next ones, as area means.

    Of an axis with a share one pixel more is given.
    """
    if share_y == share_x == 0:
        return pixels
    mixed = pixels.astype(np.float32)
    if share_y:
        mixed = mixed[:-1] * (1 - share_y) + mixed[1:] * share_y
    if share_x:
        mixed = mixed[:, :-1] * (1 - share_x) + mixed[:, 1:] * share_x
    whole: Pixels = np.rint(mixed).astype(pixels.dtype)
    return whole
