"""Segment a slide into a folder that other programs can read.

``result.json`` numbers and texts · ``probability.zarr`` OME-Zarr 0.5 in um, one
channel per class · ``contours.geojson`` for QuPath · ``mask.png`` the classes tinted
and outlined on the slide.
"""

from __future__ import annotations

import json
from collections.abc import Generator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from napari_gimp.explain.outlines import MOST_CELLS, SMALLEST_MM2, Map, Place, outlines
from napari_gimp.explain.result import Overview
from napari_gimp.explain.segmentation import Event, Segmentation, segment
from napari_gimp.explain.setting import Request
from napari_gimp.geometry import Grid
from napari_gimp.result_folder import ResultKind, check_folder, replaced_folder

KIND = ResultKind(
    "napari-gimp-segmentation",
    frozenset(("result.json", "probability.zarr", "contours.geojson", "mask.png")),
)
VERSION = 1
MAP = "probability.zarr"


def segment_into(
    out: Path, request: Request, *, threshold: float
) -> Generator[Event, None, None]:
    """Segment a slide and write all files into `out`, together or not at all.

    A generator that can be closed between any two events; nothing is left then. The
    map fills under a temporary name, which `MapBegun` tells.

    Parameters
    ----------
    out
        The folder to write; a former segmentation in it is replaced.
    request, threshold
        As for `segment`.

    Raises
    ------
    ResultError
        If `out` holds something else, or the disk refuses the writing.
    GimpError
        If the slide cannot be segmented.
    """
    out = Path(out)
    check_folder(out, KIND)
    with replaced_folder(out) as folder:
        found: Segmentation | None = None
        for event in segment(request, folder / MAP, threshold=threshold):
            found = event if isinstance(event, Segmentation) else found
            if found is None:
                yield event
        assert found is not None, "segment ends with Segmentation or raises"
        _write_all(found, folder)
    yield found


def _write_all(found: Segmentation, folder: Path) -> None:
    contours = _contours(found, folder / MAP)
    _write_json({"type": "FeatureCollection", "features": contours}, folder)
    (folder / "mask.png").write_bytes(_picture(found, folder / MAP))
    text = json.dumps(as_json(found, len(contours)), indent=1, ensure_ascii=False)
    (folder / "result.json").write_text(text + "\n", encoding="utf-8")


def _write_json(collection: dict[str, Any], folder: Path) -> None:
    text = json.dumps(collection, ensure_ascii=False, allow_nan=False)
    (folder / "contours.geojson").write_text(text + "\n", encoding="utf-8")


def shown_classes(classes: tuple[str, ...]) -> dict[int, str]:
    """Return the channels that are shown: all but the background, the first of many.

    A model of one class knows no background.
    """
    return {k: name for k, name in enumerate(classes) if k or len(classes) == 1}


def as_json(found: Segmentation, contours: int) -> dict[str, Any]:
    """Return what ``result.json`` holds: every number and text, no rasters."""
    return {
        "format": KIND.format,
        "version": VERSION,
        "slide": {"path": str(found.request.slide), "mpp": list(found.mpp)},
        "sample": found.sample,
        "model": asdict(found.model),
        "genes_matched": found.genes,
        "classes": list(found.classes),
        "threshold": found.threshold,
        "area_mm2": dict(found.area_mm2),
        "area_of": "all that tiles cover, the glass about the tissue included",
        "tissue_mm2": found.tissue_mm2,
        "plan": dict(found.plan),
        "tiles": found.tiles,
        "map": {
            "path": MAP,
            "shape": list(found.grid.shape),
            "cell_um": list(found.grid.cell_um),
            "origin_um": list(found.grid.origin_um),
            "outside": "0 where no tile lies: nothing was computed there",
        },
        "contours": {"count": contours, "smallest_mm2": SMALLEST_MM2},
        "warnings": list(found.warnings),
        "seconds": {k: round(v, 3) for k, v in found.seconds.items()},
        "versions": dict(found.versions),
    }


def _contours(found: Segmentation, path: Path) -> list[dict[str, Any]]:
    place = Place(found.mpp, found.corner_px)
    features = []
    for channel, name in shown_classes(found.classes).items():
        values, grid = read_level(path, found.grid, channel, MOST_CELLS)
        features += outlines(values, grid, found.threshold, name, place)
    return features


def read_level(path: Path, grid: Grid, channel: int, most: int) -> tuple[Map, Grid]:
    """Return the finest level of a map with at most so many cells, and its place.

    Parameters
    ----------
    path
        A map that `MapWriter` wrote.
    grid
        Place of its finest level.
    channel
        Which of its channels.
    most
        Cells.
    """
    import zarr

    group = zarr.open_group(path, mode="r")
    for number in range(len(list(group.array_keys()))):
        array: Any = group[str(number)]
        shape, factor = array.shape[1:], 2**number
        if shape[0] * shape[1] <= most:
            break
    cell = grid.cell_um[0] * factor, grid.cell_um[1] * factor
    return np.asarray(array[channel]), Grid(shape, cell, grid.origin_um)


def _picture(found: Segmentation, path: Path) -> bytes:
    """Return the slide with each class tinted and outlined on it, a PNG."""
    from napari_gimp import plots

    overview = _overview(found)
    maps = {
        name: read_level(path, found.grid, channel, plots.PICTURE_PX**2)
        for channel, name in shown_classes(found.classes).items()
    }
    return plots.png_bytes(plots.contours_on(overview, maps, found.threshold))


def _overview(found: Segmentation) -> Overview:
    from napari_gimp.explain.pictures import overview_of
    from napari_gimp.plots import shrink
    from napari_gimp.slide.source import open_slide

    request = found.request
    with open_slide(request.slide, mpp=request.mpp, srgb=request.srgb) as source:
        return shrink(overview_of(source))
