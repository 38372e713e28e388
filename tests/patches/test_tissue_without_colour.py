"""Tissue of fluorescence and of grey pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from skimage.draw import disk

from napari_gimp.patches.tissue import REASONS, find_tissue

SIDE, OFFSET = 160, 100
"""Cells of 8 um, and what a camera reads without light."""


def spot(row: int, col: int, radius: int) -> NDArray[np.bool_]:
    mask = np.zeros((SIDE, SIDE), bool)
    mask[disk((row, col), radius, shape=mask.shape)] = True
    return mask


LEFT, RIGHT = spot(80, 45, 30), spot(80, 115, 30)


def camera(light: NDArray[np.float64], seed: int = 0) -> NDArray[np.uint16]:
    rng = np.random.default_rng(seed)
    noisy = OFFSET + rng.poisson(light) + rng.normal(0, 4, light.shape)
    return noisy.clip(0, 65535).astype(np.uint16)


def nuclei(where: NDArray[np.bool_], brightness: float) -> NDArray[np.float64]:
    """Tissue of faint cytoplasm, with bright nuclei on a fifth of its cells."""
    rng = np.random.default_rng(3)
    dots = (rng.random(where.shape) < 0.2) * brightness
    return np.asarray((gaussian_filter(dots, 0.7) + brightness / 20) * where)


@pytest.fixture
def channels_slide(make_slide):
    def make(*channels: NDArray[Any]) -> Any:
        slide = make_slide(np.stack(channels, -1), mpp=8.0)
        slide.rgb, slide.channels = False, len(channels)
        slide.dtype, slide.fill = channels[0].dtype, 0
        slide.read_region = lambda level, y, x, height, width: slide.pixels[
            y : y + height, x : x + width
        ]
        return slide

    return make


def overlap(mask: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    return float((mask & truth).sum() / (mask | truth).sum())


@pytest.mark.parametrize("brightness", [200.0, 20_000.0])
def test_fluorescent_tissue_shines_on_a_dark_ground(channels_slide, brightness):
    slide = channels_slide(camera(nuclei(LEFT, brightness)))

    tissue = find_tissue(slide)

    assert overlap(tissue.mask, LEFT) > 0.85
    assert tissue.dark == pytest.approx(1 - tissue.mask.mean())
    assert set(tissue.excluded) == set(REASONS)


def test_tissue_that_shines_in_one_channel_only_is_found(channels_slide):
    dim, bright = camera(nuclei(LEFT, 300.0)), camera(nuclei(RIGHT, 30_000.0), seed=1)

    tissue = find_tissue(channels_slide(dim, bright))

    assert overlap(tissue.mask, LEFT | RIGHT) > 0.85


def test_a_channel_of_noise_alone_finds_nothing(channels_slide):
    empty = [camera(np.zeros((SIDE, SIDE)), seed) for seed in range(3)]

    assert not find_tissue(channels_slide(*empty)).mask.any()
    assert not find_tissue(channels_slide(empty[0] * 0)).mask.any()


def test_grey_on_bright_glass_is_measured_by_density(channels_slide):
    rng = np.random.default_rng(0)
    grey = np.where(LEFT, 150, 240) + rng.normal(0, 2, LEFT.shape)

    tissue = find_tissue(channels_slide(grey.clip(0, 255).astype(np.uint8)))

    assert overlap(tissue.mask, LEFT) > 0.97
    assert tissue.dark == 0


def test_fluorescence_saved_as_a_colour_picture_is_found(make_slide):
    picture = np.zeros((SIDE, SIDE, 3), np.uint8)
    picture[LEFT] = (30, 60, 220)
    picture[RIGHT] = (40, 200, 40)

    tissue = find_tissue(make_slide(picture, mpp=8.0))

    assert overlap(tissue.mask, LEFT | RIGHT) > 0.85
    assert tissue.dark > 0.5


def test_specks_of_light_go_and_their_area_is_told(channels_slide):
    light = nuclei(LEFT, 5000.0)
    light[20:22, 140:142] = 5000.0

    tissue = find_tissue(channels_slide(camera(light)))

    assert not tissue.mask[20, 140]
    assert tissue.excluded["specks"] > 0
