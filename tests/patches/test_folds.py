"""Folds: made by laying tissue double along a curved strip, and what is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter

from napari_gimp.patches.tissue import FOLDS, tissue_mask

Rgb = NDArray[np.uint8]
Mask = NDArray[np.bool_]

CELL = (8.0, 8.0)
STAINS = {"H": (0.65, 0.70, 0.29), "E": (0.07, 0.99, 0.11)}
"""Optical density of haematoxylin and eosin, red, green, blue (Ruifrok 2001)."""
GLASS = 243


def tissue(rows: int = 300, cols: int = 360, seed: int = 0) -> NDArray[np.float64]:
    """Optical density (rows, cols, 3) of a mottled section with glass around."""
    rng = np.random.default_rng(seed)
    mottle = [gaussian_filter(rng.normal(0, 1, (rows, cols)), s) * s for s in (2, 2)]
    amounts = [0.22 * np.exp(0.4 * m) for m in mottle]
    density = sum(
        a[..., None] * np.array(STAINS[k]) for a, k in zip(amounts, "HE", strict=True)
    )
    density[:20], density[-20:], density[:, :20], density[:, -20:] = 0, 0, 0, 0
    return np.asarray(density)


def picture(density: NDArray[np.float64], seed: int = 1) -> Rgb:
    noise = np.random.default_rng(seed).normal(0, 2, density.shape)
    return (GLASS * 10**-density + noise).round().clip(0, 255).astype(np.uint8)


def strip(shape: tuple[int, ...], width_um: float, length_um: float) -> Mask:
    """A strip that bends a little, in the middle of a picture."""
    t = np.linspace(-0.5, 0.5, 400) * length_um / CELL[0]
    rows = shape[0] / 2 + 0.5 * t + t**2 / 400
    cols = shape[1] / 2 + 0.85 * t
    off = np.ones(shape[:2], bool)
    off[rows.astype(int), cols.astype(int)] = False
    return distance_transform_edt(off) <= width_um / CELL[0] / 2


def disc(shape: tuple[int, ...], radius: int) -> Mask:
    y, x = np.ogrid[: shape[0], : shape[1]]
    return (y - shape[0] / 2) ** 2 + (x - shape[1] / 2) ** 2 < radius**2


def doubled(density: NDArray[np.float64], where: Mask) -> NDArray[np.float64]:
    folded = density.copy()
    folded[where] += np.roll(density, (9, -13), (0, 1))[where]
    return folded


@pytest.mark.parametrize("width_um", [80, 160])
def test_a_fold_is_left_out_and_its_area_told(width_um: float) -> None:
    density = tissue()
    fold = strip(density.shape, width_um, 1500)

    mask, excluded = tissue_mask(picture(doubled(density, fold)), CELL)

    taken = ~mask[20:-20, 20:-20]
    truth = fold[20:-20, 20:-20]
    assert (taken & truth).sum() > 0.7 * truth.sum()
    assert (taken & ~truth).sum() < 0.5 * truth.sum()
    assert excluded[FOLDS] == pytest.approx(fold.sum() * 64 / 1e6, rel=0.4)


def test_tissue_without_a_fold_has_none() -> None:
    _, excluded = tissue_mask(picture(tissue()), CELL)

    assert excluded[FOLDS] == 0


@pytest.mark.parametrize(
    ("stain", "width_um"), [("H", 110), ("E", 110)], ids=["lymphoid band", "red band"]
)
def test_a_dark_band_of_another_hue_is_no_fold(stain: str, width_um: float) -> None:
    density = tissue()
    band = strip(density.shape, width_um, 1500)
    density[band] += 0.45 * np.array(STAINS[stain])

    _, excluded = tissue_mask(picture(density), CELL)

    assert excluded[FOLDS] == 0


def test_a_dark_round_area_is_no_fold() -> None:
    density = tissue()

    _, excluded = tissue_mask(picture(doubled(density, disc(density.shape, 60))), CELL)

    assert excluded[FOLDS] == 0


def test_a_short_dark_stroke_is_no_fold() -> None:
    density = tissue()
    stroke = strip(density.shape, 100, 300)

    _, excluded = tissue_mask(picture(doubled(density, stroke)), CELL)

    assert excluded[FOLDS] == 0


@pytest.mark.real_data
@pytest.mark.parametrize("kind", ["lung_aca", "lung_scc", "lung_n", "glioma", "dsb"])
def test_real_tiles_laid_as_a_slide_have_no_fold(shared_data, kind: str) -> None:
    mask, excluded = tissue_mask(_laid(shared_data, kind), CELL)

    assert mask.sum() * 64 / 1e6 > 0.3
    assert excluded[FOLDS] == 0


@pytest.mark.real_data
def test_a_fold_made_in_a_real_section_is_found(shared_data) -> None:
    from napari_gimp.patches.tissue import find_tissue
    from napari_gimp.slide.resample import overview
    from napari_gimp.slide.source import open_slide

    with open_slide(shared_data / "slides" / "her2st-C2.tif") as slide:
        plain, picture_ = find_tissue(slide), np.asarray(overview(slide, 8.0)[0])
    density = -np.log10((picture_.astype(float) + 1) / (GLASS + 1))
    centre = np.roll(strip(density.shape, 130, 1500), (80, 130), (0, 1)) & plain.mask
    folded = doubled(doubled(density, centre), centre)

    _, excluded = tissue_mask(picture(folded), CELL)

    assert plain.excluded[FOLDS] == 0
    truth = centre.sum() * 64 / 1e6
    assert 0.3 * truth < excluded[FOLDS] < 1.3 * truth


def _laid(shared_data: Path, kind: str) -> Rgb:
    from PIL import Image

    folder, mpp, columns = {
        "glioma": ("tiles_glioma_pathomic/imgs", 0.5, 3),
        "dsb": ("tiles_dsb2018_stained/images", 0.5, 8),
    }.get(kind, (f"tiles_lc25000_lung/dev/{kind}", 1.7, 6))
    tiles = []
    for path in sorted((shared_data / folder).glob("*.[pj]*g"))[:36]:
        with Image.open(path) as image:
            size = [round(side * mpp / 8) for side in image.size]
            tiles.append(np.asarray(image.convert("RGB").resize(size, Image.BOX)))
    height = min(len(tile) for tile in tiles)
    width = min(tile.shape[1] for tile in tiles)
    rows = [
        np.hstack([tile[:height, :width] for tile in tiles[k : k + columns]])
        for k in range(0, len(tiles) // columns * columns, columns)
    ]
    return np.pad(np.vstack(rows), ((9, 9), (9, 9), (0, 0)), constant_values=GLASS)
