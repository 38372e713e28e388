"""Slide and patches in, features out: read ahead, encode in batches, keep.

`reading` reads the next patches in threads while `encoding` works on these; what is
in flight is bounded in bytes, whatever the size of the slide.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_gimp.errors import EncoderError, PatchError
from napari_gimp.patches.encoders import Encoder
from napari_gimp.patches.encoding import encode_batches, fitting_batch, pinned
from napari_gimp.patches.estimate import remember_rate
from napari_gimp.patches.grid import PatchGrid
from napari_gimp.patches.reading import read_batches
from napari_gimp.patches.store import FeatureKey, FeatureStore, StoredFeatures
from napari_gimp.slide.source import SlideSource

Features = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Extracted:
    """A step of an extraction.

    Parameters
    ----------
    done, total
        Patches encoded so far, and N.
    rows
        The rows that are new: none where a batch takes long, so that whoever steps
        through can give up in between.
    features
        (N, P) float32 view that fills up; rows from `done` on are NaN.
    """

    done: int
    total: int
    rows: slice
    features: Features


def extract_all(
    source: SlideSource,
    patches: PatchGrid,
    encoder: Encoder,
    *,
    store: FeatureStore | None = None,
    batch_size: int | None = None,
    device: str = "cpu",
) -> Features:
    """Return the features (N, P) float32 of all patches; see `extract`."""
    steps = extract(
        source, patches, encoder, store=store, batch_size=batch_size, device=device
    )
    return deque(steps, maxlen=1).pop().features


def extract(
    source: SlideSource,
    patches: PatchGrid,
    encoder: Encoder,
    *,
    store: FeatureStore | None = None,
    batch_size: int | None = None,
    device: str = "cpu",
) -> Generator[Extracted]:
    """Encode the patches of a slide in raster order, yielding after each batch.

    What a store already holds comes first, in one step; each batch is stored
    before it is yielded. No step takes much longer than half a second, and closing
    the iterator ends its threads. From the first damaged tile on nothing is stored,
    since the file may be mended and its fingerprint stay the same.

    Parameters
    ----------
    source
        The slide.
    patches
        Which patches; their side must be the encoder's.
    encoder
        The frozen encoder.
    store
        Where to look for features and to keep them; None keeps nothing.
    batch_size
        Patches per step; None for as many as memory takes, and fewer if it does not.
    device
        Where the encoder runs.

    Raises
    ------
    PatchError, EncoderError
        If there is no patch, or they are not of the encoder's size.
    GimpError
        If memory is short for a quarter of a batch.
    """
    _check(patches, encoder, batch_size)
    work = _Work(source, patches, encoder.to(device), batch_size, device)
    features = np.full((len(patches), encoder.width), np.nan, dtype=np.float32)
    stored = _stored(source, patches, encoder, store)
    known = _known(stored)
    if len(known):
        features[: len(known)] = known
        yield Extracted(len(known), len(patches), slice(0, len(known)), features)
    for rows in work.encode_from(len(known), features):
        if stored and not source.damage and rows.stop > rows.start:
            stored.write(rows.start, features[rows])
        yield Extracted(rows.stop, len(patches), rows, features)


@dataclass(frozen=True, slots=True)
class _Work:
    """What is to be encoded, and how; fields as the parameters of `extract`."""

    source: SlideSource
    patches: PatchGrid
    encoder: Encoder
    batch_size: int | None
    device: str

    def encode_from(self, start: int, features: Features) -> Generator[slice]:
        """Fill `features` from row `start` on, yielding the rows of each batch.

        Rows are empty where a batch takes long. How fast it went is remembered,
        without what the caller does in between.
        """
        done, spent = start, 0.0
        with closing(self._batches(start)) as batches:
            while done < len(self.patches):
                began = time.perf_counter()
                batch = next(batches)
                spent += time.perf_counter() - began
                rows = slice(done, done)
                if batch is not None:
                    rows, features[batch[0]] = batch
                done = rows.stop
                yield rows
        remember_rate(
            self.encoder.fingerprint, self.device, patches=done - start, seconds=spent
        )

    def _batches(self, start: int) -> Generator[tuple[slice, Features] | None]:
        size = self.batch_size or fitting_batch(self.encoder, self.device)
        read = read_batches(
            self.source,
            self.patches,
            self.encoder,
            start=start,
            batch_size=size,
            empty=pinned if self.device.startswith("cuda") else None,
        )
        with closing(read):
            yield from encode_batches(
                self.encoder, read, device=self.device, batch_size=size
            )


def _check(patches: PatchGrid, encoder: Encoder, batch_size: int | None) -> None:
    if not len(patches):
        raise PatchError("there is no patch to encode; lay patches over tissue first")
    if batch_size is not None and batch_size < 1:
        raise PatchError(
            f"batch_size must be at least 1, got {batch_size}; 64 is usual"
        )
    if abs(patches.patch_um - encoder.patch_um) > 1e-6 * encoder.patch_um:
        raise EncoderError(
            f"the patches are {patches.patch_um:g} um wide, the encoder {encoder.name} "
            f"takes {encoder.patch_um:g} um; lay patches of that side"
        )


def _stored(
    source: SlideSource,
    patches: PatchGrid,
    encoder: Encoder,
    store: FeatureStore | None,
) -> StoredFeatures | None:
    if store is None:
        return None
    key = FeatureKey.of(source, patches, encoder)
    return store.open_or_create(key, patches, encoder.width)


def _known(stored: StoredFeatures | None) -> Features:
    """Return the stored rows up to the first that is not there, or is damaged."""
    if stored is None:
        return np.empty((0, 0), np.float32)
    rows = stored.read()
    lost = np.flatnonzero(np.isnan(rows).any(axis=1))
    return rows[: lost[0]] if len(lost) else rows
