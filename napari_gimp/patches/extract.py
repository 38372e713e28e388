"""Slide and patches in, features out: read ahead, encode in batches, keep.

Rows of patches are read in bands: neighbouring patches share the tiles they are
cut from, so a band's tiles are decoded about once. Threads read the next bands
while the encoder works on this one; the number of bands in flight is bounded.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from napari_gimp.errors import EncoderError, PatchError
from napari_gimp.patches.brightfield import read_rgb
from napari_gimp.patches.encoders import Encoder
from napari_gimp.patches.estimate import remember_rate
from napari_gimp.patches.grid import PatchGrid
from napari_gimp.patches.store import FeatureKey, FeatureStore, StoredFeatures
from napari_gimp.slide.source import SlideSource

Features = NDArray[np.float32]
Pixels = NDArray[np.uint8]

READERS = min(4, os.cpu_count() or 1)
"""Threads that read; more than a few only take the encoder's cores."""
BLOCK_ROWS, BLOCK_COLS = 4, 8
"""Patches of one read: 512 x 1024 px at 1 um/px, few tiles are decoded twice."""
BAND_PATCHES = 512
"""Patches of a band, at most, unless one row has more: 25 MB of 128 px patches."""
BANDS_AHEAD = 2


@dataclass(frozen=True, slots=True)
class Extracted:
    """A step of an extraction.

    Parameters
    ----------
    done, total
        Patches encoded so far, and N.
    rows
        The rows that are new.
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
    batch_size: int = 64,
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
    batch_size: int = 64,
    device: str = "cpu",
) -> Iterator[Extracted]:
    """Encode the patches of a slide in raster order, yielding after each batch.

    What a store already holds comes first, in one step; each batch is stored
    before it is yielded. Closing the iterator stops the reading threads. From the
    first damaged tile on nothing is stored, since the file may be mended and its
    fingerprint stay the same.

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
        Patches per call of the encoder.
    device
        Where the encoder runs.

    Raises
    ------
    PatchError, EncoderError
        If there is no patch, or they are not of the encoder's size.
    """
    _check(patches, encoder, batch_size)
    encoder = encoder.to(device)
    features = np.full((len(patches), encoder.width), np.nan, dtype=np.float32)
    stored = _stored(source, patches, encoder, store)
    known = _known(stored)
    start = len(known)
    if start:
        features[:start] = known
        yield Extracted(start, len(patches), slice(0, start), features)
    began = time.perf_counter()
    for rows, pixels in _batches(source, patches, encoder, start, batch_size):
        features[rows] = encoder(pixels)
        if stored and not source.damage:
            stored.write(rows.start, features[rows])
        yield Extracted(rows.stop, len(patches), rows, features)
    remember_rate(
        encoder.fingerprint,
        device,
        patches=len(patches) - start,
        seconds=time.perf_counter() - began,
    )


def _check(patches: PatchGrid, encoder: Encoder, batch_size: int) -> None:
    if not len(patches):
        raise PatchError("there is no patch to encode; lay patches over tissue first")
    if batch_size < 1:
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
    """Return the stored rows up to the first that is not there.

    Two extractions that write the same chunk at once can lose rows of each other,
    and one that is stopped does not write its own again.
    """
    if stored is None:
        return np.empty((0, 0), np.float32)
    rows = stored.read()
    lost = np.flatnonzero(np.isnan(rows).any(axis=1))
    return rows[: lost[0]] if len(lost) else rows


def _batches(
    source: SlideSource,
    patches: PatchGrid,
    encoder: Encoder,
    start: int,
    batch_size: int,
) -> Iterator[tuple[slice, Pixels]]:
    """Yield (rows, (B, H, W, 3) pixels) in raster order from row `start` on."""
    first, held = start, np.empty((0, *[encoder.input_px] * 2, 3), np.uint8)
    for rows, pixels in _bands(source, patches, encoder, start):
        held = np.concatenate([held, pixels]) if len(held) else pixels
        last = rows.stop == len(patches)
        while len(held) >= (1 if last else batch_size):
            batch, held = held[:batch_size], held[batch_size:]
            yield slice(first, first + len(batch)), batch
            first += len(batch)


def _bands(
    source: SlideSource, patches: PatchGrid, encoder: Encoder, start: int
) -> Iterator[tuple[slice, Pixels]]:
    """Yield the pixels of one band after the other, reading ahead."""
    with _readers(READERS if source.thread_safe else 1) as pool:
        bands = (
            _begin(pool, source, patches, encoder, rows)
            for rows in band_rows(patches, start)
        )
        ahead = deque(islice(bands, BANDS_AHEAD))
        while ahead:
            rows, pixels, reads = ahead.popleft()
            for read in reads:
                read.result()
            yield rows, pixels
            ahead.extend(islice(bands, 1))


@contextmanager
def _readers(count: int) -> Iterator[ThreadPoolExecutor]:
    """Threads that end with the block, whatever is still waiting to be read."""
    pool = ThreadPoolExecutor(count, thread_name_prefix="gimp-decode-patches")
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def band_rows(patches: PatchGrid, start: int = 0) -> list[slice]:
    """Return the patches of each band, as slices of raster order.

    A band is up to `BLOCK_ROWS` lattice rows and `BAND_PATCHES` patches, but at
    least one lattice row.
    """
    lattice_rows = patches.index[:, 0]
    firsts = np.flatnonzero(np.diff(lattice_rows, prepend=-1))
    stops = np.append(firsts[1:], len(lattice_rows))
    bands: list[slice] = []
    for first, stop in zip(firsts.tolist(), stops.tolist(), strict=True):
        if bands and _joins(lattice_rows, bands[-1], stop):
            bands[-1] = slice(bands[-1].start, stop)
        else:
            bands.append(slice(first, stop))
    return [slice(max(b.start, start), b.stop) for b in bands if b.stop > start]


def _joins(lattice_rows: NDArray[np.int32], band: slice, stop: int) -> bool:
    height = lattice_rows[stop - 1] - lattice_rows[band.start] + 1
    return bool(height <= BLOCK_ROWS and stop - band.start <= BAND_PATCHES)


def _begin(
    pool: ThreadPoolExecutor,
    source: SlideSource,
    patches: PatchGrid,
    encoder: Encoder,
    rows: slice,
) -> tuple[slice, Pixels, list[Future[None]]]:
    """Start to read a band; its pixels are there when the futures are done."""
    side = encoder.input_px
    pixels = np.empty((rows.stop - rows.start, side, side, 3), dtype=np.uint8)
    corners = patches.corners_um[rows]
    columns = patches.index[rows, 1] // BLOCK_COLS
    stride_px = patches.stride_um / encoder.mpp
    whole = abs(stride_px - round(stride_px)) < 1e-9
    block = columns if whole else np.arange(len(columns))
    reads = [
        pool.submit(
            _read, source, corners, np.flatnonzero(block == k), encoder.mpp, pixels
        )
        for k in np.unique(block)
    ]
    return rows, pixels, reads


def _read(
    source: SlideSource,
    corners: NDArray[np.float64],
    members: NDArray[np.intp],
    mpp: float,
    into: Pixels,
) -> None:
    """Read the rectangle around some patches and cut them out of it.

    Patches lie whole pixels apart, so cutting gives what reading each one gives.
    """
    side = into.shape[1]
    origin = corners[members].min(axis=0)
    offsets = np.rint((corners[members] - origin) / mpp).astype(int)
    height, width = (offsets.max(axis=0) + side).tolist()
    y_um, x_um = origin.tolist()
    region = read_rgb(source, y_um, x_um, (height, width), mpp)
    for member, (y, x) in zip(members, offsets, strict=True):
        into[member] = region[y : y + side, x : x + side]
