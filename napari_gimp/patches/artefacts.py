"""What looks stained and is no tissue: ink and the slide's edge, by their light.

Light is measured as optical density (OD, decimal, against the slide's own glass),
since stains, ink and shadow differ in *which* light they take away:
haematoxylin and eosin take green first; blue and green ink take red first; red
ink takes green and blue alike; black ink and the slide's edge take all alike.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_gimp.geometry import YX
from napari_gimp.patches.annotations import Mask
from napari_gimp.patches.brightfield import Rgb

Density = NDArray[np.float32]

SMALLEST_STROKE_MM2 = {"blue or green ink": 0.01, "red ink": 0.03, "black ink": 0.02}
"""A pen's mark is larger; red needs most, since a vessel's red cells are as red."""
RIM_CELLS = 3


def optical_density(rgb: NDArray[np.uint8]) -> Density:
    """Return -log10(light / glass), (rows, cols, 3), 0 where lighter than glass.

    Glass is the slide's own: the median of its brightest grey pixels, or 243 where
    it shows none.
    """
    least, most = extremes(rgb)
    bright = (least >= 200) & (most - least < 16)
    light = rgb[..., :3].astype(np.float32) + 1
    glass = np.full(3, 244, dtype=np.float32)
    if bright.mean() > 0.01:
        glass = np.maximum(np.median(light[bright], axis=0), 1)
    light /= glass
    np.negative(np.log10(light, out=light), out=light)
    density: Density = np.maximum(light, 0, out=light)
    return density


def extremes(rgb: Rgb) -> tuple[Rgb, Rgb]:
    """Return the least and most of three colours, each (rows, cols)."""
    red, green, blue = (rgb[..., k] for k in range(3))  # reducing 3 is slow
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
        reason: _strokes(
            *signs, int(SMALLEST_STROKE_MM2[reason] / (cell_um[0] * cell_um[1] / 1e6))
        )
        for reason, signs in inks.items()
    }
    edge = (least > 0.7 * most) & (most > 0.04)
    return {**found, "dark edge": _touching_border(edge)}


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
