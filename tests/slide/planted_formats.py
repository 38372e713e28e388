"""The planted squares in any format, with any factor between its levels."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np

from formats import KINDS, Format
from planted_slides import GROUND, MPP, Planted, plant, pyramid_of

SMALLEST_PX = 200
WHITE = 250
"""What is brighter is glass outside the picture, not a square."""


def planted_in(
    form: Format, factor: str, folder: Path, shape: tuple[int, int]
) -> Planted:
    """Write a picture with five bright squares as a format has it.

    Parameters
    ----------
    factor
        Between neighbouring levels, as in `Format.factors`; "1" for a single level.
    shape
        Height and width of the finest level, px.
    """
    image, centers = plant(shape)
    grey = [image[:, :, :1]]
    if factor != "1":
        grey = pyramid_of(grey[0], Fraction(factor), SMALLEST_PX)
    levels = [_as_kind(level, form) for level in grey]
    path = form.write(folder, levels)
    placed = [(y, x + form.left * MPP) for y, x in centers]
    return Planted(path, Fraction(factor), levels, placed)


def _as_kind(grey: np.ndarray, form: Format) -> np.ndarray:
    """Return grey (h, w, 1) as the format's kind of pixels, opaque."""
    kind = KINDS[form.kind]
    pixels = grey.repeat(kind.channels, axis=2).astype(kind.dtype)
    if form.kind == "rgba":
        pixels[:, :, 3] = 255
    return pixels * kind.dtype(257) if kind.dtype is np.uint16 else pixels


def as_planted(pixels: np.ndarray) -> np.ndarray:
    """Return pixels (h, w, C) in 8 bits, with white glass as dark as the ground."""
    eight_bits = pixels // 257 if pixels.dtype == np.uint16 else pixels
    return np.where(eight_bits > WHITE, GROUND, eight_bits)
