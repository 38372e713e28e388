"""Where the tissue is: a mask at about 8 um/px, and what was left out and why.

Stain is measured as optical density (`artefacts`); ink, the slide's edge, folds and
what is out of focus are left out, each with its area.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from napari_gimp.geometry import YX, Grid
from napari_gimp.patches.artefacts import (
    Density,
    around,
    extremes,
    find_artefacts,
    in_strips,
    optical_density,
)
from napari_gimp.patches.brightfield import Rgb, is_colour, overview_rgb
from napari_gimp.patches.focus import find_blurred
from napari_gimp.patches.folds import find_folds
from napari_gimp.patches.without_colour import absorbing, is_bright_ground, shining
from napari_gimp.slide.resample import overview, overview_grid
from napari_gimp.slide.source import Pixels, SlideSource

Mask = NDArray[np.bool_]

TISSUE_MPP = 8.0
OD_FLOOR = 0.045
"""Least optical density (green) of tissue: fat and mucin reach it, glass does not."""
OD_CEILING = 0.15
"""Largest threshold Otsu may choose: above it pale tissue beside dark is lost."""
MANY = 3 << 22
"""Of more numbers (16 x 16 mm) a quarter tells the threshold as well."""
SMALLEST_SPECK_MM2 = 0.01
SPECK_OF_ALL = 0.05
"""In a picture of a single tile, what is larger than that part of it is no speck."""
LARGEST_HOLE_MM2 = 0.02
BROWN_OD, BROWN_RATIO = 0.15, 1.1
"""Least optical density (blue) of a brown stain, and how far it is above green's.
Measured at about 8 um/px: DAB (skimage's immunohistochemistry) 88 % of the tissue,
a dozen H&E slides and pictures of slides from four sources at most 0.3 %."""
DARK = 40
"""Below it in all three colours a pixel is black, not glass."""
DARK_GROUND = 0.5
"""More of a picture than that is black only around fluorescence."""
FOLDS, BLURRED = "folds", "out of focus"
REASONS = (
    *("blue or green ink", "red ink", "black ink", "dark edge", "specks"),
    *(FOLDS, BLURRED),
)


@dataclass(frozen=True, slots=True)
class Tissue:
    """The tissue of a slide.

    Parameters
    ----------
    mask
        (rows, cols) bool, True on tissue.
    grid
        The place of the mask on the slide; cells of about 8 um.
    excluded
        mm2 that looked stained and were left out, by reason (`REASONS`).
    brown
        Part of the tissue (0 to 1) that is brown, as DAB is and H&E is not.
    dark
        Part of the whole picture that is black, as around fluorescence.
    focus
        A sentence: what the focus was judged by; empty where it was not looked at.

    Raises
    ------
    ValueError
        If mask and grid differ in shape.
    """

    mask: Mask
    grid: Grid
    excluded: Mapping[str, float] = field(default_factory=dict)
    brown: float = 0.0
    dark: float = 0.0
    focus: str = ""

    def __post_init__(self) -> None:
        if self.mask.shape != self.grid.shape:
            raise ValueError(
                f"a mask of {self.mask.shape} needs a grid of the same shape, "
                f"got {self.grid.shape}"
            )

    @property
    def area_mm2(self) -> float:
        """Area of the tissue, mm2."""
        return _mm2(self.mask, self.grid.cell_um)


def find_tissue(source: SlideSource) -> Tissue:
    """Return the tissue of any slide, seen at about 8 um/px.

    Stained slides in colour are measured by optical density; fluorescence (several
    channels, or a picture that is mostly black) by what shines in any channel; a
    grey picture by whichever ground it has.

    Raises
    ------
    SlideError
        If the slide cannot be read, or (ResolutionError) its um/px is unknown.
    """
    mpp = max(TISSUE_MPP, *source.mpp)
    if not is_colour(source):
        return _tissue_without_colour(*overview(source, mpp))
    pixels, grid = overview_rgb(source, mpp)
    dark = _dark_part(pixels)
    if dark > DARK_GROUND:
        return replace(_tissue_without_colour(pixels, grid), dark=dark)
    density = optical_density(pixels)
    mask, excluded = _stained(density, grid.cell_um)
    brown = _brown(density, mask)
    del pixels, density
    focus = find_blurred(source, mask, grid)
    excluded[BLURRED] = _mm2(focus.blurred, grid.cell_um)
    mask &= ~focus.blurred
    return Tissue(mask, grid, MappingProxyType(excluded), brown, dark, focus.told)


def tissue_grid(source: SlideSource) -> Grid:
    """Return the cells on which the tissue of a slide is told.

    Raises
    ------
    ResolutionError
        If the slide's um/px is unknown.
    """
    return overview_grid(source, max(TISSUE_MPP, *source.mpp))


def given_tissue(source: SlideSource, mask: Mask) -> Tissue:
    """Return the tissue of a slide as somebody drew it, with the colours it has.

    Parameters
    ----------
    source
        The slide.
    mask
        (rows, cols) bool on `tissue_grid(source)`.

    Raises
    ------
    SlideError
        If the slide cannot be read, or (ResolutionError) its um/px is unknown.
    """
    grid = tissue_grid(source)
    if not is_colour(source):
        return Tissue(mask, grid)
    pixels, _ = overview_rgb(source, grid.cell_um[0])
    brown = brown_part(pixels, mask)
    return Tissue(mask, grid, brown=brown, dark=_dark_part(pixels))


def _tissue_without_colour(pixels: Pixels, grid: Grid) -> Tissue:
    bright = is_bright_ground(pixels)
    found = absorbing(pixels) if bright else shining(pixels)
    mask = _clean(found, np.zeros_like(found), grid.cell_um)
    specks = _mm2(found & ~mask, grid.cell_um)
    excluded = dict.fromkeys(REASONS, 0.0) | {"specks": specks}
    dark = 0.0 if bright else float((~mask).mean())
    return Tissue(mask, grid, MappingProxyType(excluded), dark=dark)


def brown_part(rgb: NDArray[np.uint8], mask: Mask) -> float:
    """Return which part of the tissue (0 to 1) takes more blue light than green.

    Haematoxylin and eosin take green first; brown stains (DAB) take blue first.

    Parameters
    ----------
    rgb
        (rows, cols, 3) overview.
    mask
        (rows, cols) bool, the tissue.
    """
    return _brown(optical_density(rgb), mask)


def _dark_part(pixels: Rgb) -> float:
    """Return which part of a picture (0 to 1) is black."""

    def count(strip: slice) -> int:
        return int(np.count_nonzero(extremes(pixels[strip])[1] < DARK))

    return sum(in_strips(count, len(pixels))) / pixels[..., 0].size


def _brown(density: Density, mask: Mask) -> float:
    def count(strip: slice) -> int:
        green, blue = density[strip, :, 1], density[strip, :, 2]
        brown = mask[strip] & (blue > BROWN_OD) & (blue > BROWN_RATIO * green)
        return int(np.count_nonzero(brown))

    return sum(in_strips(count, len(mask))) / (int(np.count_nonzero(mask)) or 1)


def tissue_mask(rgb: NDArray[np.uint8], cell_um: YX) -> tuple[Mask, dict[str, float]]:
    """Return the tissue of an overview, and mm2 left out by reason.

    Parameters
    ----------
    rgb
        (rows, cols, 3) overview, cells of about 8 um.
    cell_um
        Height and width of a cell, um.

    Returns
    -------
    mask
        (rows, cols) bool.
    excluded
        mm2 for each of `REASONS`.
    """
    return _stained(optical_density(rgb), cell_um)


def _stained(density: Density, cell_um: YX) -> tuple[Mask, dict[str, float]]:
    artefacts = find_artefacts(density, cell_um)
    mask = density[..., 1] > _threshold(density)
    keep_out = np.zeros_like(mask)
    excluded = dict.fromkeys(REASONS, 0.0)
    for reason, found in artefacts.items():
        excluded[reason] = _mm2(mask & found, cell_um)
        mask &= ~found
        keep_out |= found
    cleaned = _clean(mask, keep_out, cell_um)
    excluded["specks"] = _mm2(mask & ~cleaned, cell_um)
    folds = find_folds(density, cleaned, cell_um, near=keep_out)
    excluded[FOLDS] = _mm2(folds, cell_um)
    return cleaned & ~folds, excluded


def _threshold(density: Density) -> float:
    from skimage.filters import threshold_otsu

    step = 1 + int(density.size > MANY)
    green = np.clip(density[::step, ::step, 1], 0, 0.6)
    if green.max() - green.min() < 1e-3:
        return OD_FLOOR
    return float(np.clip(threshold_otsu(green) * 0.5, OD_FLOOR, OD_CEILING))


def _clean(mask: Mask, keep_out: Mask, cell_um: YX) -> Mask:
    from skimage.morphology import remove_small_holes, remove_small_objects

    cell = _cell_mm2(cell_um)
    speck = int(min(SMALLEST_SPECK_MM2 / cell, SPECK_OF_ALL * mask.size))
    hole = int(LARGEST_HOLE_MM2 / cell)
    clean = np.zeros_like(mask)
    if mask.any():
        box = around(mask, hole + 1)  # glass beside tissue is larger than a hole
        large = remove_small_objects(mask[box], max_size=speck)
        clean[box] = remove_small_holes(large, max_size=hole) & ~keep_out[box]
    return clean


def _mm2(mask: Mask, cell_um: YX) -> float:
    return int(np.count_nonzero(mask)) * _cell_mm2(cell_um)


def _cell_mm2(cell_um: YX) -> float:
    return float(cell_um[0] * cell_um[1] / 1e6)
