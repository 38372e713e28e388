"""Where tissue is folded: a dark, narrow line of the same colour as what lies beside.

Where a section lies double, light is taken away twice: optical density is about
twice that beside it, in all three colours alike, along a line. Dense lymphoid tissue
is darker, too, but bluer than its surroundings, haemorrhage redder, and both are
seldom as straight and narrow. So straight pieces of 0.4 mm are compared with their
two sides and with the slide's own tissue round about; what is not dark all along, or
has another hue, is left. (Bautista and Yagi 2010 and Kothari 2013 compare saturation
with intensity over the whole slide, which takes dark epithelium for folds.)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_gimp.geometry import YX
from napari_gimp.patches.annotations import Mask
from napari_gimp.patches.artefacts import STRIP_ROWS, in_strips

Density = NDArray[np.float32]
Points = NDArray[np.int64]

CELL_UM = 32.0
"""Looked for in cells of about that size: narrower folds are missed."""
AROUND_CELLS = 31
"""Tissue within 0.5 mm is what lies round about."""
LEAST_OD, OVER_DARK = 0.35, 1.15
"""Least density (green), and that against the darkest tenth of the slide's tissue."""
WEAK, THIRD, WHOLE = 1.4, 1.6, 1.75
"""Density against that of the tissue round about: of each cell, of each third of a
piece, and of the whole of it."""
OVER_SIDES, SOLID_SIDE = 1.75, 0.9
"""Density of a piece against its sides, which are no paler than that part of the
slide's middle: beside loose tissue any other is dark."""
HUE = (0.85, 1.18)
"""How far red and blue of a piece may differ from its sides' otherwise than green."""
INK_CELLS = 4
"""Ink over tissue has a rim that is dark and narrow, too."""
DIRECTIONS, HALF_LENGTH = 12, 6
"""A piece is 13 cells long, or 0.4 mm."""
SIDES_CELLS = (3, 5, 8)
"""How far off its sides are sought: a fold is 0.4 mm wide at most."""
SHORTEST_CELLS = 18
"""A fold is longer than a piece."""


def find_folds(density: Density, tissue: Mask, cell_um: YX, *, near: Mask) -> Mask:
    """Return the folds (rows, cols) of the tissue.

    Parameters
    ----------
    density
        (rows, cols, 3) optical density.
    tissue
        (rows, cols) bool.
    cell_um
        Height and width of a cell, um.
    near
        (rows, cols) bool, ink and the like: a line beside it is its rim.
    """
    step = max(round(CELL_UM / cell_um[0]), 1)
    coarse, inside = _coarse(density, tissue, step)
    if not inside.any():
        return np.zeros_like(tissue)
    green = coarse[..., 1]
    about = _about(green, inside)
    least = max(LEAST_OD, OVER_DARK * float(np.percentile(green[inside], 90)))
    weak = inside & (green > WEAK * about) & (green > least)
    if near.any():
        weak &= ~_beside(near, weak.shape, step)
    solid = SOLID_SIDE * float(np.median(green[inside]))
    lines = _long(_lines(coarse, green / about, inside, weak, solid))
    if not lines.any():
        return np.zeros_like(tissue)
    return _outlined(lines, about, density[..., 1], tissue, step)


