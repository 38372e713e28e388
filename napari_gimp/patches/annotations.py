"""Annotations drawn in QuPath: GeoJSON areas by class, and the cells inside them.

GeoJSON speaks (x, y) in level-0 pixels, counted from the slide's scanned part, as
QuPath does (`corner_px`); from here on it is (y, x). A cell is inside where its
centre is, by the even-odd rule over an area's rings, so holes stay holes.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_gimp.errors import PatchError
from napari_gimp.geometry import Grid
from napari_gimp.slide.source import SlideSource

Mask = NDArray[np.bool_]
Ring = NDArray[np.float64]

UNCLASSIFIED = "unclassified"
"""The class of an object to which nobody gave one."""
DERIVED = ": "
"""QuPath's separator: "Tumor: CD3" is derived from "Tumor"."""


@dataclass(frozen=True, slots=True)
class Area:
    """One annotated object.

    Parameters
    ----------
    rings
        Outline and holes, each (n, 2) (y, x) in level-0 px of the scanned part.
    label
        Its class, `UNCLASSIFIED` where it has none.
    """

    rings: tuple[Ring, ...]
    label: str = UNCLASSIFIED


@dataclass(frozen=True, slots=True)
class Annotations:
    """The areas of a GeoJSON file.

    Parameters
    ----------
    path
        The file.
    areas
        What has an area; a multipolygon is several areas of one label.
    skipped
        How many objects of each geometry have no area (Point, LineString, ...).
    """

    path: Path
    areas: tuple[Area, ...]
    skipped: Mapping[str, int] = field(default_factory=dict)

    @property
    def labels(self) -> Mapping[str, int]:
        """Number of areas of each class, in the order of the file."""
        return MappingProxyType(Counter(area.label for area in self.areas))

    def inside(
        self, source: SlideSource, grid: Grid, labels: Collection[str] = ()
    ) -> Mask:
        """Return the cells (rows, cols) whose centre lies in an area.

        Parameters
        ----------
        source
            The slide on which the annotations were drawn.
        grid
            The cells.
        labels
            The classes that count, with those derived from them; none means all.

        Raises
        ------
        PatchError
            If the file has no such class, or all lies outside the slide.
        ResolutionError
            If the slide's um/px is unknown.
        """
        chosen = self._of(labels)
        _check_on_slide(self.path, chosen, source)
        mask = np.zeros(grid.shape, dtype=bool)
        for area in chosen:
            fill(mask, [_cells(ring, source, grid) for ring in area.rings])
        return mask

    def _of(self, labels: Collection[str]) -> list[Area]:
        check_labels(self.path, labels, self.labels)
        return [
            area
            for area in self.areas
            if not labels or any(is_a(area.label, label) for label in labels)
        ]


def read_geojson(path: Path) -> Annotations:
    """Read the areas of a GeoJSON file, as QuPath and others export them.

    A feature, a list of features and a FeatureCollection are read; points and lines
    have no area and are counted in `skipped`.

    Raises
    ------
    PatchError
        If the file is no GeoJSON, a coordinate is no number, or nothing has an area.
    """
    areas: list[Area] = []
    skipped: Counter[str] = Counter()
    for number, feature in enumerate(_features(path), 1):
        found = _areas(path, number, feature)
        areas += found
        if not found:
            skipped[_kind(feature)] += 1
    if not areas:
        raise PatchError(
            f"The annotations '{path.name}' enclose no area: they hold "
            f"{_counted(skipped)}. Draw polygons, rectangles, ellipses or brush "
            "strokes, and export them as GeoJSON again."
        )
    return Annotations(path, tuple(areas), MappingProxyType(skipped))


def check_labels(path: Path, wanted: Collection[str], present: Collection[str]) -> None:
    """Refuse a class of which a file has none.

    Raises
    ------
    PatchError
        If one of `wanted` is not (the root of) one `present`.
    """
    if isinstance(wanted, str):
        raise TypeError(f"labels must be a collection of names, got {wanted!r}")
    absent = [x for x in wanted if not any(is_a(label, x) for label in present)]
    if absent:
        raise PatchError(
            f"'{path.name}' has no class {_quoted(absent)}; it has "
            f"{_quoted(sorted(present))}. Choose among these."
        )


def fill(mask: Mask, rings: list[Ring]) -> None:
    """Set the cells of a mask whose centre lies inside rings, by the even-odd rule.

    Every edge toggles, on each row of centres it crosses, the first cell right of
    the crossing; running along the rows then tells inside from outside. Exact also
    for rings that cut themselves, and areas that touch share no cell.

    Parameters
    ----------
    mask
        (rows, cols) bool, changed in place.
    rings
        Each (n, 2) (y, x) in cells, from the corner of the mask; closed or not.
    """
    points = np.concatenate(rings)
    low = np.floor(points.min(0)).clip(0, mask.shape).astype(int)
    high = np.ceil(points.max(0)).clip(0, mask.shape).astype(int)
    rows, cols = high - low
    if rows <= 0 or cols <= 0:
        return
    toggles = np.zeros((rows, cols + 1), dtype=np.uint8)
    for ring in rings:
        np.bitwise_xor.at(toggles, _crossings(ring - low, rows, cols), 1)
    inside = np.bitwise_xor.accumulate(toggles[:, :cols], axis=1).astype(bool)
    mask[low[0] : high[0], low[1] : high[1]] |= inside


