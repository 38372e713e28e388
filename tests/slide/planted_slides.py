"""Pictures with known content: pyramids by any factor, planted squares, texture."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

MPP = 0.5
GROUND, BRIGHT = 40, 240
PATCH_PX = 50


@dataclass(frozen=True)
class Planted:
    """A pyramid with five bright squares whose centres are known."""

    path: Path
    factor: Fraction
    levels: list[np.ndarray]
    centers_um: list[tuple[float, float]]
    mpp: float = MPP


def averaged(image: np.ndarray, factor: Fraction) -> np.ndarray:
    """Return the area mean (floor(h/f), floor(w/f), C): repeat, then block means."""
    rows = _averaged_rows(image.astype(np.float32), factor)
    both = _averaged_rows(rows.swapaxes(0, 1), factor).swapaxes(0, 1)
    return np.ascontiguousarray(np.rint(both).astype(image.dtype))


def _averaged_rows(image: np.ndarray, factor: Fraction) -> np.ndarray:
    fine = image.repeat(factor.denominator, axis=0)
    rows = len(fine) // factor.numerator
    fine = fine[: rows * factor.numerator]
    return fine.reshape(rows, factor.numerator, *image.shape[1:]).mean(axis=1)


def pyramid_of(image: np.ndarray, factor: Fraction, smallest: int) -> list[np.ndarray]:
    """Return levels, each made from the first, until one is at most `smallest` px."""
    levels = [image]
    while max(levels[-1].shape[:2]) > smallest:
        levels.append(averaged(image, factor ** len(levels)))
    return levels


def plant(shape: tuple[int, int]) -> tuple[np.ndarray, list[tuple[float, float]]]:
    """Return a dark image with bright squares, and their centres in um."""
    (rows, cols), edge = shape, 23
    bottom, right = rows - edge - PATCH_PX, cols - edge - PATCH_PX
    corners = [(edge, edge), (edge, right), (bottom, edge), (bottom, right)]
    corners.append((rows // 2 - 17, cols // 2 - 11))
    image = np.full((rows, cols, 3), GROUND, np.uint8)
    for y, x in corners:
        image[y : y + PATCH_PX, x : x + PATCH_PX] = BRIGHT
    half = PATCH_PX / 2
    return image, [((y + half) * MPP, (x + half) * MPP) for y, x in corners]


def smooth_noise(shape: tuple[int, int], channels: int, seed: int = 7) -> np.ndarray:
    """Return smooth noise (h, w, C) uint8 that JPEG keeps well."""
    rng = np.random.default_rng(seed)
    sides = [-(-side // 20) + 1 for side in shape]
    coarse = rng.integers(60, 230, (*sides, channels)).astype(np.float32)
    fine = coarse.repeat(20, axis=0).repeat(20, axis=1)
    for axis in (0, 1):
        sums = np.cumsum(fine, axis=axis)
        fine = (np.roll(sums, -20, axis) - sums) / 20
    return np.clip(fine[: shape[0], : shape[1]], 0, 255).astype(np.uint8)
