"""Entries of the feature store as files that CLAM, TRIDENT and STAMP read.

An entry that was imported goes back into its own layout as it came. Otherwise
corners are written as the layout wants them: whole level-0 pixels for CLAM and
TRIDENT (so up to half a pixel off), um for STAMP.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from napari_gimp.errors import StoreError
from napari_gimp.patches.h5 import Layout, unpack, write_h5
from napari_gimp.patches.store import StoredFeatures

if TYPE_CHECKING:
    import zarr

OBJECTIVE_UM = 10.0
"""um/px times magnification, by the convention of scanners: 0.25 um/px is 40x."""

Content = tuple[dict[str, NDArray[Any]], dict[str, dict[str, Any]]]


def export_entry(
    group: zarr.Group,
    path: Path,
    layout: Layout,
    *,
    slide_px: tuple[int, int] | None = None,
) -> None:
    """Write one entry of a store as a feature file of another tool.

    Parameters
    ----------
    group
        The entry; see `imported.entries`.
    path
        Where; the name without ending is the slide's.
    layout
        Whose file.
    slide_px
        Height and width of the slide, level-0 px, where they are known: TRIDENT
        wants them.

    Raises
    ------
    StoreError
        If the entry is not complete, or the file is there or cannot be written.
    """
    stored = StoredFeatures(group)
    if not stored.complete:
        raise StoreError(
            f"only {stored.done} of {stored.shape[0]} patches of {path.stem} are in "
            "the store; finish the extraction first"
        )
    facts = cast("dict[str, Any]", group.attrs.get("imported") or {})
    if facts.get("layout") == layout:
        arrays, attributes = _as_it_came(group, stored, facts)
    elif layout == "stamp":
        arrays, attributes = _as_stamp(group, stored, facts)
    else:
        arrays, attributes = _in_pixels(group, stored, path)
        if layout == "trident":
            attributes["features"] = {"encoder": encoder_name(group)}
            attributes["coords"] = _trident(stored.key, path, slide_px)
    write_h5(path, arrays, attributes)


def encoder_name(group: zarr.Group) -> str:
    """Return the name of an imported encoder, or the fingerprint's beginning."""
    facts = cast("dict[str, Any]", group.attrs.get("imported") or {})
    fingerprint = str(StoredFeatures(group).key["encoder"])
    return str(facts.get("encoder") or f"napari-gimp-{fingerprint[:12]}")


def _as_it_came(
    group: zarr.Group, stored: StoredFeatures, facts: Mapping[str, Any]
) -> Content:
    name = "feats" if facts["layout"] == "stamp" else "features"
    arrays = {
        name: stored.whole().astype(facts["dtype"]),
        "coords": np.asarray(cast("zarr.Array[Any]", group["coords_file"])[:]),
    }
    packed = facts["attributes"]
    attributes = {
        "/": unpack(packed["/"]),
        name: unpack(packed["features"]),
        "coords": unpack(packed["coords"]),
    }
    return arrays, attributes


def _as_stamp(
    group: zarr.Group, stored: StoredFeatures, facts: Mapping[str, Any]
) -> Content:
    from napari_gimp import __version__

    key = stored.key
    arrays = {
        "feats": stored.whole().astype(facts.get("dtype", "float32")),
        "coords": _corners_um(group, key)[:, ::-1].astype(np.float32),
    }
    attributes = {
        "stamp_version": "2.1.0",  # whose layout it is
        "extractor": encoder_name(group),
        "unit": "um",
        "tile_size_um": float(key["patch_um"]),
        "tile_size_px": round(key["patch_um"] / key["mpp"]),
        "feat_type": "tile",
        "code_hash": f"napari-gimp-{__version__}",
    }
    return arrays, {"/": attributes}


def _in_pixels(group: zarr.Group, stored: StoredFeatures, path: Path) -> Content:
    """Return CLAM's content, with the attributes of its patch file added."""
    key = stored.key
    corners = _corners_um(group, key) / key["slide_mpp"]
    arrays = {
        "features": stored.whole(),
        "coords": corners[:, ::-1].round().astype(np.int32),
    }
    attributes = {
        "patch_size": patch_px(key),
        "patch_level": 0,
        "downsample": np.ones(2),
        "name": path.stem,
    }
    return arrays, {"/": {}, "coords": attributes}


def _trident(
    key: Mapping[str, Any], path: Path, slide_px: tuple[int, int] | None
) -> dict[str, Any]:
    overlap_um = key["patch_um"] - key["stride_um"]
    size = {} if slide_px is None else dict(zip(_SIDES, slide_px, strict=True))
    return {
        "patch_size": round(key["patch_um"] / key["mpp"]),
        "patch_size_level0": patch_px(key),
        "level0_magnification": _magnification(float(np.mean(key["slide_mpp"]))),
        "target_magnification": _magnification(key["mpp"]),
        "overlap": round(overlap_um / key["mpp"]),
        "name": path.stem,
        "savetodir": str(path.parent),
        **size,
    }


_SIDES = ("level0_height", "level0_width")


def patch_px(key: Mapping[str, Any]) -> int:
    """Return the side of a patch in level-0 pixels, rounded."""
    return round(float(key["patch_um"]) / float(np.mean(key["slide_mpp"])))


def _magnification(mpp: float) -> int | float:
    """Return the magnification of a um/px, whole if it is about whole."""
    exact = OBJECTIVE_UM / mpp
    return round(exact) if abs(exact - round(exact)) < 0.05 * exact else exact


def _corners_um(group: zarr.Group, key: Mapping[str, Any]) -> NDArray[np.float64]:
    """Return upper left corners (N, 2), (y, x) in slide um."""
    centres = np.asarray(cast("zarr.Array[Any]", group["coords_um"])[:], np.float64)
    corners: NDArray[np.float64] = centres - key["patch_um"] / 2
    return corners
