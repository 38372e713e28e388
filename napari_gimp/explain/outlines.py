"""Contours of a probability map as GeoJSON that QuPath opens.

A contour runs where the map crosses the threshold, between the centres of pixels. It
is drawn on the finest level that fits into memory, so on large slides it is coarser
than the map; areas are counted on the finest level and do not depend on it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_gimp.geometry import YX, Grid

MOST_CELLS = 1 << 25
"""Cells of the level that contours are drawn on."""
SMALLEST_MM2 = 2e-4
"""A region smaller than a dozen cells (16 um across) gets no contour of its own."""

Map = NDArray[np.float32]
Ring = list[list[float]]


@dataclass(frozen=True, slots=True)
class Place:
    """Where positions of a contour count from: pixels of the slide, as QuPath counts.

    Parameters
    ----------
    mpp
        um per level-0 pixel (y, x).
    corner_px
        Level-0 row and column where the scanned part begins; QuPath crops to it.
    """

    mpp: YX
    corner_px: tuple[int, int] = (0, 0)


def outlines(
    probability: Map, grid: Grid, threshold: float, name: str, place: Place
) -> list[dict[str, Any]]:
    """Return one GeoJSON feature for each connected region at or above a threshold.

    Parameters
    ----------
    probability
        (rows, cols), 0 to 1.
    grid
        Its place on the slide.
    threshold
        From 0 (exclusive) to 1.
    name
        The class, for QuPath's list of annotations.
    place
        In which pixels positions are given.

    Returns
    -------
    list
        Polygons with their holes, the largest first; areas in mm2.
    """
    cell_mm2 = grid.cell_um[0] * grid.cell_um[1] / 1e6
    found = (
        _feature(rings, grid, name, place, float(inside.sum()) * cell_mm2)
        for inside, rings in _regions(probability, threshold, SMALLEST_MM2 / cell_mm2)
    )
    return sorted(found, key=lambda f: -f["properties"]["measurements"]["area mm2"])


def _regions(
    probability: Map, threshold: float, smallest: float
) -> Iterator[tuple[NDArray[np.bool_], list[NDArray[np.float64]]]]:
    """Yield each region's cells and its closed rings (n, 2) in cells, outer first."""
    from scipy.ndimage import find_objects, label

    pieces, _ = label(probability >= threshold)
    for number, (rows, cols) in enumerate(find_objects(pieces), start=1):
        inside = pieces[rows, cols] == number
        if inside.sum() < smallest:
            continue
        around = _around(probability, rows, cols)
        others = _around(pieces, rows, cols)
        alone = np.where((others == number) | (others == 0), around, 0)
        offset = np.array([rows.start - 1, cols.start - 1])
        yield inside, [ring + offset for ring in _rings(alone, threshold)]


def _around(raster: NDArray[Any], rows: slice, cols: slice) -> NDArray[Any]:
    """Return a part of a raster with one cell more on each side, 0 beyond its edge."""
    (height, width), spans = raster.shape, (rows, cols)
    y0, x0 = (max(span.start - 1, 0) for span in spans)
    y1, x1 = min(rows.stop + 1, height), min(cols.stop + 1, width)
    pads = (
        (int(rows.start == 0), int(rows.stop == height)),
        (int(cols.start == 0), int(cols.stop == width)),
    )
    return np.pad(raster[y0:y1, x0:x1], pads)


def _rings(alone: Map, threshold: float) -> list[NDArray[np.float64]]:
    """Return closed rings, the outer one, which encloses most, first."""
    from skimage.measure import find_contours

    # A cell at exactly the threshold is inside: contours run just below it.
    level = np.nextafter(np.float32(threshold), np.float32(0))
    rings = find_contours(alone.astype(np.float64), float(level))
    return sorted(rings, key=lambda ring: -abs(_enclosed(ring)))


def _enclosed(ring: NDArray[np.float64]) -> float:
    """Return the signed area (shoelace), cells."""
    y, x = ring.T
    return float(np.sum(y[:-1] * x[1:] - y[1:] * x[:-1]) / 2)


def _feature(
    rings: list[NDArray[np.float64]], grid: Grid, name: str, place: Place, mm2: float
) -> dict[str, Any]:
    coordinates = [_positions(ring, grid, place) for ring in rings]
    return {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": coordinates},
        "properties": {
            "objectType": "annotation",
            "classification": {"name": name},
            "measurements": {"area mm2": mm2},
        },
    }


def _positions(ring: NDArray[np.float64], grid: Grid, place: Place) -> Ring:
    """Return (x, y) of a ring, whose whole numbers are centres of cells."""
    um = np.asarray(grid.origin_um) + (ring + 0.5) * np.asarray(grid.cell_um)
    px = um / np.asarray(place.mpp) - np.asarray(place.corner_px)
    positions: Ring = px[:, ::-1].round(2).tolist()
    return positions
