"""Write a result into a folder that other programs can read.

``result.json`` numbers and texts · ``maps/NAME.png`` map on the slide, with legend ·
``maps/NAME_raw.png`` one pixel per patch · ``maps.zarr`` OME-Zarr 0.5 in um ·
``genes.csv`` · ``patches.csv`` · ``patches.geojson`` for QuPath ·
``report.html`` for people.

The folder appears whole or not at all: it is written under a temporary name
beside its place and renamed.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from napari_gimp.explain.maps import PatchMap
from napari_gimp.explain.result import PatchTable, Result
from napari_gimp.report import write_report
from napari_gimp.result_folder import ResultKind, check_folder, replaced_folder

RESULT = ResultKind(
    "napari-gimp-result",
    frozenset(
        (
            *("result.json", "report.html", "maps", "maps.zarr"),
            *("genes.csv", "patches.csv", "patches.geojson"),
        )
    ),
)
VERSION = 1


def write_result(result: Result, out: Path) -> Path:
    """Write all files of a result into the folder `out` and return it.

    A former result in that folder is replaced; if writing fails, it is kept.

    Raises
    ------
    ResultError
        If `out` is a file or a folder with something else in it, or the disk
        refuses the writing.
    """
    out = Path(out)
    check_out(out)
    with replaced_folder(out) as folder:
        _write_all(result, folder)
    return out


def check_out(out: Path) -> None:
    """Refuse a place where a result must not go; call it before a long analysis.

    Raises
    ------
    ResultError
        If `out` is a file or lies below one, is a folder that holds something else,
        or may not be written.
    """
    check_folder(out, RESULT)


def _write_all(result: Result, folder: Path) -> None:
    _write_maps(result, folder / "maps")
    write_zarr(result, folder / "maps.zarr")
    if result.genes is not None:
        _write_genes(result, folder / "genes.csv")
    _write_patches(result.patches, folder / "patches.csv")
    _write_json(qupath_tiles(result), folder / "patches.geojson")
    _write_json(as_json(result), folder / "result.json", indent=1)
    write_report(result, folder)


def _write_json(value: object, path: Path, indent: int | None = None) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def as_json(result: Result) -> dict[str, Any]:
    """Return what ``result.json`` holds: every number and text, no rasters."""
    return {
        "format": RESULT.format,
        "version": VERSION,
        "slide": _slide(result),
        "sample": result.sample,
        "model": asdict(result.model),
        "prediction": result.classes[int(np.argmax(result.probabilities))],
        "explained_class": result.class_name,
        "probabilities": _by_class(result, result.probabilities),
        "slide_only_probabilities": _by_class(result, result.slide_only),
        "modality_share": None if result.share is None else asdict(result.share),
        "completeness_gaps": dict(result.gaps),
        "patches": _patch_summary(result.patches),
        "maps": {name: _map_summary(m) for name, m in result.maps.items()},
        "decoder": result.decoder,
        "warnings": list(result.warnings),
        "seconds": {k: round(v, 3) for k, v in result.seconds.items()},
        "versions": dict(result.versions),
    }


def _slide(result: Result) -> dict[str, Any]:
    return {
        "path": str(result.slide),
        "size_px": list(result.size_px),
        "mpp": list(result.mpp),
        "mpp_origin": result.mpp_origin,
        "mpp_verified": result.mpp_verified,
        "reader": result.reader,
        "icc": result.icc,
        "damaged_tiles": result.damaged_tiles,
    }


def _by_class(result: Result, values: np.ndarray[Any, Any]) -> dict[str, float]:
    return {name: float(v) for name, v in zip(result.classes, values, strict=True)}


def _patch_summary(patches: PatchTable) -> dict[str, Any]:
    size = {"count": len(patches), "patch_um": patches.patch_um}
    return size | {"plan": dict(patches.plan)}


def _map_summary(patch_map: PatchMap) -> dict[str, Any]:
    finite = patch_map.values[np.isfinite(patch_map.values)]
    return {
        "title": patch_map.title,
        "caption": patch_map.caption,
        "unit": patch_map.unit,
        "signed": patch_map.signed,
        "shape": list(patch_map.grid.shape),
        "cell_um": list(patch_map.grid.cell_um),
        "origin_um": list(patch_map.grid.origin_um),
        "min": float(finite.min()),
        "max": float(finite.max()),
        "sum": float(finite.sum(dtype=np.float64)),
    }


def _write_maps(result: Result, folder: Path) -> None:
    from napari_gimp import plots

    folder.mkdir()
    overview = plots.shrink(result.overview)
    for name, patch_map in result.maps.items():
        figure = plots.map_overlay(patch_map, overview)
        (folder / f"{name}.png").write_bytes(plots.png_bytes(figure))
        (folder / f"{name}_raw.png").write_bytes(plots.raw_png(patch_map))


def write_zarr(result: Result, path: Path) -> None:
    """Write the maps as one OME-Zarr 0.5 image (channel, y, x), NaN outside.

    NGFF places the *centre* of the first cell, relative to the centre of level-0
    pixel (0, 0), as napari does: slide and maps line up when both are opened.
    """
    import zarr

    maps = list(result.maps.values())
    group = zarr.open_group(path, mode="w-", zarr_format=3)
    stack = np.stack([m.values for m in maps])
    array = group.create_array(
        "0",
        shape=stack.shape,
        dtype="float32",
        chunks=(1, *stack.shape[1:]),
        fill_value=float("nan"),
        dimension_names=("c", "y", "x"),
    )
    array[:] = stack
    group.attrs["ome"] = ome_attributes(maps, result.mpp)


def ome_attributes(maps: list[PatchMap], mpp: tuple[float, float]) -> dict[str, Any]:
    """Return the ``ome`` metadata of maps that share one grid."""
    place = maps[0].grid.layer_kwargs(mpp)
    space = [{"name": n, "type": "space", "unit": "micrometer"} for n in "yx"]
    moves = [
        {"type": "scale", "scale": [1.0, *place["scale"]]},
        {"type": "translation", "translation": [0.0, *place["translate"]]},
    ]
    return {
        "version": "0.5",
        "multiscales": [
            {
                "name": "patch maps",
                "axes": [{"name": "c", "type": "channel"}, *space],
                "datasets": [{"path": "0", "coordinateTransformations": moves}],
            }
        ],
        "omero": {"channels": [_channel(m) for m in maps]},
    }


def _channel(patch_map: PatchMap) -> dict[str, Any]:
    low, high = patch_map.limits()
    window = {"min": low, "max": high, "start": low, "end": high}
    return {
        "label": patch_map.title,
        "color": "FFFFFF",
        "active": True,
        "window": window,
    }


def _write_genes(result: Result, path: Path) -> None:
    import pandas as pd

    genes = result.genes
    assert genes is not None
    order = genes.top(len(genes.genes))
    table = {
        "gene": [genes.genes[i] for i in order],
        "attribution_logit": genes.attribution[order],
        "z": genes.z[order],
        "measured": genes.present[order],
    }
    pd.DataFrame(table).to_csv(path, index=False, float_format="%.6g")


def _write_patches(patches: PatchTable, path: Path) -> None:
    import pandas as pd

    pd.DataFrame(patch_columns(patches)).to_csv(path, index=False, float_format="%.6g")


def patch_columns(patches: PatchTable) -> dict[str, np.ndarray[Any, Any]]:
    """Return the columns of ``patches.csv`` by name, each (N,)."""
    from napari_gimp.explain.maps import percentile_ranks

    columns: dict[str, np.ndarray[Any, Any]] = {
        "row": patches.index[:, 0],
        "col": patches.index[:, 1],
        "y_um": patches.coords_um[:, 0],
        "x_um": patches.coords_um[:, 1],
    }
    for name, values in patches.columns.items():
        columns[name] = values
        columns[f"{name}_percentile"] = percentile_ranks(values)
    return columns


def qupath_tiles(result: Result) -> dict[str, Any]:
    """Return the patches as GeoJSON tiles in level-0 pixels, as QuPath reads them.

    QuPath crops a slide to its scanned part and counts from there.
    """
    columns = patch_columns(result.patches)
    measured = [name for name in columns if name not in ("row", "col", "y_um", "x_um")]
    corners = _corners_px(result)
    features = [
        _tile(corners[i], {name: float(columns[name][i]) for name in measured})
        for i in range(len(result.patches))
    ]
    return {"type": "FeatureCollection", "features": features}


def _corners_px(result: Result) -> np.ndarray[Any, Any]:
    """Return (N, 4) x0, y0, x1, y1 of the patches in px of the scanned part."""
    half = result.patches.patch_um / 2
    xy, mpp = result.patches.coords_um[:, ::-1], np.asarray(result.mpp)[::-1]
    left_top = np.asarray(result.corner_px)[::-1]
    low, high = (xy - half) / mpp - left_top, (xy + half) / mpp - left_top
    return np.hstack([low, high]).round(3)


def _tile(corner: np.ndarray[Any, Any], measured: dict[str, float]) -> dict[str, Any]:
    x0, y0, x1, y1 = map(float, corner)
    ring = [[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]
    return {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {"objectType": "tile", "measurements": measured},
    }
