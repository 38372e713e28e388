"""Out of focus: blur of the same pixels is told from sharp, smooth and pale tissue."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.signal import fftconvolve

from napari_gimp.patches import focus
from napari_gimp.patches.focus import energies_of, is_blurred
from napari_gimp.patches.tissue import BLURRED, find_tissue

Rgb = NDArray[np.uint8]

GLASS = 243
SIDE_PX = 1024
"""Of a slide of 2 um/px: 2 mm."""


def section(seed: int = 0) -> NDArray[np.float64]:
    """Light through tissue with nuclei of 8 um and fibres, glass on the left."""
    rng = np.random.default_rng(seed)
    nuclei = rng.random((SIDE_PX, SIDE_PX)) < 0.01
    light = np.full((SIDE_PX, SIDE_PX), 190.0)
    light -= 300 * gaussian_filter(nuclei.astype(float), 1.2) * 8
    light += 25 * gaussian_filter(rng.normal(0, 1, light.shape), (1, 4)) * 3
    light[:, :128] = GLASS
    return light.clip(40, 250)


def defocused(light: NDArray[np.float64], radius_um: float) -> NDArray[np.float64]:
    radius = radius_um / 2
    n = int(np.ceil(radius))
    y, x = np.mgrid[-n : n + 1, -n : n + 1]
    spread = (y**2 + x**2 <= radius**2).astype(float)
    padded = np.pad(light, n, mode="reflect")
    return np.asarray(fftconvolve(padded, spread / spread.sum(), mode="valid"))


def seen(light: NDArray[np.float64], noise: float = 1.0) -> Rgb:
    """A scanner's purple picture of light."""
    rng = np.random.default_rng(7)
    colours = np.stack([light * 0.5 + GLASS * 0.5, light, light * 0.4 + GLASS * 0.6], 2)
    colours += rng.normal(0, noise, colours.shape)
    return np.asarray(colours.round().clip(0, 255), np.uint8)


@pytest.fixture
def half_blurred() -> NDArray[np.float64]:
    light = section()
    light[:, 512:] = defocused(light, 12.0)[:, 512:]
    return light


def test_the_blurred_half_of_a_section_is_left_out(make_slide, half_blurred) -> None:
    tissue = find_tissue(make_slide(seen(half_blurred), mpp=2.0))

    middle = 512 // 4
    assert tissue.mask[:, 128 // 4 + 2 : middle - 8].mean() > 0.98
    assert tissue.mask[:, middle + 8 :].mean() < 0.02
    assert tissue.excluded[BLURRED] == pytest.approx(2.048 * 1.024, rel=0.1)
    assert "detail of 4 um against structure of 16 um" in tissue.focus


@pytest.mark.parametrize("contrast", [1.0, 0.4, 0.2], ids=["dark", "pale", "palest"])
def test_sharp_tissue_is_kept_however_pale(make_slide, contrast: float) -> None:
    light = GLASS - (GLASS - section()) * contrast

    tissue = find_tissue(make_slide(seen(light), mpp=2.0))

    assert tissue.excluded[BLURRED] == 0


def test_smooth_tissue_beside_sharp_tissue_is_kept(make_slide) -> None:
    light = section()
    light[:, 512:] = 200.0  # nothing to judge by: mucin, colloid

    tissue = find_tissue(make_slide(seen(light), mpp=2.0))

    assert tissue.excluded[BLURRED] == 0


def test_a_slide_on_which_nothing_is_sharp_is_kept_and_told_of(make_slide) -> None:
    light = defocused(section(), 12.0)

    tissue = find_tissue(make_slide(seen(light), mpp=2.0))

    assert tissue.excluded[BLURRED] == 0
    assert "seems blurred, and is kept" in tissue.focus


def test_a_slide_of_coarse_pixels_is_not_judged(make_slide) -> None:
    picture = np.full((128, 128, 3), (150, 90, 150), np.uint8)

    tissue = find_tissue(make_slide(picture, mpp=4.0))

    assert tissue.focus == "not judged: a pixel is 4 um"


def test_reading_stays_within_its_budget(make_slide, half_blurred, monkeypatch) -> None:
    slide = make_slide(seen(half_blurred), mpp=2.0)
    monkeypatch.setattr(focus, "BUDGET_PX", 64 * 64 * 60)
    tissue = find_tissue(slide)
    overview_px = half_blurred.size

    assert slide.pixels_read <= overview_px + 64 * 64 * 60
    assert tissue.excluded[BLURRED] == pytest.approx(2.048 * 1.024, rel=0.25)


@pytest.mark.parametrize("radius_um", [6, 8, 12, 16])
@pytest.mark.real_data
def test_real_tissue_is_told_from_its_own_blur(shared_data, radius_um: int) -> None:
    sharp, blurred = [], []
    for light in _greens(shared_data):
        sharp += _verdicts(light)
        blurred += _verdicts(defocused(light, radius_um))

    assert len(sharp) > 80
    assert sharp.count(True) == 0
    assert blurred.count(True) > 0.8 * len(blurred)


@pytest.mark.real_data
def test_a_blurred_part_of_a_real_slide_is_left_out(shared_data, make_slide) -> None:
    light = _greens(shared_data)[0]
    half = light.shape[1] // 2
    light[:, half:] = defocused(light, 10.0)[:, half:]

    tissue = find_tissue(make_slide(seen(light), mpp=2.0))

    edge = half // 4
    assert tissue.mask[:, : edge - 12].mean() > 0.9
    assert tissue.mask[:, edge + 12 :].mean() < 0.1


def _verdicts(light: NDArray[np.float64]) -> list[bool | None]:
    noise = np.random.default_rng(3).normal(0, 0.7, light.shape)
    grey = (light + noise).round().clip(0, 255).astype(np.float32)
    rows, cols = (side // 64 * 64 for side in grey.shape)
    energies = energies_of(grey[:rows, :cols])
    return [
        is_blurred([energy[i : i + 4, j : j + 4] for energy in energies])
        for i in range(0, rows // 16, 4)
        for j in range(0, cols // 16, 4)
    ]


def _greens(shared_data: Path) -> list[NDArray[np.float64]]:
    """The green light of real tissue at 2 um/px: a breast section, glioma, muscle."""
    from PIL import Image

    from napari_gimp.slide.resample import read_at
    from napari_gimp.slide.source import open_slide

    with open_slide(shared_data / "slides" / "her2st-C2.tif") as slide:
        found = [np.asarray(read_at(slide, 3600.0, 3600.0, (512, 640), 2.0))[..., 1]]
    for path in sorted((shared_data / "tiles_glioma_pathomic" / "imgs").glob("*.png")):
        with Image.open(path) as image:
            found.append(np.asarray(image.resize((256, 256), Image.BOX))[..., 1])
    with Image.open(shared_data / "qc_tissue" / "medium-nuclei-score-level1.png") as im:
        found.append(np.asarray(im)[300:492, :192, 1])
    return [np.asarray(green, dtype=np.float64) for green in found]
