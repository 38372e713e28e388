"""Where to look and where not: annotated areas and mask images laid over the tissue.

Whatever the file, a region becomes a mask on the tissue's own grid, so that the
result of `restrict` is a `Tissue` like any other.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from napari_gimp.errors import PatchError
from napari_gimp.geometry import YX, Grid
from napari_gimp.patches.annotations import (
    Annotations,
    Mask,
    check_labels,
    read_geojson,
)
from napari_gimp.patches.tissue import Tissue
from napari_gimp.slide.resample import area_average, best_level
from napari_gimp.slide.source import SlideSource, open_slide

GEOJSON = (".geojson", ".json")
SMEARED = (".jpg", ".jpeg")
STRIP_PX = 1 << 22
"""Mask pixels read at once."""
HALF = 0.5 - 1e-4
"""Sums of 32-bit numbers may fall short of an exact half."""
LABELS_PX = 1 << 26
"""A level of at most that many pixels tells which values there are."""
MOST_LABELS = 256
"""More values than that are instances or brightness, and are not offered as classes."""
OUTSIDE, INSIDE = "outside the annotations", "annotated to be left out"
"""What `restrict` adds to the reasons of `Tissue.excluded`."""


@dataclass(frozen=True, slots=True)
class MaskImage:
    """A picture of the whole slide, at any scale, that is black (0) outside.

    Parameters
    ----------
    path
        A PNG, TIFF or OME-TIFF; of a pyramid the level nearest the grid is read.
    labels
        Number of pixels of each value other than 0: "1", "255", or, of a coloured
        mask, "#rrggbb". Empty where there are more than `MOST_LABELS`.
    """

    path: Path
    labels: Mapping[str, int]

    def inside(
        self, source: SlideSource, grid: Grid, labels: Collection[str] = ()
    ) -> Mask:
        """Return the cells (rows, cols) of which at least half is in the mask.

        Parameters and errors as for `Annotations.inside`; a mask of other
        proportions than the slide is a PatchError.
        """
        check_labels(self.path, labels, self.labels)
        values = {_value(label) for label in labels}
        with _open(self.path) as image:
            _check_aspect(self.path, image.levels[0].shape, source.levels[0].shape)
            return _half_covered(image, grid, _pixel_um(image, source), values)


def read_region(path: Path) -> Annotations | MaskImage:
    """Open a GeoJSON file or a mask image; `labels` then tells its classes.

    Raises
    ------
    PatchError
        If the file cannot be a region; the text says why and what would be right.
    SlideError
        If a picture cannot be read.
    """
    if path.suffix.lower() in GEOJSON:
        return read_geojson(path)
    if path.suffix.lower() in SMEARED:
        raise PatchError(
            f"The mask '{path.name}' is a JPEG, which smears the edges of a mask into "
            "values that nobody drew. Save it as PNG or TIFF."
        )
    with _open(path) as image:
        return MaskImage(path, MappingProxyType(_labels(image)))


def restrict(
    tissue: Tissue, *, include: Mask | None = None, exclude: Mask | None = None
) -> Tissue:
    """Return the tissue inside `include` and not in `exclude`, on the same grid.

    Parameters
    ----------
    tissue
        The slide's tissue; what it left out stays left out.
    include, exclude
        (rows, cols) bool on the tissue's grid, as `inside` returns them; None means
        all, and nothing.

    Returns
    -------
    Tissue
        Its `excluded` says, beside what it said, how many mm2 of tissue each of
        the two took.

    Raises
    ------
    PatchError
        If a mask is not of the tissue's shape.
    """
    mask, excluded = tissue.mask.copy(), dict(tissue.excluded)
    for reason, out in ((OUTSIDE, _not(include)), (INSIDE, exclude)):
        if out is None:
            continue
        _check_shape(out, tissue)
        cells = int((mask & out).sum())
        mask &= ~out
        cell_mm2 = float(np.prod(tissue.grid.cell_um)) / 1e6
        excluded[reason] = excluded.get(reason, 0.0) + cells * cell_mm2
    return replace(tissue, mask=mask, excluded=MappingProxyType(excluded))


def _not(mask: Mask | None) -> Mask | None:
    return None if mask is None else ~np.asarray(mask, dtype=bool)


def _check_shape(mask: Mask, tissue: Tissue) -> None:
    if mask.shape != tissue.mask.shape:
        raise PatchError(
            f"a region of {mask.shape} cells does not fit the tissue of "
            f"{tissue.mask.shape}; lay it on the tissue's grid with `inside`"
        )


def _open(path: Path) -> SlideSource:
    """Open a mask with pixels of 1: what resolution it claims does not matter."""
    return open_slide(path, mpp=1.0)


def _pixel_um(image: SlideSource, source: SlideSource) -> YX:
    """Return um per mask pixel (y, x): it covers just the slide."""
    (height, width), (rows, cols) = source.levels[0].shape, image.levels[0].shape
    return source.mpp[0] * height / rows, source.mpp[1] * width / cols


def _check_aspect(path: Path, mask: tuple[int, int], slide: tuple[int, int]) -> None:
    """Refuse a mask that is no scaled copy of the slide's outline, to one pixel."""
    if _is_scaled(mask, slide):
        return
    (rows, cols), (height, width) = mask, slide
    turned = _is_scaled((cols, rows), slide)
    hint = "It seems to be turned by 90 degrees. " if turned else ""
    right = f"{cols} x {round(height * cols / width)}"
    raise PatchError(
        f"The mask '{path.name}' does not fit the slide: it is {cols} x {rows} px, the "
        f"slide {width} x {height} px, of which a scaled copy would be {right}. {hint}"
        "Export a mask of the whole slide, neither cropped nor padded."
    )


