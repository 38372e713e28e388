"""Masks as pictures of the whole slide: read at any scale, written to be read again.

A mask that `write_mask` wrote says in the file where its cells lie, and read back it
is the same to the cell; any other is taken to cover just the slide.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from napari_gimp.errors import PatchError
from napari_gimp.geometry import Grid
from napari_gimp.patches.annotations import Mask, check_labels
from napari_gimp.slide.averages import area_average
from napari_gimp.slide.resample import best_level
from napari_gimp.slide.source import SlideSource, open_slide

SMEARED = (".jpg", ".jpeg")
STRIP_PX = 1 << 22
"""Mask pixels read at once."""
HALF = 0.5 - 1e-4
"""Sums of 32-bit numbers may fall short of an exact half."""
LABELS_PX = 1 << 26
"""A level of at most that many pixels tells which values there are."""
MOST_LABELS = 256
"""More values than that are instances or brightness, and are not offered as classes."""
PLACE = "napari-gimp grid"
"""The PNG text in which `write_mask` says the cells' size and corner, um (y, x)."""


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
    place
        Where its pixels lie, if the file says so as `write_mask` does.
    """

    path: Path
    labels: Mapping[str, int]
    place: Grid | None = None

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
            if self.place is not None:
                _check_place(self.path, self.place, source)
                return _half_covered(image, grid, self.place, values)
            _check_aspect(self.path, image.levels[0].shape, source.levels[0].shape)
            return _half_covered(image, grid, _just_over(image, source), values)


def read_mask_image(path: Path) -> MaskImage:
    """Open a mask image; `labels` then tells its classes.

    Raises
    ------
    PatchError
        If the file cannot be a mask; the text says why and what would be right.
    SlideError
        If the picture cannot be read.
    """
    if path.suffix.lower() in SMEARED:
        raise PatchError(
            f"The mask '{path.name}' is a JPEG, which smears the edges of a mask into "
            "values that nobody drew. Save it as PNG or TIFF."
        )
    with _open(path) as image:
        place = _place(path, image.levels[0].shape)
        return MaskImage(path, MappingProxyType(_labels(image)), place)


def write_mask(mask: Mask, grid: Grid, path: Path) -> None:
    """Write a mask (rows, cols) as a black and white PNG that says where it lies.

    Parameters
    ----------
    mask
        (rows, cols) bool on `grid`, as `Tissue` has them.
    grid
        The place of the mask on its slide.
    path
        A file that ends in .png; one that is there is replaced.

    Raises
    ------
    PatchError
        If mask and grid differ in shape, the name is no PNG's, or the file cannot
        be written.
    """
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    if mask.shape != grid.shape or path.suffix.lower() != ".png":
        raise PatchError(
            f"A mask of {mask.shape} cells on a grid of {grid.shape} cannot be written "
            f"to '{path.name}': give a mask of the grid's shape and a name that ends "
            "in .png."
        )
    text = PngInfo()
    text.add_text(
        PLACE, json.dumps({"cell_um": grid.cell_um, "origin_um": grid.origin_um})
    )
    building = path.with_name(f".{path.name}.writing")
    try:
        picture = Image.fromarray(np.asarray(mask, dtype=bool).astype(np.uint8) * 255)
        picture.save(building, format="PNG", pnginfo=text)
        building.replace(path)
    except OSError as error:
        building.unlink(missing_ok=True)
        raise PatchError(
            f"The mask cannot be written to '{path}': {error.strerror or error}. "
            "Choose a folder that can be written and has room."
        ) from error


def _place(path: Path, shape: tuple[int, int]) -> Grid | None:
    """Return where a mask's pixels lie, None where the file does not say."""
    from PIL import Image

    if path.suffix.lower() != ".png":
        return None
    with Image.open(path) as picture:
        said = picture.info.get(PLACE)
    if said is None:
        return None
    try:
        (dy, dx), (y, x) = (json.loads(said)[key] for key in ("cell_um", "origin_um"))
        return Grid(shape, (float(dy), float(dx)), (float(y), float(x)))
    except (ValueError, TypeError, KeyError) as error:
        raise PatchError(
            f"The mask '{path.name}' does not say rightly where it lies: its text "
            f"'{PLACE}' is {said!r}. Save it again from GiMP, or without that text if "
            "it covers just the slide."
        ) from error


def _open(path: Path) -> SlideSource:
    """Open a mask with pixels of 1: what resolution it claims does not matter."""
    return open_slide(path, mpp=1.0)


def _just_over(image: SlideSource, source: SlideSource) -> Grid:
    """Return where a mask's pixels lie if it covers just the slide."""
    (height, width), (rows, cols) = source.levels[0].shape, image.levels[0].shape
    return Grid(
        (rows, cols), (source.mpp[0] * height / rows, source.mpp[1] * width / cols)
    )


def _check_place(path: Path, place: Grid, source: SlideSource) -> None:
    """Refuse a mask that does not cover the slide as `overview_grid` does."""
    extent = np.multiply(source.levels[0].shape, source.mpp)
    beyond = np.add(place.origin_um, place.rect.size_um) - extent
    cell = np.asarray(place.cell_um)
    if max(place.origin_um) <= 0 and (np.abs(beyond) <= cell * (1 + 1e-6)).all():
        return
    have, right = np.asarray(place.rect.size_um) / 1e3, extent / 1e3
    raise PatchError(
        f"The mask '{path.name}' does not fit the slide '{source.path.name}': it lies "
        f"over {have[1]:.2f} x {have[0]:.2f} mm, the slide measures {right[1]:.2f} x "
        f"{right[0]:.2f} mm. Take the mask of this slide, and look whether its um/px "
        "is the one with which the mask was made."
    )


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
    image: SlideSource, grid: Grid, place: Grid, values: set[int]
) -> Mask:
    """Read the level nearest the grid a few rows at a time; memory stays bounded."""
    number = best_level(image, min(np.divide(grid.cell_um, place.cell_um)))
    (height, width), factor = (
        image.levels[number].shape,
        image.levels[number].downsample,
    )
    cell = np.multiply(place.cell_um, factor)
    edges_y, edges_x = (
        _edges(grid, cell[axis], place.origin_um[axis], axis) for axis in (0, 1)
    )
    mask = np.zeros(grid.shape, dtype=bool)
    rows = max(1, int(STRIP_PX / width * cell[0] / grid.cell_um[0]))
    for start in range(0, grid.shape[0], rows):
        edges = edges_y[start : start + rows + 1]
        y0 = int(np.clip(np.floor(edges[0]), 0, height - 1))
        y1 = int(np.clip(np.ceil(edges[-1]), y0 + 1, height))
        drawn = _drawn(image.read_region(number, y0, 0, y1 - y0, width), values)
        mask[start : start + rows] = _shares(drawn, edges - y0, edges_x) >= HALF
    return mask


def _edges(
    grid: Grid, cell_um: float, start_um: float, axis: int
) -> NDArray[np.float64]:
    count, side = grid.shape[axis], grid.cell_um[axis]
    edges = (grid.origin_um[axis] - start_um + side * np.arange(count + 1)) / cell_um
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
