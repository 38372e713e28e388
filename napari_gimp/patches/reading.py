"""The pixels of patches, read ahead in threads: a bounded number of bytes.

Rows of patches are read in bands: neighbouring patches share the tiles they are cut
from, so a band's tiles are decoded once. A tile is averaged while it is in the
processor's cache, and what comes of it goes straight to its place in a batch.
"""

from __future__ import annotations

import bisect
import itertools
import os
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_gimp.patches.brightfield import check_brightfield, eight_bits
from napari_gimp.patches.estimate import READ_AHEAD_BYTES, TILES_BYTES
from napari_gimp.patches.grid import PatchGrid
from napari_gimp.slide.boxes import Box, paste
from napari_gimp.slide.resample import Window

if TYPE_CHECKING:
    from napari_gimp.geometry import YX
    from napari_gimp.patches.encoders import Encoder
    from napari_gimp.slide.source import SlideSource

Pixels = NDArray[np.uint8]
Empty = Callable[[tuple[int, ...]], Pixels]
"""Makes the arrays (B, H, W, 3) that batches are read into."""

READERS = min(4, os.cpu_count() or 1)
"""Threads that read; more than a few only take the encoder's cores."""
BLOCK_ROWS, BLOCK_COLS = 4, 8
"""Patches of one read: 512 x 1024 px at 1 um/px, few tiles are decoded twice."""
BAND_BYTES = 64 << 20
"""Pixels of a band, at most: four rows of 128 px patches across 40 mm."""
PATIENCE_S = 0.5
"""After it, who waits is told that there is nothing yet, and may give up."""


@dataclass(frozen=True, slots=True)
class Look:
    """How the patches of a slide are looked at.

    Parameters
    ----------
    source
        The slide.
    mpp
        um/px of the patches.
    side
        Of a patch, px.
    """

    source: SlideSource
    mpp: float
    side: int


@dataclass(frozen=True, slots=True)
class Block:
    """Patches that are read together.

    Parameters
    ----------
    origin_um
        Where pixels are counted from; the same for all blocks of a slide whose
        patches lie whole pixels apart, so that the same pixels come of any block.
    corners
        (n, 2) int64, upper left corners from there, px.
    places
        n arrays (H, W, 3) that take the patches.
    """

    origin_um: YX
    corners: NDArray[np.int64]
    places: list[Pixels]


