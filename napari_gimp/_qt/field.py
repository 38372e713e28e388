"""What of a slide is on the screen, and how large. No Qt, no napari.

A field is told in shares of the slide, 0 to 1, from the outer corner of its first
pixel: so it holds for slides of unknown um/px as well.
"""

from __future__ import annotations

from dataclasses import dataclass

from napari_gimp.geometry import YX

UM_AT_1X = 10.0
"""um per screen px at 1x: by the field's convention 0.25 um/px is 40x."""
NATIVE = 1.02
"""Slide px per screen px times this below 1 is more than the scan holds."""


@dataclass(frozen=True, slots=True)
class Field:
    """A rectangle (y0, x0) to (y1, x1) in shares of the slide; may reach beyond."""

    y0: float
    x0: float
    y1: float
    x1: float

    @property
    def center(self) -> YX:
        """Centre (y, x)."""
        return (self.y0 + self.y1) / 2, (self.x0 + self.x1) / 2

    def common(self, other: Field) -> Field | None:
        """Return what both show, None if nothing."""
        y0, x0 = max(self.y0, other.y0), max(self.x0, other.x0)
        y1, x1 = min(self.y1, other.y1), min(self.x1, other.x1)
        return Field(y0, x0, y1, x1) if y1 > y0 and x1 > x0 else None

    def covers(self, other: Field) -> bool:
        """Whether it shows all of another."""
        return self.common(other) == other


WHOLE = Field(0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True, slots=True)
class Lens:
    """How napari looks at its world.

    Parameters
    ----------
    center
        World position (y, x) in the middle of the canvas.
    zoom
        Screen px per world unit.
    canvas
        Height and width of the canvas, screen px.
    """

    center: YX
    zoom: float
    canvas: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a slide lies in napari's world.

    Parameters
    ----------
    shape
        Rows and columns of level 0.
    scale
        World units per level-0 pixel (y, x).
    translate
        World position (y, x) of the centre of pixel (0, 0).
    mpp
        um per level-0 pixel (y, x), None where unknown.
    """

    shape: tuple[int, int]
    scale: YX
    translate: YX
    mpp: YX | None


def field_of(lens: Lens, place: Place) -> Field:
    """Return what part of the slide the canvas shows."""
    (y, x), (height, width) = lens.center, lens.canvas
    half_y, half_x = height / lens.zoom / 2, width / lens.zoom / 2
    top, left = share_of((y - half_y, x - half_x), place)
    bottom, right = share_of((y + half_y, x + half_x), place)
    return Field(top, left, bottom, right)


def share_of(world: YX, place: Place) -> YX:
    """Return the share (y, x) of the slide at a world position (y, x)."""
    y, x = (
        ((at - start) / step + 0.5) / side
        for at, start, step, side in zip(
            world, place.translate, place.scale, place.shape, strict=True
        )
    )
    return y, x


def world_of(share: YX, place: Place) -> YX:
    """Return the world position (y, x) of a share (y, x) of the slide."""
    y, x = (
        start + (part * side - 0.5) * step
        for part, start, step, side in zip(
            share, place.translate, place.scale, place.shape, strict=True
        )
    )
    return y, x


def slide_px_per_screen_px(lens: Lens, place: Place) -> float:
    """Return how many level-0 pixels lie side by side under one screen pixel."""
    return 1 / (lens.zoom * place.scale[1])


def um_per_screen_px(lens: Lens, place: Place) -> float | None:
    """Return um per screen pixel, None where the slide's um/px is unknown."""
    if place.mpp is None:
        return None
    return slide_px_per_screen_px(lens, place) * place.mpp[1]


def zoom_for(magnification: float, place: Place) -> float | None:
    """Return the zoom that shows a slide at a magnification; None without um/px."""
    if place.mpp is None:
        return None
    slide_px = UM_AT_1X / magnification / place.mpp[1]
    return 1 / (slide_px * place.scale[1])


def magnification_text(lens: Lens, place: Place) -> str:
    """Return "20×  ·  0.50 µm/px", and "digital zoom" beyond the scan's own pixels.

    Without um/px there is no magnification: only pixels are told.
    """
    slide_px = slide_px_per_screen_px(lens, place)
    um = um_per_screen_px(lens, place)
    if um is None:
        parts = [f"{slide_px:.3g} slide px per screen px"]
    else:
        parts = [f"{UM_AT_1X / um:.3g}×", f"{_um(um)} µm/px"]
    if slide_px * NATIVE < 1:
        parts.append(f"digital zoom {1 / slide_px:.2g}×")
    return "  ·  ".join(parts)


def _um(um: float) -> str:
    """Return um with the digits that tell two magnifications apart."""
    return f"{um:.3g}" if um >= 10 else f"{um:.2f}" if um >= 0.1 else f"{um:.3f}"
