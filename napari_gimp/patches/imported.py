"""Features of other tools in our store: kept, found again, never mixed up.

An import has the key of an extraction, with an encoder that is known by name and
width alone ("imported:uni_v1:1024"): a fingerprint of ours is 64 hex digits, so the
two are never equal. The entry also keeps the file's coordinates and attributes, so
that it can be written back as it was.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from napari_gimp.errors import StoreError
from napari_gimp.geometry import Grid
from napari_gimp.patches.encoders.imported import ImportedEncoder
from napari_gimp.patches.grid import PatchGrid
from napari_gimp.patches.h5 import H5Features, Layout, pack
from napari_gimp.patches.h5_units import Interpretation, um_per_unit
from napari_gimp.patches.store import FeatureKey, FeatureStore, StoredFeatures, checksum
from napari_gimp.slide.remembered import SRGB_END
from napari_gimp.slide.source import SlideSource

if TYPE_CHECKING:
    import zarr

_log = logging.getLogger(__name__)

FINEST_UM = 1 / 64
"""Cell of the lattice of patches that lie on none; an index reaches 33 m."""

ARRAY = Path("features", "zarr.json")
"""Where zarr keeps the shape of an entry's features."""


@dataclass(frozen=True, slots=True, eq=False)
class ImportedFeatures:
    """Features of one slide that another tool has made; read when asked for.

    The store keeps them in the file's order (CLAM goes down the columns); here they
    are in raster order as ours are.

    Parameters
    ----------
    path
        The entry of the store.
    key
        Of the entry: slide, encoder, um/px, side and distance of patches. `patches`
        has a finer distance if not `regular`.
    encoder
        Name of the encoder.
    regular
        Whether the patches lie on one lattice. CLAM begins anew for each piece.
    layout
        Whose file it was.
    """

    path: Path
    key: FeatureKey
    encoder: str
    regular: bool
    layout: Layout

    @property
    def patches(self) -> PatchGrid:
        """Where the patches are. Their tissue is 1: the other tool chose them."""
        group = self._group()
        index = _index(group)[_raster(group)]
        facts = cast("dict[str, Any]", group.attrs["imported"])
        shape, cell, origin = (tuple(part) for part in facts["grid"])
        tissue = np.ones(len(index), np.float32)
        return PatchGrid(Grid(shape, cell, origin), index, tissue, self.key.patch_um)

    @property
    def features(self) -> NDArray[np.float32]:
        """(N, P) float32.

        Raises
        ------
        StoreError
            If the entry is damaged.
        """
        group = self._group()
        return StoredFeatures(group).whole()[_raster(group)]

    def _group(self) -> zarr.Group:
        import zarr

        return zarr.open_group(self.path, mode="r")


def imported_encoder(name: str, width: int) -> str:
    """Return what stands for the fingerprint of an encoder of another tool."""
    return ImportedEncoder(name, width).fingerprint


def import_features(
    file: H5Features,
    meaning: Interpretation,
    source: SlideSource,
    store: FeatureStore,
) -> FeatureKey:
    """Keep the features of a file in a store; return their key.

    What is there already is compared and left alone; a damaged import is replaced.

    Parameters
    ----------
    file
        The feature file.
    meaning
        What its numbers mean, as a person has confirmed.
    source
        Its slide.
    store
        Where to keep them.

    Raises
    ------
    StoreError
        If the patches are not on the slide, features are not finite, or the store
        holds others of the same slide, encoder and places.
    """
    patches = locate(file, meaning, source)
    key = _key(file, meaning, source, patches)
    digest = file.check()
    if store.has(key):
        _check_same(store, key, file, digest)
        return key

    def fill(group: zarr.Group) -> None:
        _note(group, file, meaning, patches, digest)
        _fill(group, file)

    store.discard(key)  # stopped in an earlier version, or damaged
    store.put(key, patches, file.width, fill)
    return key


