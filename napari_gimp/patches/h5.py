"""Feature files of other tools: CLAM, TRIDENT and STAMP HDF5, read and written.

What the files hold, as their code writes it (coordinates are upper left corners,
order x, y):

* CLAM: `features` (N, P) float32, `coords` (N, 2) int32 in level-0 px, no attribute.
  The `patches/` file of the same name has `coords` with `patch_size` (px of
  `patch_level`), `patch_level`, `downsample` (x, y), sometimes `custom_downsample`.
* TRIDENT: the same two, `coords` with `patch_size`, `patch_size_level0`,
  `level0_magnification`, `target_magnification`, `overlap`, `name`.
* STAMP: `feats` (N, P) float16, `coords` (N, 2) float32; attributes of the file:
  `unit` "um" and `tile_size_um` (2.1 and later) or `tile_size` (2.0), `tile_size_px`,
  `extractor`, `stamp_version`, `feat_type`. Version 1 counts in 256 um / 224.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_gimp.errors import StoreError

if TYPE_CHECKING:
    import h5py

Layout = Literal["clam", "trident", "stamp"]
LAYOUTS: tuple[Layout, ...] = ("clam", "trident", "stamp")
BLOCK_ROWS = 4096
"""Rows that are in memory at a time: 25 MB of 1,536 features."""


@dataclass(frozen=True, slots=True)
class H5Features:
    """What a feature file holds; the features stay in the file.

    Parameters
    ----------
    path
        The file.
    layout
        Whose layout it is.
    coords
        (N, 2), (x, y) of upper left corners, in the file's unit and type.
    width
        P, features per patch.
    dtype
        Type of the features in the file.
    attributes
        Attributes of the file ("/"), of its features ("features") and of its
        coordinates ("coords"), by these names.
    patch_attributes
        Attributes of the coordinates in CLAM's file of patches.
    patch_file
        CLAM's file of patches that was read too, None if there was none.

    Raises
    ------
    StoreError
        If the numbers of patches differ or are 0.
    """

    path: Path
    layout: Layout
    coords: NDArray[Any]
    width: int
    dtype: np.dtype[Any]
    attributes: Mapping[str, Mapping[str, Any]]
    patch_attributes: Mapping[str, Any]
    patch_file: Path | None = None

    @property
    def said(self) -> dict[str, Any]:
        """All attributes together; what this file says goes before the patch file."""
        known = dict(self.patch_attributes)
        for part in ("coords", "features", "/"):
            known.update(self.attributes[part])
        return {name: value for name, value in known.items() if value is not None}

    def __len__(self) -> int:
        """Return N."""
        return len(self.coords)

    def blocks(self) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Yield (first row, features (n, P) float32) from the file, in order.

        Raises
        ------
        StoreError
            If the file is damaged.
        """
        with _opened(self.path) as file:
            features = _features(file, self.path)
            for start in range(0, len(self), BLOCK_ROWS):
                rows = slice(start, start + BLOCK_ROWS)
                part = features[0, rows] if features.ndim == 3 else features[rows]
                yield start, part.astype(np.float32)

    def check(self) -> str:
        """Return the hex digest of the features, having looked at every one.

        Raises
        ------
        StoreError
            If some are not finite.
        """
        digest = hashlib.sha256()
        bad: list[int] = []
        for start, part in self.blocks():
            digest.update(np.ascontiguousarray(part).tobytes())
            bad += (start + np.flatnonzero(~np.isfinite(part).all(axis=1))).tolist()
        if bad:
            raise StoreError(
                f"{len(bad)} of {len(self)} patches in {self.path} have features that "
                f"are no finite numbers (the first is row {bad[0]}); extract again"
            )
        return digest.hexdigest()


def read_h5(path: Path, *, patch_file: Path | None = None) -> H5Features:
    """Return what a feature file of CLAM, TRIDENT or STAMP holds.

    Parameters
    ----------
    path
        The file with features and coordinates.
    patch_file
        CLAM's file of the same slide in `patches/`, which knows the patch size.

    Raises
    ------
    StoreError
        If it is no such file, is damaged, or holds features of a whole slide.
    """
    with _opened(path) as file:
        features = _features(file, path)
        coords, on_coords = _coords(file, path)
        attributes = {
            "/": dict(file.attrs),
            "features": dict(features.attrs),
            "coords": on_coords,
        }
        width, dtype = features.shape[-1], features.dtype
        layout = _layout(features.name, on_coords)
        _check_rows(path, features.shape, coords.shape)
    of_patches = _patch_attributes(patch_file, coords) if patch_file else {}
    return H5Features(
        path, layout, coords, width, dtype, attributes, of_patches, patch_file
    )


