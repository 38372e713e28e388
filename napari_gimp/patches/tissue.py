"""Where the tissue is: a mask at about 8 um/px, and what was left out and why.

Light is measured as optical density (OD, decimal, against the slide's own glass),
since stains, ink and shadow differ in *which* light they take away:
haematoxylin and eosin take green first; blue and green ink take red first; red
ink takes green and blue alike; black ink and the slide's edge take all alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from napari_gimp.geometry import YX, Grid
from napari_gimp.patches.brightfield import Rgb, is_colour, overview_rgb
from napari_gimp.patches.without_colour import absorbing, is_bright_ground, shining
from napari_gimp.slide.resample import overview, overview_grid
from napari_gimp.slide.source import Pixels, SlideSource

Mask = NDArray[np.bool_]
Density = NDArray[np.float32]

TISSUE_MPP = 8.0
OD_FLOOR = 0.045
"""Least optical density (green) of tissue: fat and mucin reach it, glass does not."""
OD_CEILING = 0.15
"""Largest threshold Otsu may choose: above it pale tissue beside dark is lost."""
SMALLEST_SPECK_MM2 = 0.01
LARGEST_HOLE_MM2 = 0.02
SMALLEST_STROKE_MM2 = {"blue or green ink": 0.01, "red ink": 0.03, "black ink": 0.02}
"""A pen's mark is larger; red needs most, since a vessel's red cells are as red."""
RIM_CELLS = 3
BROWN_OD, BROWN_RATIO = 0.15, 1.1
"""Least optical density (blue) of a brown stain, and how far it is above green's.
Measured at about 8 um/px: DAB (skimage's immunohistochemistry) 88 % of the tissue,
a dozen H&E slides and pictures of slides from four sources at most 0.3 %."""
DARK = 40
"""Below it in all three colours a pixel is black, not glass."""
DARK_GROUND = 0.5
"""More of a picture than that is black only around fluorescence."""
REASONS = ("blue or green ink", "red ink", "black ink", "dark edge", "specks")


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

    def __post_init__(self) -> None:
        if self.mask.shape != self.grid.shape:
            raise ValueError(
                f"a mask of {self.mask.shape} needs a grid of the same shape, "
                f"got {self.grid.shape}"
            )

    @property
    def area_mm2(self) -> float:
        """Area of the tissue, mm2."""
        return float(self.mask.sum()) * _cell_mm2(self.grid.cell_um)


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
    dark = float((_extremes(pixels)[1] < DARK).mean())
    if dark > DARK_GROUND:
        return replace(_tissue_without_colour(pixels, grid), dark=dark)
    mask, excluded = tissue_mask(pixels, grid.cell_um)
    brown = brown_part(pixels, mask)
    return Tissue(mask, grid, MappingProxyType(excluded), brown, dark)


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
    dark = float((_extremes(pixels)[1] < DARK).mean())
    return Tissue(mask, grid, brown=brown_part(pixels, mask), dark=dark)


def _tissue_without_colour(pixels: Pixels, grid: Grid) -> Tissue:
    bright = is_bright_ground(pixels)
    found = absorbing(pixels) if bright else shining(pixels)
    mask = _clean(found, np.zeros_like(found), grid.cell_um)
    specks = float((found & ~mask).sum()) * _cell_mm2(grid.cell_um)
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
    if not mask.any():
        return 0.0
    green, blue = optical_density(rgb)[mask][:, 1:].T
    return float(((blue > BROWN_RATIO * green) & (blue > BROWN_OD)).mean())


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
    density = optical_density(rgb)
    dark = density[..., 1] > _threshold(density)
    artefacts = find_artefacts(density, cell_um)
    mask = dark.copy()
    excluded = {}
    for reason, found in artefacts.items():
        excluded[reason] = float((mask & found).sum()) * _cell_mm2(cell_um)
        mask &= ~found
    cleaned = _clean(mask, np.logical_or.reduce(list(artefacts.values())), cell_um)
    excluded["specks"] = float((mask & ~cleaned).sum()) * _cell_mm2(cell_um)
    return cleaned, excluded


def optical_density(rgb: NDArray[np.uint8]) -> Density:
    """Return -log10(light / glass), (rows, cols, 3), 0 where lighter than glass.

    Glass is the slide's own: the median of its brightest grey pixels, or 243 where
    it shows none.
    """
    least, most = _extremes(rgb)
    bright = (least >= 200) & (most - least < 16)
    light = rgb[..., :3].astype(np.float32) + 1
    glass = np.full(3, 244, dtype=np.float32)
    if bright.mean() > 0.01:
        glass = np.maximum(np.median(light[bright], axis=0), 1)
    light /= glass
    np.negative(np.log10(light, out=light), out=light)
    density: Density = np.maximum(light, 0, out=light)
    return density


def _extremes(rgb: Rgb) -> tuple[Rgb, Rgb]:
    """Return the least and most of three colours: reducing a short axis is slow."""
    red, green, blue = (rgb[..., k] for k in range(3))
    least: Rgb = np.minimum(np.minimum(red, green), blue)
    most: Rgb = np.maximum(np.maximum(red, green), blue)
    return least, most


def find_artefacts(density: Density, cell_um: YX) -> dict[str, Mask]:
    """Return a mask (rows, cols) per kind of ink, and of the dark slide edge.

    Each ink has a weak and a strong sign; a weak region counts where it holds a
    strong one and is as large as a pen makes it (red cells are red, but few).
    """
    red, green, blue = (_smooth(density[..., k]) for k in range(3))
    most = np.maximum(np.maximum(red, green), blue) + 1e-6
    least = np.minimum(np.minimum(red, green), blue)
    cold = np.where(red > 0.08, red - np.maximum(green, 0.6 * blue), 0)
    warm = np.where((green > 0.3) & (red < 0.35 * green), blue - 0.6 * green, 0)
    dark = (least > 0.3) & (least > 0.45 * most) & (most > 0.7)
    inks = {
        "blue or green ink": (cold > 0.03, cold > 0.15),
        "red ink": (warm > 0.03, (warm > 0.1) & (green > 0.5)),
        "black ink": (dark, dark & (least > 0.5) & (least > 0.6 * most)),
    }
    found = {
        reason: _strokes(*signs, int(SMALLEST_STROKE_MM2[reason] / _cell_mm2(cell_um)))
        for reason, signs in inks.items()
    }
    edge = (least > 0.7 * most) & (most > 0.04)
    return {**found, "dark edge": _touching_border(edge)}


def _threshold(density: Density) -> float:
    from skimage.filters import threshold_otsu

    green = np.clip(density[..., 1], 0, 0.6)
    if green.max() - green.min() < 1e-3:
        return OD_FLOOR
    return float(np.clip(threshold_otsu(green) * 0.5, OD_FLOOR, OD_CEILING))


def _smooth(channel: Density) -> Density:
    from scipy.ndimage import uniform_filter

    return np.asarray(uniform_filter(channel, 3), dtype=np.float32)


def _strokes(weak: Mask, strong: Mask, smallest: int) -> Mask:
    """Return the large weak regions that hold a strong cell, with their soft rim."""
    from scipy.ndimage import binary_dilation, label

    pieces, count = label(weak)
    sizes = np.bincount(pieces.ravel(), minlength=count + 1)
    kept = np.zeros(count + 1, dtype=bool)
    kept[np.unique(pieces[strong & weak])] = True
    kept &= sizes >= smallest
    kept[0] = False
    return np.asarray(binary_dilation(kept[pieces], iterations=RIM_CELLS))


def _touching_border(mask: Mask) -> Mask:
    from scipy.ndimage import label

    pieces, _ = label(mask)
    border = np.concatenate([pieces[0], pieces[-1], pieces[:, 0], pieces[:, -1]])
    return np.asarray(np.isin(pieces, np.setdiff1d(border, [0])))


def _clean(mask: Mask, keep_out: Mask, cell_um: YX) -> Mask:
    from skimage.morphology import remove_small_holes, remove_small_objects

    cell = _cell_mm2(cell_um)
    large = remove_small_objects(mask, max_size=int(SMALLEST_SPECK_MM2 / cell))
    filled = remove_small_holes(large, max_size=int(LARGEST_HOLE_MM2 / cell))
    return np.asarray(filled & ~keep_out)


def _cell_mm2(cell_um: YX) -> float:
    return cell_um[0] * cell_um[1] / 1e6
