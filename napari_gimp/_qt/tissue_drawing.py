"""How tissue and patches are drawn: thin lines at every zoom, nothing filled. No Qt.

Both are one image layer each, in levels. The outline of the tissue is drawn from the
distance to it: napari interpolates between cells, only distances near zero are
opaque, and how near follows the zoom, so that the line is as wide at any of them.
"""

from __future__ import annotations

from math import ceil, log2
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_gimp.geometry import YX, Grid

if TYPE_CHECKING:
    from napari.utils import Colormap

    from napari_gimp.patches.grid import PatchGrid

Mask = NDArray[np.bool_]
Levels = list[NDArray[Any]]
Drawing = tuple[Levels, Grid]
"""Levels, each half as large as the one before, and the place of the first."""

STEPS_PER_UM = 8
"""Distances are whole numbers of that part of a um, above 0 inside the tissue,"""
FARTHEST = 1 << 14
"""and none is larger."""
NEAR_CELLS = 3
"""Distances are told apart so many cells from the edge: the line is no wider."""
LINE_PX = 2.5
"""Width of the outline on the screen, px."""
BAND = 0.25
"""The middle of the colours that is opaque: from there to either side, of 1."""
COLOURS = 256
COARSEST = 256
"""Levels end where no side is longer, px."""
OUTLINE_RGB, PATCH_RGB = (0.0, 0.5, 0.2), (0.05, 0.20, 0.75)
"""Green and blue: neither is a stain's colour, and maps are teal and orange."""
PATCH_PX = (3, 64)
"""Least and most pixels across a patch in the preview."""
PREVIEW_PX = 1 << 24
"""Pixels of the preview, if patches of the least size allow."""
FULL = 255
TINT = 0.06
"""How opaque a patch is within its border."""


def outline(mask: Mask, grid: Grid) -> Drawing:
    """Return the signed distance to the outline of a mask.

    Parameters
    ----------
    mask
        (rows, cols) bool; beyond its edge is nothing, so that an edge is drawn.
    grid
        Its place.
    """
    (dy, dx), (y, x) = grid.cell_um, grid.origin_um
    halves = _halvings(max(mask.shape) + 2)
    known = _divisible(np.pad(np.asarray(mask, dtype=bool), 1), halves)
    levels = [_distance(known, dy)]
    for number in range(1, halves + 1):
        known = _halved(known)
        levels.append(_distance(known, dy * 2**number))
    return levels, Grid(levels[0].shape, (dy, dx), (y - dy, x - dx))


def squares(patches: PatchGrid) -> Drawing:
    """Return the borders of patches; of overlapping ones those of their cells."""
    per_cell = _px_per_cell(patches.grid.shape)
    cell = _cell_picture(per_cell, patches.patch_um / patches.stride_um)
    rows, cols = patches.grid.shape
    laid = np.zeros((rows, cols), dtype=np.uint8)
    laid[tuple(patches.index.T)] = 1
    halves = _halvings(per_cell * max(rows, cols))
    levels = [_divisible(np.kron(laid, cell), halves)]
    for _ in range(halves):
        levels.append(_mean_of_four(levels[-1]))
    finer = patches.stride_um / per_cell
    return levels, Grid(levels[0].shape, (finer, finer), patches.grid.origin_um)


def outline_layer(drawing: Drawing, mpp: YX) -> dict[str, Any]:
    """Return the keyword arguments of napari's image layer for an outline."""
    limits = outline_limits(drawing[1].cell_um[0])
    return {
        "colormap": outline_colours(),
        "contrast_limits": limits,
        **_kwargs(drawing, mpp),
    }


def squares_layer(drawing: Drawing, mpp: YX) -> dict[str, Any]:
    """Return the keyword arguments of napari's image layer for patches."""
    limits = (0.0, float(FULL))
    return {
        "colormap": square_colours(),
        "contrast_limits": limits,
        **_kwargs(drawing, mpp),
    }


def outline_limits(um_per_px: float) -> tuple[float, float]:
    """Return the contrast limits that make the line `LINE_PX` wide on the screen."""
    half_um = LINE_PX / 2 * um_per_px
    side = max(half_um * STEPS_PER_UM / (2 * BAND), 1.0)
    return -side, side


