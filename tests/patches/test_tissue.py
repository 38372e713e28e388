from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.draw import disk

from napari_gimp.patches.tissue import REASONS, find_tissue, tissue_mask

CELL = (8.0, 8.0)
GLASS, PALE, PURPLE = (243, 242, 244), (228, 208, 223), (150, 90, 150)
INKS = {
    "blue": ((40, 110, 200), "blue or green ink"),
    "green": ((40, 150, 120), "blue or green ink"),
    "red": ((205, 25, 45), "red ink"),
    "black": ((35, 30, 38), "black ink"),
}


def glass(rows: int = 200, cols: int = 240) -> NDArray[np.uint8]:
    rng = np.random.default_rng(0)
    noisy = np.array(GLASS) + rng.normal(0, 1.5, (rows, cols, 3))
    return noisy.clip(0, 255).astype(np.uint8)


def stain(image: NDArray[np.uint8], colour: tuple[int, int, int], radius: int) -> float:
    """Paint a disc of tissue and return its area in cells."""
    rng = np.random.default_rng(1)
    where = disk((100, 90), radius, shape=image.shape[:2])
    grain = rng.normal(0, 6, (len(where[0]), 3))
    image[where] = (np.array(colour) + grain).clip(0, 255).astype(np.uint8)
    return float(len(where[0]))


def test_bare_glass_has_no_tissue() -> None:
    mask, excluded = tissue_mask(glass(), CELL)

    assert not mask.any()
    assert set(excluded) == set(REASONS)


def test_glass_that_is_smaller_than_a_hole_is_no_tissue() -> None:
    mask, _ = tissue_mask(glass(10, 12), CELL)
    assert not mask.any()


@pytest.mark.parametrize("colour", [PALE, PURPLE], ids=["pale", "dark"])
def test_a_stained_disc_is_found_to_its_edge(colour: tuple[int, int, int]) -> None:
    image = glass()
    area = stain(image, colour, 50)

    mask, _ = tissue_mask(image, CELL)

    assert mask.sum() == pytest.approx(area, rel=0.03)
    assert mask[100, 90]
    assert not mask[5, 5]


def test_pale_tissue_beside_dark_tissue_is_kept() -> None:
    image = glass()
    stain(image, PALE, 60)
    stain(image, PURPLE, 30)

    mask, _ = tissue_mask(image, CELL)

    assert mask[100, 90 + 45]


@pytest.mark.parametrize("ink", INKS)
def test_a_pen_stroke_is_left_out_and_its_area_told(ink: str) -> None:
    image = glass()
    stain(image, PURPLE, 50)
    colour, reason = INKS[ink]
    image[20:180, 150:170] = colour

    mask, excluded = tissue_mask(image, CELL)

    assert not mask[20:180, 150:170].any()
    assert mask[100, 70]
    stroke_mm2 = 160 * 20 * 64 / 1e6
    assert excluded[reason] == pytest.approx(stroke_mm2, rel=0.35)


def test_a_vessel_full_of_red_cells_is_tissue_and_a_dot_of_red_ink_is_not() -> None:
    image = glass()
    stain(image, PURPLE, 50)
    image[disk((85, 75), 6)] = (190, 70, 80)
    image[disk((115, 105), 6)] = (200, 10, 18)

    mask, _ = tissue_mask(image, CELL)

    assert mask[85, 75]
    assert not mask[115, 105]


def test_specks_go_and_small_holes_are_filled() -> None:
    image = glass()
    stain(image, PURPLE, 50)
    image[98:102, 88:92] = GLASS
    image[10:14, 200:204] = PURPLE

    mask, excluded = tissue_mask(image, CELL)

    assert mask[100, 90]
    assert not mask[12, 202]
    assert excluded["specks"] == pytest.approx(16 * 64 / 1e6, rel=0.01)


def test_in_a_single_tile_small_tissue_is_no_speck() -> None:
    image = glass(24, 24)  # 0.04 mm2
    image[4:16, 6:16] = PURPLE

    mask, _ = tissue_mask(image, CELL)

    assert mask.sum() == 120