def read_batches(
    source: SlideSource,
    patches: PatchGrid,
    encoder: Encoder,
    *,
    start: int = 0,
    batch_size: int = 64,
    empty: Empty | None = None,
) -> Generator[tuple[slice, Pixels] | None]:
    """Yield (rows, (B, H, W, 3) pixels) in raster order from row `start` on.

    Yields None whenever nothing is there after `PATIENCE_S`. Closing the iterator
    ends the reading threads after the tile that each is at.

    Parameters
    ----------
    source
        The slide.
    patches
        Which patches.
    encoder
        What they are read for: its side in px and its um/px.
    start
        Row of the first patch.
    batch_size
        B, patches of a batch; the last has what is left.
    empty
        Makes the arrays that batches are read into; None takes plain memory.

    Raises
    ------
    SlideError
        If the slide is no bright-field picture or its file can no longer be read.
    """
    check_brightfield(source)
    look = Look(source, encoder.mpp, encoder.input_px)
    batches = _Batches(look, len(patches) - start, batch_size, empty or _plain)
    bands = deque(band_rows(patches, start, BAND_BYTES // batches.patch_bytes))
    reading: deque[tuple[slice, list[Future[None]]]] = deque()
    readers = _readers(READERS if source.thread_safe else 1)
    with source.passing(TILES_BYTES), readers as (pool, given_up):
        while bands or reading:
            while bands and (not reading or batches.room_for(bands[0])):
                blocks = _blocks(look, patches, bands[0], batches, start)
                reads = [pool.submit(read_block, look, b, given_up) for b in blocks]
                reading.append((bands.popleft(), reads))
            band, reads = reading.popleft()
            yield from _until_read(reads)
            for rows, pixels in batches.filled(band.stop - start):
                yield slice(rows.start + start, rows.stop + start), pixels


def _plain(shape: tuple[int, ...]) -> Pixels:
    return np.empty(shape, np.uint8)


class _Batches:
    """The arrays of batches: made when their first patch is read, given away full."""

    def __init__(self, look: Look, total: int, size: int, empty: Empty) -> None:
        self.patch_bytes = look.side**2 * 3
        self._side, self._total, self._size, self._empty = look.side, total, size, empty
        self._held: dict[int, Pixels] = {}
        self._given = 0

    def room_for(self, band: slice) -> bool:
        """Whether a band may be read beside what is held."""
        held = sum(len(pixels) for pixels in self._held.values())
        count: int = held + band.stop - band.start
        return count * self.patch_bytes <= READ_AHEAD_BYTES

    def place(self, row: int) -> Pixels:
        """Return where a patch goes."""
        number, k = divmod(row, self._size)
        if number not in self._held:
            count = min(self._size, self._total - number * self._size)
            self._held[number] = self._empty((count, self._side, self._side, 3))
        patch: Pixels = self._held[number][k]
        return patch

    def filled(self, stop: int) -> Iterator[tuple[slice, Pixels]]:
        """Give away the batches that are full once all rows below `stop` are read."""
        while self._given < stop:
            last = min(self._given + self._size, self._total)
            if last > stop:
                return
            rows = slice(self._given, last)
            pixels = self._held.pop(self._given // self._size)
            self._given = last
            yield rows, pixels


@contextmanager
def _readers(count: int) -> Iterator[tuple[ThreadPoolExecutor, threading.Event]]:
    """Threads that end with the block, whatever is still waiting to be read."""
    pool = ThreadPoolExecutor(count, thread_name_prefix="gimp-decode-patches")
    given_up = threading.Event()
    try:
        yield pool, given_up
    finally:
        given_up.set()
        pool.shutdown(wait=True, cancel_futures=True)


def _until_read(reads: list[Future[None]]) -> Iterator[None]:
    """Wait for the reads, yielding whenever that takes long; raise what they raise."""
    while wait(reads, PATIENCE_S).not_done:
        yield None
    for read in reads:
        read.result()


def band_rows(patches: PatchGrid, start: int, most: int) -> list[slice]:
    """Return the patches of each band from row `start` on, as slices of raster order.

    A band is up to `BLOCK_ROWS` lattice rows, or a part of one row.

    Parameters
    ----------
    patches
        The patches.
    start
        Row of the first patch.
    most
        Patches of a band, at most; at least one is taken.
    """
    lattice_rows = patches.index[:, 0]
    firsts = np.flatnonzero(np.diff(lattice_rows, prepend=-1))
    stops = np.append(firsts[1:], len(lattice_rows))
    bands: list[slice] = []
    for first, stop in zip(firsts.tolist(), stops.tolist(), strict=True):
        for k in range(first, stop, max(most, 1)):
            end = min(k + max(most, 1), stop)
            if bands and _joins(lattice_rows, bands[-1], end, most):
                bands[-1] = slice(bands[-1].start, end)
            else:
                bands.append(slice(k, end))
    return [slice(max(b.start, start), b.stop) for b in bands if b.stop > start]


def _joins(rows: NDArray[np.int32], band: slice, stop: int, most: int) -> bool:
    height = rows[stop - 1] - rows[band.start] + 1
    return bool(height <= BLOCK_ROWS and stop - band.start <= most)


def _blocks(
    look: Look, patches: PatchGrid, band: slice, batches: _Batches, start: int
) -> list[Block]:
    """Return the blocks of a band, with the places of their patches.

    Patches that do not lie whole pixels apart are blocks of their own.
    """
    index = patches.index[band].astype(np.int64)
    places = [batches.place(row - start) for row in range(band.start, band.stop)]
    stride_px = patches.stride_um / look.mpp
    if abs(stride_px - round(stride_px)) > 1e-9:
        corners = np.zeros((1, 2), np.int64)
        origins = patches.corners_um[band].tolist()
        return [
            Block((y, x), corners, [place])
            for (y, x), place in zip(origins, places, strict=True)
        ]
    origin, columns = _first_corner_um(patches), index[:, 1] // BLOCK_COLS
    members = (np.flatnonzero(columns == k) for k in np.unique(columns))
    return [
        Block(origin, index[m] * round(stride_px), [places[k] for k in m])
        for m in members
    ]


def _first_corner_um(patches: PatchGrid) -> YX:
    """Return the corner of the patch at row 0 and column 0 of the lattice, um."""
    half = patches.patch_um / 2
    y, x = patches.grid.centers_um(np.zeros((1, 2), np.int64))[0].tolist()
    return y - half, x - half


def read_block(look: Look, block: Block, given_up: threading.Event) -> None:
    """Read the rectangle around some patches, tile by tile, into their places.

    Tiles under no patch are left out. Where pixels are weighted means, which reach
    over tiles, the rectangle is read at once.
    """
    top = block.corners.min(axis=0)
    corners = (block.corners - top).tolist()
    height, width = (np.max(corners, axis=0) + look.side).tolist()
    y_px, x_px = top.tolist()
    window = Window.of(
        look.source, block.origin_um, (y_px, x_px), (height, width), look.mpp
    )
    rows, cols = window.cuts()
    for (i, j), members in _under(rows, cols, corners, look.side).items():
        if given_up.is_set():
            return
        box = Box(rows[i], cols[j], rows[i + 1], cols[j + 1])
        means = window.means(slice(box.y0, box.y1), slice(box.x0, box.x1))
        pixels = eight_bits(means)
        for k in members:
            y, x = corners[k]
            paste(block.places[k], pixels, box, Box(y, x, y + look.side, x + look.side))


def _under(
    rows: Sequence[int], cols: Sequence[int], corners: list[list[int]], side: int
) -> dict[tuple[int, int], list[int]]:
    """Return which patches each part between rows and columns has pixels of."""
    parts: dict[tuple[int, int], list[int]] = defaultdict(list)
    for k, (y, x) in enumerate(corners):
        for part in itertools.product(_spans(rows, y, side), _spans(cols, x, side)):
            parts[part].append(k)
    return parts


def _spans(cuts: Sequence[int], first: int, side: int) -> range:
    """Return the numbers of the parts that `side` pixels from `first` on reach."""
    begin = bisect.bisect_right(cuts, first) - 1
    return range(begin, bisect.bisect_left(cuts, first + side))