def outline_colours() -> Colormap:
    """Return colours that are opaque half-way and clear at both ends."""
    off = np.abs(np.linspace(0, 1, COLOURS) - 0.5)
    return _colours(OUTLINE_RGB, np.clip((BAND - off) / BAND * 3, 0, 1), "outline")


def square_colours() -> Colormap:
    """Return colours from clear to opaque, faint values lifted: lines get thin."""
    return _colours(PATCH_RGB, np.sqrt(np.linspace(0, 1, COLOURS)), "squares")


def _kwargs(drawing: Drawing, mpp: YX) -> dict[str, Any]:
    levels, grid = drawing
    return {
        "data": levels,
        "multiscale": True,
        "interpolation2d": "linear",
        "blending": "translucent",
        **grid.layer_kwargs(mpp),
    }


def _colours(rgb: tuple[float, float, float], alpha: Any, name: str) -> Colormap:
    from napari.utils import Colormap

    table = np.column_stack([np.tile(rgb, (COLOURS, 1)), alpha])
    return Colormap(table, name=f"gimp {name}", display_name=name)


def _halvings(longest: int) -> int:
    """Return how often a picture is halved until no side is above `COARSEST`."""
    return max(0, ceil(log2(max(longest, 1) / COARSEST)))


def _divisible(picture: NDArray[Any], halves: int) -> NDArray[Any]:
    """Return a picture with sides that can be halved so often: napari wants it."""
    step = 1 << halves
    return np.pad(picture, [(0, -side % step) for side in picture.shape])


def _halved(mask: Mask) -> Mask:
    """Return a mask of half the size, True where any of four cells is."""
    rows = mask[0::2] | mask[1::2]
    half: Mask = rows[:, 0::2] | rows[:, 1::2]
    return half


def _distance(mask: Mask, cell_um: float) -> NDArray[np.int16]:
    """Return how far the middle of each cell is from the edge, in steps."""
    inside, outside = mask, ~mask
    cells = mask.view(np.int8) - outside.view(np.int8)  # 1 and -1: next to the edge
    for _ in range(NEAR_CELLS):
        inside, outside = ~_grown(~inside), ~_grown(~outside)
        cells += inside.view(np.int8)
        cells -= outside.view(np.int8)
    counts = np.arange(-NEAR_CELLS - 1, NEAR_CELLS + 2)
    middles = (counts - np.sign(counts) / 2) * cell_um * STEPS_PER_UM
    table = np.clip(middles, -FARTHEST, FARTHEST).astype(np.int16)
    distance: NDArray[np.int16] = table[cells + NEAR_CELLS + 1]
    return distance


def _grown(mask: Mask) -> Mask:
    """Return a mask with the neighbours of its cells."""
    grown = mask.copy()
    grown[1:] |= mask[:-1]
    grown[:-1] |= mask[1:]
    grown[:, 1:] |= mask[:, :-1]
    grown[:, :-1] |= mask[:, 1:]
    return grown


def _mean_of_four(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    rows = picture[0::2].astype(np.uint16) + picture[1::2]
    mean: NDArray[np.uint8] = ((rows[:, 0::2] + rows[:, 1::2]) // 4).astype(np.uint8)
    return mean


def _px_per_cell(shape: tuple[int, int]) -> int:
    cells = max(shape[0] * shape[1], 1)
    return int(np.clip(np.sqrt(PREVIEW_PX / cells), *PATCH_PX))


def _cell_picture(side: int, share: float) -> NDArray[np.uint8]:
    """Return one cell: the border of a patch that takes a share of its sides."""
    inset = round(side * (1 - min(share, 1.0)) / 2)
    inset = min(inset, (side - 1) // 2)
    picture = np.zeros((side, side), dtype=np.uint8)
    inner = slice(inset, side - inset)
    picture[inner, inner] = FULL
    middle = slice(inset + 1, side - inset - 1)
    picture[middle, middle] = round(FULL * TINT**2)
    return picture
