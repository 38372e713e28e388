"""Patch features on disk: one zarr v3 group per slide, encoder and lattice.

A group is named by the digest of what its content depends on, so features are
never computed twice and never mixed up. Rows are written in order; how many are
there is kept in the group, so an extraction that was stopped goes on. Every chunk
has a checksum: rows of one that is damaged or missing count as not there, and nothing
else is lost. Several threads and processes may write to one entry, a lock at a time.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from napari_gimp.errors import StoreError
from napari_gimp.geometry import YX
from napari_gimp.patches.grid import PatchGrid
from napari_gimp.patches.store_entry import StoredFeatures
from napari_gimp.slide.source import SlideSource

if TYPE_CHECKING:
    import zarr

    from napari_gimp.patches.encoders import Encoder

__all__ = ["FeatureKey", "FeatureStore", "StoredFeatures"]

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
        """Whether all features of a key are there, and whole: each is read."""
        if not self.path(key).exists():
            return False
        stored = self.open(key)
        return stored.complete and not len(stored.lost())

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
        if not self.path(key).exists():
            self.put(key, patches, width, lambda _: None)
        return self.open(key)

    def put(
        self,
        key: FeatureKey,
        patches: PatchGrid,
        width: int,
        fill: Callable[[zarr.Group], None],
    ) -> None:
        """Make an entry (N, `width`); it is seen when `fill` has done with it.

        It is built under another name. Where another program is first, its entry
        stays, which is as good.

        Raises
        ------
        StoreError
            If the folder cannot be written to.
        """
        import zarr

        path = self.path(key)
        building = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        try:
            group = zarr.open_group(building, mode="w-", zarr_format=3)
            _lay_out(group, key, patches, width)
            fill(group)
            _rename(building, path)
        except OSError as error:
            raise StoreError(
                f"features cannot be kept in {self.root} "
                f"({error.strerror or error}); give a folder that can be written to"
            ) from error
        finally:
            shutil.rmtree(building, ignore_errors=True)  # renamed, it is not there

    def discard(self, key: FeatureKey) -> None:
        """Remove an entry, as a whole: it is gone at once, then deleted."""
        path = self.path(key)
        going = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        if path.exists():
            path.rename(going)
            shutil.rmtree(going, ignore_errors=True)


def _rename(building: Path, path: Path) -> None:
    try:
        building.rename(path)
    except OSError:
        if not path.exists():
            raise


def _lay_out(
    group: zarr.Group, key: FeatureKey, patches: PatchGrid, width: int
) -> None:
    """Write an empty entry: no row is there yet."""
    group.create_array(
        "features",
        shape=(len(patches), width),
        chunks=(CHUNK_ROWS, width),
        dtype="float32",
        fill_value=float("nan"),
        compressors=checksum(),
    )
    for name, array in (("coords_um", patches.coords_um), ("index", patches.index)):
        group.create_array(name, data=array, compressors=checksum())
    group.attrs.update({"key": _plain(key), "done": 0})


def checksum() -> list[Any]:
    """Return the codec of every array: features hardly compress, so nothing is."""
    from zarr.codecs import Crc32cCodec

    return [Crc32cCodec()]


def _plain(key: FeatureKey) -> dict[str, Any]:
    """Return what JSON makes of a key."""
    return cast("dict[str, Any]", json.loads(json.dumps(asdict(key))))


def _layout_digest(patches: PatchGrid) -> str:
    digest = hashlib.sha256(np.ascontiguousarray(patches.index).tobytes())
    digest.update(repr(patches.grid).encode())
    return digest.hexdigest()[:16]