def test_the_grey_edge_of_a_slide_is_no_tissue() -> None:
    image = glass()
    image[:12] = (120, 120, 122)

    mask, excluded = tissue_mask(image, CELL)

    assert not mask.any()
    assert excluded["dark edge"] > 0.1


def test_a_slide_without_glass_is_all_tissue() -> None:
    image = np.full((64, 64, 3), PURPLE, np.uint8)

    mask, _ = tissue_mask(image, CELL)

    assert mask.all()


def test_tissue_is_found_on_a_slide_in_place(make_slide) -> None:
    image = np.full((1600, 1200, 3), 243, np.uint8)
    image[800:1600, 400:1200] = PURPLE
    slide = make_slide(image, mpp=2.0)

    tissue = find_tissue(slide)

    assert tissue.grid.cell_um == (8.0, 8.0)
    assert tissue.area_mm2 == pytest.approx(1.6 * 1.6, rel=0.02)
    row, col = tissue.grid.cell_at(1700.0, 900.0)
    assert tissue.mask[row, col]
    row, col = tissue.grid.cell_at(1500.0, 900.0)
    assert not tissue.mask[row, col]


TRUTH = {
    "almost-white-1": (0.0, 0.001),
    "no-tissue": (0.0, 0.002),
    "tissue-level2-3000-7666-7096-11763": (0.5, 0.9),
    "medium-nuclei-score-level1": (0.4, 0.8),
    "low-nuclei-score-level1": (0.08, 0.25),
    "diagnostic-slide-thumb-rgb": (0.35, 0.5),
    "wsi-blue-pen": (0.2, 0.5),
    "no-tissue-red-pen": (0.0, 0.2),
}
"""All pictures. Of the red pen, soft at 8 um/px, the palest rim is taken for tissue."""


@pytest.mark.real_data
@pytest.mark.parametrize("name", TRUTH)
def test_real_images_have_the_tissue_their_names_say(shared_data, name: str) -> None:
    mask, _ = tissue_mask(_image(shared_data, name), CELL)

    low, high = TRUTH[name]
    assert low <= mask.mean() <= high


@pytest.mark.real_data
def test_real_blue_pen_is_left_out(shared_data) -> None:
    image = _image(shared_data, "wsi-blue-pen")

    mask, excluded = tissue_mask(image, CELL)

    blue = image[..., 2].astype(int) - image[..., 0] > 60
    assert blue.sum() > 200
    assert (mask & blue).sum() < 0.02 * blue.sum()
    assert excluded["blue or green ink"] > 0.02


@pytest.mark.real_data
def test_every_real_picture_has_its_truth(shared_data) -> None:
    names = {path.stem for path in (shared_data / "qc_tissue").glob("*.png")}

    assert names == set(TRUTH)


@pytest.mark.real_data
def test_three_inks_of_a_real_slide_are_left_out_and_told_apart(shared_data) -> None:
    image = _image(shared_data, "diagnostic-slide-thumb-rgb")

    mask, excluded = tissue_mask(image, CELL)

    red, green, blue = np.moveaxis(image.astype(int), -1, 0)
    inks = {
        "green": green > red + 30,
        "black": image.max(axis=-1) < 50,
        "red": (red > green + 130) & (red > blue + 100),
    }
    missed = {"green": 0.1, "black": 0.1, "red": 0.1}
    for name, ink in inks.items():
        assert ink.sum() > 100, name
        assert (mask & ink).sum() < missed[name] * ink.sum(), name
    assert min(excluded[why] for why in REASONS[:3]) > 0.5


@pytest.mark.real_data
def test_most_of_a_real_red_and_black_pen_is_left_out(shared_data) -> None:
    mask, excluded = tissue_mask(_image(shared_data, "no-tissue-red-pen"), CELL)

    inked = sum(excluded.values())
    left = mask.sum() * 64 / 1e6
    assert excluded["red ink"] > 3
    assert left < 0.35 * (inked + left)


def _image(shared_data, name: str) -> NDArray[np.uint8]:
    from PIL import Image

    path = shared_data / "qc_tissue" / f"{name}.png"
    return np.asarray(Image.open(path).convert("RGB"))
