"""Small slides with known pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

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
    return np.rint(both).astype(np.uint8)


def _averaged_rows(image: np.ndarray, factor: Fraction) -> np.ndarray:
    fine = image.repeat(factor.denominator, axis=0)
    rows = len(fine) // factor.numerator
    fine = fine[: rows * factor.numerator]
    return fine.reshape(rows, factor.numerator, *image.shape[1:]).mean(axis=1)


def write_pyramid(path: Path, levels: list[np.ndarray], **kwargs: Any) -> Path:
    """Write a generic tiled pyramid at MPP um/px."""
    kwargs = {"tile": (128, 128), "photometric": "rgb", **kwargs}
    with tifffile.TiffWriter(path) as tiff:
        for number, level in enumerate(levels):
            tiff.write(
                level,
                subfiletype=int(number > 0),
                resolution=(1e4 / MPP, 1e4 / MPP),
                resolutionunit="CENTIMETER",
                metadata=None,
                **kwargs,
            )
    return path


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


@pytest.fixture(scope="session", params=["2", "4", "5/2"], ids=lambda f: f"factor {f}")
def planted(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Planted:
    """A pyramid made with one factor; its sides are no multiple of anything."""
    factor = Fraction(request.param)
    image, centers = plant((2503, 1907))
    levels = [image]
    while max(levels[-1].shape) > 200:
        grey = averaged(image[:, :, :1], factor ** len(levels))
        levels.append(grey.repeat(3, axis=2))
    path = tmp_path_factory.mktemp("planted") / "planted.tif"
    write_pyramid(path, levels, compression="deflate")
    return Planted(path, factor, levels, centers)


@pytest.fixture(scope="session")
def texture() -> np.ndarray:
    """Smooth coloured noise (700, 900, 3) that JPEG keeps well."""
    rng = np.random.default_rng(7)
    coarse = rng.integers(60, 230, (36, 46, 3)).astype(np.float32)
    fine = coarse.repeat(20, axis=0).repeat(20, axis=1)
    for axis in (0, 1):
        sums = np.cumsum(fine, axis=axis)
        fine = (np.roll(sums, -20, axis) - sums) / 20
    return np.clip(fine[:700, :900], 0, 255).astype(np.uint8)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write levels as a pyramid into this test's folder; see `write_pyramid`."""

    def write_here(levels: list[np.ndarray], name: str = "a.tif", **kw: Any) -> Path:
        return write_pyramid(tmp_path / name, levels, **kw)

    return write_here


@pytest.fixture
def find_center() -> Callable[..., tuple[float, float]]:
    """Find the bright square near an expected place, by its weighted centre."""

    def find(
        pixels: np.ndarray, cell_um: tuple[float, float], near_um: tuple[float, float]
    ) -> tuple[float, float]:
        """Return (y, x) um of the square; pixel (0, 0) begins at 0 um."""
        weight = (pixels[..., 0].astype(float) - GROUND).clip(0, BRIGHT - GROUND)
        reach = PATCH_PX * MPP * 0.5 + 5  # um; the rim is 11.5 um away
        centers = [
            (np.arange(side) + 0.5) * cell
            for side, cell in zip(weight.shape, cell_um, strict=True)
        ]
        for axis in (0, 1):
            far = np.abs(centers[axis] - near_um[axis]) > reach
            weight[(far, slice(None)) if axis == 0 else (slice(None), far)] = 0
        total = weight.sum()
        assert total > 0, "no bright square near the expected place"
        y = (weight.sum(axis=1) * centers[0]).sum() / total
        x = (weight.sum(axis=0) * centers[1]).sum() / total
        return float(y), float(x)

    return find