def _is_scaled(mask: tuple[int, int], slide: tuple[int, int]) -> bool:
    (rows, cols), (height, width) = mask, slide
    return (rows - 1) / height <= (cols + 1) / width and (cols - 1) / width <= (
        rows + 1
    ) / height


def _half_covered(
    image: SlideSource, grid: Grid, pixel_um: YX, values: set[int]
) -> Mask:
    """Read the level nearest the grid a few rows at a time; memory stays bounded."""
    number = best_level(image, min(np.divide(grid.cell_um, pixel_um)))
    (height, width), factor = (
        image.levels[number].shape,
        image.levels[number].downsample,
    )
    cell = np.multiply(pixel_um, factor)
    edges_y, edges_x = (_edges(grid, cell[axis], axis) for axis in (0, 1))
    mask = np.zeros(grid.shape, dtype=bool)
    rows = max(1, int(STRIP_PX / width * cell[0] / grid.cell_um[0]))
    for start in range(0, grid.shape[0], rows):
        edges = edges_y[start : start + rows + 1]
        y0 = int(np.clip(np.floor(edges[0]), 0, height - 1))
        y1 = int(np.clip(np.ceil(edges[-1]), y0 + 1, height))
        drawn = _drawn(image.read_region(number, y0, 0, y1 - y0, width), values)
        mask[start : start + rows] = _shares(drawn, edges - y0, edges_x) >= HALF
    return mask


def _edges(grid: Grid, cell_um: float, axis: int) -> NDArray[np.float64]:
    count, side, origin = grid.shape[axis], grid.cell_um[axis], grid.origin_um[axis]
    edges = (origin + side * np.arange(count + 1)) / cell_um
    rounded: NDArray[np.float64] = np.round(edges * 1024) / 1024
    return rounded


def _shares(
    drawn: Mask, edges_y: NDArray[np.float64], edges_x: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Return the share of each cell that is drawn; beyond the picture nothing is."""
    before = [max(0, -int(np.floor(edges[0]))) for edges in (edges_y, edges_x)]
    after = [
        max(0, int(np.ceil(edges[-1])) - side)
        for edges, side in zip((edges_y, edges_x), drawn.shape, strict=True)
    ]
    padded = np.pad(drawn, list(zip(before, after, strict=True)))
    mean = area_average(
        padded.astype(np.float32)[..., None], edges_y + before[0], edges_x + before[1]
    )
    return np.asarray(mean[..., 0], dtype=np.float32)


def _drawn(pixels: NDArray[np.generic], values: set[int]) -> Mask:
    numbers = _numbers(pixels)
    return np.isin(numbers, list(values)) if values else numbers != 0


def _numbers(pixels: NDArray[np.generic]) -> NDArray[np.int64]:
    """Return one number per pixel (h, w): its value, or 0xRRGGBB for a colour."""
    numbers: NDArray[np.int64] = np.rint(pixels).astype(np.int64)
    if numbers.shape[2] == 1:
        single: NDArray[np.int64] = numbers[..., 0]
        return single
    colours: NDArray[np.int64] = numbers[..., :3] @ np.array([1 << 16, 1 << 8, 1])
    return colours


def _labels(image: SlideSource) -> dict[str, int]:
    """Return how many pixels there are of each value, on a level soon read."""
    sizes = [math.prod(level.shape) for level in image.levels]
    number = next((k for k, px in enumerate(sizes) if px <= LABELS_PX), len(sizes) - 1)
    height, width = image.levels[number].shape
    counts: dict[int, int] = {}
    rows = max(1, STRIP_PX // width)
    for y in range(0, height, rows):
        strip = image.read_region(number, y, 0, min(rows, height - y), width)
        for value, n in zip(
            *np.unique(_numbers(strip), return_counts=True), strict=True
        ):
            counts[int(value)] = counts.get(int(value), 0) + int(n)
        if len(counts) > MOST_LABELS:
            return {}
    counts.pop(0, None)
    return {_name(value, image.channels): n for value, n in sorted(counts.items())}


def _name(value: int, channels: int) -> str:
    return f"#{value:06x}" if channels >= 3 else str(value)


def _value(label: str) -> int:
    return int(label[1:], 16) if label.startswith("#") else int(label)