def write_h5(
    path: Path,
    arrays: Mapping[str, NDArray[Any]],
    attributes: Mapping[str, Mapping[str, Any]],
) -> None:
    """Write a file of other tools whole or not at all; one that is there stays.

    Parameters
    ----------
    path
        Where; its folder is made.
    arrays
        The data sets by name, "coords" among them.
    attributes
        Attributes of the file ("/") and of data sets, by their names.

    Raises
    ------
    StoreError
        If there is such a file already, or the folder cannot be written to.
    """
    import h5py

    if path.exists():
        raise StoreError(f"{path} exists; give another folder with --out")
    building = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(building, "w") as file:
            for name, array in arrays.items():
                file.create_dataset(name, data=array)
            for name, values in attributes.items():
                file[name].attrs.update(values)
        building.rename(path)
    except OSError as error:
        raise StoreError(
            f"{path} cannot be written ({error}); give a folder that can be written to"
        ) from error
    finally:
        building.unlink(missing_ok=True)


def pack(attributes: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return attributes of HDF5 as JSON may hold them, with their types."""
    packed = {}
    for name, value in attributes.items():
        array = np.asarray(value)
        text = array.dtype.kind not in "biuf"
        plain = np.vectorize(str, otypes=[object])(array) if text else array
        packed[name] = ["str" if text else str(array.dtype), plain.tolist()]
    return packed


def unpack(packed: Mapping[str, list[Any]]) -> dict[str, Any]:
    """Return what `pack` was given."""
    return {
        name: value if kind == "str" else np.asarray(value, kind)[()]
        for name, (kind, value) in packed.items()
    }


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    """Open a file; whatever goes wrong while it is read is said of the file."""
    if not path.is_file():
        raise StoreError(f"there is no feature file {path}; look at the path")
    try:
        import h5py
    except ImportError as error:
        raise StoreError(
            "reading .h5 features needs h5py; install it with `pip install h5py`"
        ) from error
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, RuntimeError) as error:
        raise StoreError(
            f"{path} cannot be read as HDF5 ({error}); it is no feature file or was "
            "cut off: copy it again"
        ) from error


def _features(file: h5py.File, path: Path) -> h5py.Dataset:
    names = [name for name in ("features", "feats") if name in file]
    if not names:
        hint = (
            "it holds where patches are, not their features: give the file of features "
            "and this one with --patches"
            if "coords" in file
            else "CLAM and TRIDENT call them `features`, STAMP `feats`"
        )
        raise StoreError(
            f"{path} has no features, only {', '.join(file) or 'nothing'}; {hint}"
        )
    features = _own(file, names[0], path)
    kind = str(file.attrs.get("feat_type", "tile"))
    if features.ndim < 2 or kind != "tile":
        raise StoreError(
            f"{path} holds features of a whole {'slide' if kind == 'tile' else kind} "
            f"(shape {features.shape}), not of its patches; give the patch features"
        )
    if features.dtype.kind != "f":
        raise StoreError(f"the features in {path} are {features.dtype}, not floats")
    return features


def _coords(file: h5py.File, path: Path) -> tuple[NDArray[Any], dict[str, Any]]:
    if "coords" not in file:
        raise StoreError(
            f"{path} has no `coords`, so nobody knows where its patches are; extract "
            "again with a version of the tool that keeps them"
        )
    coords = _own(file, "coords", path)
    return coords[()], dict(coords.attrs)


def _own(file: h5py.File, name: str, path: Path) -> h5py.Dataset:
    """Return a data set that lies in this very file, not behind a link."""
    import h5py

    linked = not isinstance(file.get(name, getlink=True), h5py.HardLink)
    array = None if linked else file[name]
    if not isinstance(array, h5py.Dataset) or array.is_virtual or array.external:
        raise StoreError(
            f"`{name}` in {path} is no data set of that file (a group or a link to "
            "another file); copy the data into it"
        )
    return array


def _check_rows(path: Path, features: tuple[int, ...], coords: tuple[int, ...]) -> None:
    batched = len(features) == 3 and features[0] == 1
    rows = features[1:] if batched else features
    right = len(rows) == 2 and coords == (rows[0], 2)
    if not right or not rows[0]:
        raise StoreError(
            f"{path} has features of shape {features} and coords of shape {coords}; "
            "(N, P) and (N, 2) with N above 0 would be right: extract again"
        )


def _layout(name: str, on_coords: Mapping[str, Any]) -> Layout:
    if name == "/feats":
        return "stamp"
    return "trident" if "patch_size_level0" in on_coords else "clam"


def _patch_attributes(path: Path, coords: NDArray[Any]) -> dict[str, Any]:
    """Return the attributes of CLAM's patch file, having compared its places."""
    with _opened(path) as file:
        theirs, attributes = _coords(file, path)
    if not np.array_equal(theirs, coords):
        raise StoreError(
            f"the patches in {path} ({len(theirs)}) are not those of the features "
            f"({len(coords)}); give the patch file the features were made from"
        )
    return attributes