def _coarse(density: Density, tissue: Mask, step: int) -> tuple[Density, Mask]:
    """Return the mean density (rows, cols, 3) of squares, and which are tissue."""
    rows, cols = (side // step for side in tissue.shape)
    mean = np.zeros((rows, cols, 3), np.float32)
    share = np.zeros((rows, cols), np.float32)

    def add(strip: slice) -> None:
        first, stop = strip.start * step, strip.stop * step
        for y in range(step):
            for x in range(step):
                part = slice(first + y, stop, step), slice(x, cols * step, step)
                mean[strip] += density[part]
                share[strip] += tissue[part]

    in_strips(add, rows, step=STRIP_ROWS // step or 1)
    mean /= step**2
    return mean, share >= step**2 / 2


def _beside(near: Mask, shape: tuple[int, ...], step: int) -> Mask:
    """Return the coarse cells within a few of what is near."""
    from scipy.ndimage import binary_dilation

    rows, cols = (side * step for side in shape)
    squares = near[:rows, :cols].reshape(shape[0], step, shape[1], step)
    touched = np.asarray(squares.any((1, 3)))
    return np.asarray(binary_dilation(touched, iterations=INK_CELLS))


def _about(green: Density, inside: Mask) -> Density:
    """Return the mean density of the tissue round about, the dark left out."""
    mean = _mean_about(green, inside)
    plain = inside & (green < WEAK * mean)
    return np.maximum(_mean_about(green, plain), 0.05)


def _mean_about(green: Density, inside: Mask) -> Density:
    from scipy.ndimage import uniform_filter

    share, total = (
        uniform_filter(values.astype(np.float32), AROUND_CELLS, mode="constant")
        for values in (inside, green * inside)
    )
    return np.asarray(total / np.maximum(share, 1e-3))


def _lines(
    coarse: Density, ratio: Density, inside: Mask, weak: Mask, solid: float
) -> Mask:
    """Return the cells of all straight pieces that are folds."""
    pad = HALF_LENGTH + max(SIDES_CELLS) + 1
    around = [(pad, pad), (pad, pad)]
    values = np.pad(np.dstack([coarse, ratio]), [*around, (0, 0)])
    tissue = np.pad(inside, around)
    centres = np.argwhere(weak) + pad
    found = np.zeros(tissue.shape, dtype=bool)
    for angle in np.arange(DIRECTIONS) * np.pi / DIRECTIONS:
        along = np.array([np.sin(angle), np.cos(angle)])
        offsets = np.arange(-HALF_LENGTH, HALF_LENGTH + 1)[:, None] * along
        across = np.array([along[1], -along[0]])
        cells = _pieces(values, tissue, centres, offsets, across, solid)
        found[cells[..., 0], cells[..., 1]] = True
    return found[pad:-pad, pad:-pad] & inside


def _pieces(
    values: Density,
    tissue: Mask,
    centres: Points,
    offsets: NDArray[np.float64],
    across: NDArray[np.float64],
    solid: float,
) -> Points:
    """Return the cells (n, L, 2) of the pieces in one direction that are folds."""
    cells = centres[:, None] + np.rint(offsets).astype(np.int64)
    ratio = values[cells[..., 0], cells[..., 1], 3]
    thirds = [part.mean(1) for part in np.array_split(ratio, 3, axis=1)]
    dark = (np.min(thirds, axis=0) > THIRD) & (ratio.mean(1) > WHOLE)
    cells = cells[dark]
    fold = np.zeros(len(cells), dtype=bool)
    piece = values[cells[..., 0], cells[..., 1], :3].mean(1)
    for distance in SIDES_CELLS:
        sides = [
            cells + np.rint(sign * distance * across).astype(np.int64)
            for sign in (1, -1)
        ]
        means, shares = zip(
            *(_mean_of(values, tissue, side) for side in sides), strict=True
        )
        fold |= _stands_out(piece, means, shares, solid)
    kept: Points = cells[fold]
    return kept


def _mean_of(
    values: Density, tissue: Mask, cells: Points
) -> tuple[Density, NDArray[np.float64]]:
    """Return the mean density (n, 3) of the tissue of rows of cells, and its share."""
    inside = tissue[cells[..., 0], cells[..., 1]]
    total = (values[cells[..., 0], cells[..., 1], :3] * inside[..., None]).sum(1)
    return total / np.maximum(inside.sum(1), 1)[:, None], inside.mean(1)


def _stands_out(
    piece: Density,
    means: tuple[Density, ...],
    shares: tuple[NDArray[np.float64], ...],
    solid: float,
) -> Mask:
    """Whether pieces are darker than their solid sides and of the same hue.

    One side may be glass: sections fold at their edge, too.
    """
    out = np.ones(len(piece), dtype=bool)
    for mean, share in zip(means, shares, strict=True):
        ratio = piece / np.maximum(mean, 0.02)
        green = ratio[:, 1]
        low, high = HUE[0] * green, HUE[1] * green
        hue = [(ratio[:, k] > low) & (ratio[:, k] < high) for k in (0, 2)]
        beside = (mean[:, 1] > solid) & (green > OVER_SIDES) & hue[0] & hue[1]
        out &= (share < 0.3) | beside
    return np.asarray(out & (np.max(shares, axis=0) > 0.7))


def _long(lines: Mask) -> Mask:
    """Return the lines that reach far enough."""
    from scipy.ndimage import find_objects, label

    pieces, _ = label(lines, np.ones((3, 3)))
    kept = np.zeros_like(lines)
    for number, box in enumerate(find_objects(pieces), 1):
        piece = pieces[box] == number
        if np.hypot(*piece.shape) >= SHORTEST_CELLS:
            kept[box] |= piece
    return kept


def _outlined(
    lines: Mask, about: Density, green: Density, tissue: Mask, step: int
) -> Mask:
    """Return what is dark on and beside the lines, in the slide's own cells."""
    from scipy.ndimage import binary_dilation, uniform_filter

    near = binary_dilation(lines, np.ones((3, 3), dtype=bool))
    box = tuple(
        slice(int(used[0]), int(used[-1]) + 1)
        for used in map(np.flatnonzero, (near.any(1), near.any(0)))
    )
    area = tuple(slice(one.start * step, one.stop * step) for one in box)
    limit = np.where(near, WEAK * about, np.inf)[box].repeat(step, 0).repeat(step, 1)
    fold = np.zeros(tissue.shape, dtype=bool)
    fold[area] = uniform_filter(green[area], 3) > limit
    return fold & tissue