def _crossings(
    ring: Ring, rows: int, cols: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return row and first column right of where a ring cuts the centres' rows."""
    start, stop = ring, np.roll(ring, -1, axis=0)
    down = start[:, :1] <= stop[:, :1]
    upper, lower = np.where(down, start, stop), np.where(down, stop, start)
    first = np.ceil(upper[:, 0] - 0.5).clip(0, rows).astype(np.int64)
    count = np.ceil(lower[:, 0] - 0.5).clip(0, rows).astype(np.int64) - first
    edge = np.repeat(np.arange(len(ring)), count)
    row = np.arange(len(edge)) - np.repeat(count.cumsum() - count, count) + first[edge]
    (y0, x0), (y1, x1) = upper[edge].T, lower[edge].T
    x = x0 + (row + 0.5 - y0) * (x1 - x0) / (y1 - y0)
    return row, np.ceil(x - 0.5).clip(0, cols).astype(np.int64)


def _cells(ring: Ring, source: SlideSource, grid: Grid) -> Ring:
    um = (ring + np.asarray(source.corner_px)) * np.asarray(source.mpp)
    cells: Ring = (um - np.asarray(grid.origin_um)) / np.asarray(grid.cell_um)
    return cells


def _check_on_slide(path: Path, areas: list[Area], source: SlideSource) -> None:
    points = np.concatenate([ring for area in areas for ring in area.rings])
    low, high = points.min(0), points.max(0)
    height, width = np.subtract(source.levels[0].shape, source.corner_px)
    if high.min() > 0 and low[0] < height and low[1] < width:
        return
    (y0, x0), (y1, x1) = low.round().astype(int), high.round().astype(int)
    raise PatchError(
        f"The annotations '{path.name}' lie outside the slide '{source.path.name}': "
        f"they reach over x {x0} to {x1} and y {y0} to {y1}, and the slide is {width} "
        f"x {height} px. Look whether they were drawn on this slide, and exported in "
        "pixels of its full resolution."
    )


def _features(path: Path) -> Iterator[Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise PatchError(
            f"The annotations '{path}' cannot be read: {error.strerror}. Give the "
            "GeoJSON file that QuPath exported."
        ) from error
    except (ValueError, RecursionError) as error:
        raise _no_geojson(path, f"it is no JSON ({error})") from error
    if isinstance(document, dict):
        document = document.get("features", [document])
    if not isinstance(document, list):
        raise _no_geojson(path, f"its features are {type(document).__name__}")
    yield from document


def _areas(path: Path, number: int, feature: object) -> list[Area]:
    geometry = _geometry(feature)
    if not isinstance(feature, dict) or not isinstance(geometry, dict):
        raise _no_geojson(path, f"its object {number} has no geometry")
    label = _label(feature.get("properties"))
    try:
        polygons = list(_polygons(geometry))
    except (KeyError, TypeError, ValueError) as error:
        raise _no_geojson(
            path, f"the coordinates of its object {number} are no rings of numbers"
        ) from error
    return [Area(rings, label) for rings in polygons]


def _geometry(feature: Any) -> Any:
    """Return a feature's geometry, or what is a geometry itself."""
    if not isinstance(feature, dict):
        return None
    bare = feature.get("type") != "Feature" and "type" in feature
    return feature if bare else feature.get("geometry")


def _polygons(geometry: Mapping[str, Any]) -> Iterator[tuple[Ring, ...]]:
    """Yield the rings of every polygon that a geometry holds."""
    if geometry["type"] == "GeometryCollection":
        for part in geometry["geometries"]:
            yield from _polygons(part)
    elif geometry["type"] == "MultiPolygon":
        for polygon in geometry["coordinates"]:
            yield _rings(polygon)
    elif geometry["type"] == "Polygon":
        yield _rings(geometry["coordinates"])


def _rings(polygon: Any) -> tuple[Ring, ...]:
    rings = tuple(map(_ring, polygon))
    if not rings:
        raise ValueError("a polygon needs an outline")
    return rings


def _ring(xy: Any) -> Ring:
    ring = np.array([[y, x] for x, y, *_ in xy], dtype=np.float64)
    if len(ring) < 3 or not np.isfinite(ring).all():
        raise ValueError("a ring needs three corners that are finite numbers")
    return ring


def _label(properties: object) -> str:
    """Return the class as QuPath writes it: a name, or the names it is made of."""
    given = properties.get("classification") if isinstance(properties, dict) else None
    if isinstance(given, dict):
        given = given.get("name") or DERIVED.join(map(str, given.get("names", ())))
    return str(given) if given else UNCLASSIFIED


def _kind(feature: Any) -> str:
    return str(_geometry(feature)["type"])


def is_a(label: str, root: str) -> bool:
    """Whether a class is `root` or derived from it, as "Tumor: CD3" from "Tumor"."""
    return label == root or label.startswith(root + DERIVED)


def _no_geojson(path: Path, why: str) -> PatchError:
    return PatchError(
        f"The annotations '{path.name}' are no GeoJSON: {why}. Export them again (in "
        "QuPath: File, Export objects as GeoJSON, not compressed)."
    )


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{n} x {kind}" for kind, n in counts.items()) or "no object"


def _quoted(names: Collection[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