def locate(file: H5Features, meaning: Interpretation, source: SlideSource) -> PatchGrid:
    """Return where a file's patches are on a slide.

    Raises
    ------
    StoreError
        If a patch begins outside the slide.
    """
    scale = um_per_unit(meaning.unit.value, source.mpp)
    corners_um = file.coords[:, ::-1].astype(np.float64) * scale
    _check_on_slide(file, meaning, source, corners_um)
    stride = meaning.stride_um.value / scale.mean() * scale
    grid, index = _lattice(corners_um, stride, meaning.patch_um.value)
    tissue = np.ones(len(index), np.float32)
    return PatchGrid(grid, index, tissue, meaning.patch_um.value)


def find_imported(
    store: FeatureStore, slide: str, *, encoder: str | None = None
) -> list[ImportedFeatures]:
    """Return the complete imports of a slide, of one encoder or of all.

    Parameters
    ----------
    store
        Where they are kept.
    slide
        Fingerprint of the slide.
    encoder
        Name of the encoder; None for all.
    """
    mine = slide.removesuffix(SRGB_END)  # another tool knows nothing of our colours
    return [
        found
        for found in imports(store)
        if found.key.slide.removesuffix(SRGB_END) == mine
        and encoder in (None, found.encoder)
    ]


def imports(store: FeatureStore) -> list[ImportedFeatures]:
    """Return all complete imports of a store, in the order of their names.

    A damaged description is logged once and left out: it may be of another slide.
    """
    paths = [folder / "zarr.json" for folder in entry_folders(store)]
    found = (
        _import_at(path, path.stat().st_mtime_ns) for path in paths if path.exists()
    )
    return [one for one in found if one]


def entries(store: FeatureStore) -> Iterator[zarr.Group]:
    """Yield all entries of a store, in the order of their names.

    Raises
    ------
    StoreError
        If one is damaged.
    """
    yield from map(open_entry, entry_folders(store))


def entry_folders(store: FeatureStore) -> list[Path]:
    """Return the folder of each entry of a store, in the order of their names."""
    return sorted(store.root.glob("[!.]*.zarr"))


def open_entry(folder: Path) -> zarr.Group:
    """Return one entry of a store, to be read.

    Raises
    ------
    StoreError
        If it is damaged.
    """
    import zarr

    with _told(folder):
        group = zarr.open_group(folder, mode="r")
        _ = group.attrs["key"], group.attrs["done"], group["features"]
    return group


@cache
def _import_at(path: Path, written_ns: int) -> ImportedFeatures | None:
    """Return the complete import of which this is the description, if it is one.

    Every slide of a cohort asks for all of them, so each is read once.
    """
    del written_ns
    try:
        return _read_import(path)
    except StoreError as error:
        _log.warning("%s", error)
        return None


def _read_import(path: Path) -> ImportedFeatures | None:
    with _told(path.parent):
        said = _json(path)["attributes"]
        facts = said.get("imported")
        if not facts or said["done"] < _json(path.parent / ARRAY)["shape"][0]:
            return None
        key = FeatureKey(**said["key"] | {"slide_mpp": tuple(said["key"]["slide_mpp"])})
        regular, layout = facts["regular"], facts["layout"]
        return ImportedFeatures(path.parent, key, facts["encoder"], regular, layout)


