"""Patch features on disk: one zarr v3 group per slide, encoder and lattice.

A group is named by the digest of what its content depends on, so features are
never computed twice and never mixed up. Rows are written in order; how many are
there is kept in the group, so an extraction that was stopped goes on.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from napari_gimp.errors import StoreError
from napari_gimp.geometry import YX
from napari_gimp.patches.grid import PatchGrid
from napari_gimp.slide.source import SlideSource

if TYPE_CHECKING:
    import zarr

    from napari_gimp.patches.encoders import Encoder

VERSION = 1
"""Raised whenever the pixels an encoder is shown change."""
CHUNK_ROWS = 256


@dataclass(frozen=True, slots=True)
class FeatureKey:
    """What the features of a slide depend on.

    Parameters
    ----------
    slide, encoder
        Fingerprints of the slide's content and of the encoder.
    slide_mpp
        um per level-0 pixel (y, x): a slide may be opened with another.
    mpp
        um/px at which the encoder looks.
    patch_um, stride_um
        Side and distance of patches, um.
    layout
        Digest of which patches there are.
    version
        `VERSION` of the code.
    """

    slide: str
    encoder: str
    slide_mpp: YX
    mpp: float
    patch_um: float
    stride_um: float
    layout: str
    version: int = VERSION

    @classmethod
    def of(
        cls, source: SlideSource, patches: PatchGrid, encoder: Encoder
    ) -> FeatureKey:
        """Return the key of an extraction."""
        return cls(
            slide=source.fingerprint,
            encoder=encoder.fingerprint,
            slide_mpp=source.mpp,
            mpp=encoder.mpp,
            patch_um=patches.patch_um,
            stride_um=patches.stride_um,
            layout=_layout_digest(patches),
        )

    @property
    def digest(self) -> str:
        """Hex name of the key, 32 letters."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:32]


class StoredFeatures:
    """Features (N, P) of one key, filled from row 0 on. `FeatureStore` makes it."""

    def __init__(self, group: zarr.Group) -> None:
        self._group = group
        self._features = cast("zarr.Array[Any]", group["features"])

    @property
    def key(self) -> dict[str, Any]:
        """The key it was made for, as plain values."""
        return dict(cast("dict[str, Any]", self._group.attrs["key"]))

    @property
    def shape(self) -> tuple[int, int]:
        """N patches, P features."""
        return cast("tuple[int, int]", self._features.shape)

    @property
    def done(self) -> int:
        """How many rows are there."""
        return int(cast(int, self._group.attrs["done"]))

    @property
    def complete(self) -> bool:
        """Whether every row is there."""
        return self.done == self.shape[0]

    def read(self) -> NDArray[np.float32]:
        """Return the rows that are there, (done, P) float32, bit for bit."""
        return np.asarray(self._features[: self.done], dtype=np.float32)

    def write(self, start: int, features: NDArray[np.float32]) -> None:
        """Write rows (n, P) from row `start` on, which must not leave a gap.

        Rows may be written again: two extractions of one slide write the same.

        Raises
        ------
        StoreError
            If they do not fit.
        """
        done, (total, width) = self.done, self.shape
        stop = start + len(features)
        if features.shape[1:] != (width,) or stop > total or start > done:
            raise StoreError(
                f"rows {start} to {stop} of width {features.shape[1:]} do not fit into "
                f"stored features of {total} x {width} of which {done} rows are there; "
                "delete the entry to start anew"
            )
        self._features[start:stop] = features
        self._group.attrs["done"] = max(done, stop)


class FeatureStore:
    """A folder of features.

    Parameters
    ----------
    root
        The folder; made when something is written.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    def path(self, key: FeatureKey) -> Path:
        """Return where a key's features lie."""
        return self.root / f"{key.digest}.zarr"

    def has(self, key: FeatureKey) -> bool:
        """Whether all features of a key are there."""
        return self.path(key).exists() and self.open(key).complete

    def open(self, key: FeatureKey) -> StoredFeatures:
        """Return the features of a key, complete or not.

        Raises
        ------
        StoreError
            If there is none, or the entry is damaged or of another key.
        """
        import zarr

        path = self.path(key)
        if not path.exists():
            raise StoreError(f"{self.root} holds no features for {key}; extract first")
        try:
            stored = StoredFeatures(zarr.open_group(path, mode="r+"))
            known, _ = stored.key, (stored.shape, stored.done)
        except (KeyError, TypeError, ValueError, OSError) as error:
            raise StoreError(
                f"{path} is damaged ({error}); delete it and extract again"
            ) from error
        if known != _plain(key):
            raise StoreError(
                f"{path} holds features of {known}, not of {_plain(key)}; delete it"
            )
        return stored

    def open_or_create(
        self, key: FeatureKey, patches: PatchGrid, width: int
    ) -> StoredFeatures:
        """Return the features of a key, made empty (N, `width`) if there is none.

        Raises
        ------
        StoreError
            If the folder cannot be written to, or the entry is damaged.
        """
        path = self.path(key)
        if not path.exists():
            try:
                self._create(path, key, patches, width)
            except OSError as error:
                raise StoreError(
                    f"features cannot be kept in {self.root} "
                    f"({error.strerror or error}); give a folder that can be written to"
                ) from error
        return self.open(key)

    def _create(
        self, path: Path, key: FeatureKey, patches: PatchGrid, width: int
    ) -> None:
        """Build the entry under another name, then rename it into place."""
        import zarr

        building = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        try:
            group = zarr.open_group(building, mode="w-", zarr_format=3)
            _fill(group, key, patches, width)
            building.rename(path)
        except OSError:
            if not path.exists():  # else another extraction was first, which is as good
                raise
        finally:
            shutil.rmtree(building, ignore_errors=True)  # renamed, it is not there


def _fill(group: zarr.Group, key: FeatureKey, patches: PatchGrid, width: int) -> None:
    """Write an empty entry: no row is there yet."""
    group.create_array(
        "features",
        shape=(len(patches), width),
        chunks=(CHUNK_ROWS, width),
        dtype="float32",
        fill_value=float("nan"),
    )
    group.create_array("coords_um", data=patches.coords_um)
    group.create_array("index", data=patches.index)
    group.attrs.update({"key": _plain(key), "done": 0})


def _plain(key: FeatureKey) -> dict[str, Any]:
    """Return what JSON makes of a key."""
    return cast("dict[str, Any]", json.loads(json.dumps(asdict(key))))


def _layout_digest(patches: PatchGrid) -> str:
    digest = hashlib.sha256(np.ascontiguousarray(patches.index).tobytes())
    digest.update(repr(patches.grid).encode())
    return digest.hexdigest()[:16]