def _json(path: Path) -> dict[str, Any]:
    return cast("dict[str, Any]", json.loads(path.read_text(encoding="utf-8")))


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Say of whatever goes wrong that the entry is damaged."""
    try:
        yield
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise StoreError(
            f"{path} is damaged ({error}); delete it and import or extract again"
        ) from error


def _index(group: zarr.Group) -> NDArray[np.int32]:
    return np.asarray(cast("zarr.Array[Any]", group["index"])[:], np.int32)


def _raster(group: zarr.Group) -> NDArray[np.intp]:
    """Return the rows of the file in raster order."""
    index = _index(group)
    return np.lexsort((index[:, 1], index[:, 0]))


def _key(
    file: H5Features,
    meaning: Interpretation,
    source: SlideSource,
    patches: PatchGrid,
) -> FeatureKey:
    places = np.ascontiguousarray(patches.index).tobytes() + repr(patches.grid).encode()
    return FeatureKey(
        slide=source.fingerprint,
        encoder=imported_encoder(meaning.encoder.value, file.width),
        slide_mpp=source.mpp,
        mpp=meaning.mpp.value,
        patch_um=meaning.patch_um.value,
        stride_um=meaning.stride_um.value,
        layout=hashlib.sha256(places).hexdigest()[:16],
    )


def _check_on_slide(
    file: H5Features,
    meaning: Interpretation,
    source: SlideSource,
    corners_um: NDArray[np.float64],
) -> None:
    """Refuse patches that begin beyond the slide; CLAM's may end beyond it."""
    size_um = np.multiply(source.levels[0].shape, source.mpp)
    outside = ((corners_um < 0) | (corners_um >= size_um)).any(axis=1)
    if outside.any():
        height, width = size_um
        y, x = corners_um.max(axis=0)
        raise StoreError(
            f"{outside.sum()} of {len(file)} patches in {file.path} begin outside "
            f"{source.path.name} of {width:.0f} x {height:.0f} um: they reach x = "
            f"{x:.0f}, y = {y:.0f} um if the unit is {meaning.unit.value}; give the "
            "slide they were made from, or the right --unit or --mpp"
        )


def _lattice(
    corners_um: NDArray[np.float64], stride_um: NDArray[np.float64], patch_um: float
) -> tuple[Grid, NDArray[np.int32]]:
    """Return a lattice on which all patches lie, and their places (N, 2) on it."""
    first = corners_um.min(axis=0)
    steps = (corners_um - first) / stride_um
    if np.abs(steps - steps.round()).max() > 1e-3:
        stride_um = np.full(2, FINEST_UM)
        steps = (corners_um - first) / stride_um
    index = steps.round().astype(np.int32)
    rows, cols = (index.max(axis=0) + 1).tolist()
    (dy, dx), (y, x) = stride_um.tolist(), (first + (patch_um - stride_um) / 2).tolist()
    return Grid((rows, cols), (dy, dx), (y, x)), index


def _check_same(
    store: FeatureStore, key: FeatureKey, file: H5Features, digest: str
) -> None:
    import zarr

    facts = zarr.open_group(store.path(key), mode="r").attrs.get("imported") or {}
    if cast("dict[str, Any]", facts).get("digest") != digest:
        raise StoreError(
            f"{store.root} holds other features of this slide, encoder and places than "
            f"{file.path}; name the encoder apart with --encoder, or delete "
            f"{store.path(key)}"
        )


def _note(
    group: zarr.Group,
    file: H5Features,
    meaning: Interpretation,
    patches: PatchGrid,
    digest: str,
) -> None:
    """Keep beside the features what else the file holds."""
    coords = np.ascontiguousarray(file.coords)
    group.create_array("coords_file", data=coords, compressors=checksum())
    grid = patches.grid
    group.attrs["imported"] = {
        "file": file.path.name,
        "layout": file.layout,
        "encoder": meaning.encoder.value,
        "dtype": str(file.dtype),
        "digest": digest,
        "meaning": meaning.as_dict(),
        "regular": bool(min(grid.cell_um) > FINEST_UM),
        "grid": [list(grid.shape), list(grid.cell_um), list(grid.origin_um)],
        "attributes": {k: pack(v) for k, v in file.attributes.items()},
    }


def _fill(group: zarr.Group, file: H5Features) -> None:
    features = cast("zarr.Array[Any]", group["features"])
    for start, part in file.blocks():
        features[start : start + len(part)] = part
    group.attrs["done"] = len(file)
