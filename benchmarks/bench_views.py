"""A view of 2048 x 2048 px through Dask: our level against what other plugins do.

The peers are a zarr store whose chunks are read with OpenSlide's `read_region` (as in
napari-lazy-openslide, which reads RGBA in chunks of 512 px; here with the read on a
thread, so that chunks are read side by side), and tifffile's own zarr store, both
wrapped with `dask.array.from_zarr`. All compute on Dask's threads, with tile caches
emptied before each view and the file in the system's cache. The ways take turns at
random places; of each place the best of several rounds counts.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import openslide
import tifffile
from bench_tiles import slide_of
from zarr.abc.store import ByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype

from napari_gimp.slide.pyramid import Pyramid
from napari_gimp.slide.source import open_slide
from napari_gimp.slide.tiles import tile_cache

VIEW = 2048
CHUNK = 512
OPENSLIDE_CACHE = 32 << 20
"""Bytes; OpenSlide's default."""
View = Callable[[int, int], np.ndarray]


class OpenSlideStore(Store):
    """Level 0 of a slide as a read-only zarr array of RGBA chunks."""

    supports_writes = supports_deletes = supports_partial_writes = False
    supports_listing = False

    def __init__(self, path: Path) -> None:
        super().__init__(read_only=True)
        self.path = path
        self.slide = openslide.OpenSlide(path)

    async def get(
        self,
        key: str,
        prototype: BufferPrototype,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """Return the metadata, or read one chunk on a thread."""
        if key == "zarr.json":
            return prototype.buffer.from_bytes(json.dumps(self.metadata()).encode())
        if not key.startswith("c/"):
            return None
        row, col = map(int, key.split("/")[1:3])
        chunk = await asyncio.to_thread(self.chunk, row, col)
        return prototype.buffer.from_bytes(chunk)

    def metadata(self) -> dict[str, Any]:
        """Return what zarr.json would say."""
        cols, rows = self.slide.dimensions
        return {
            "zarr_format": 3,
            "node_type": "array",
            "shape": [rows, cols, 4],
            "data_type": "uint8",
            "chunk_grid": {
                "name": "regular",
                "configuration": {"chunk_shape": [CHUNK, CHUNK, 4]},
            },
            "chunk_key_encoding": {"name": "default"},
            "fill_value": 0,
            "codecs": [{"name": "bytes"}],
        }

    def chunk(self, row: int, col: int) -> bytes:
        """Return one chunk as OpenSlide gives it: RGBA."""
        place = col * CHUNK, row * CHUNK
        return self.slide.read_region(place, 0, (CHUNK, CHUNK)).tobytes()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OpenSlideStore) and other.path == self.path

    async def exists(self, key: str) -> bool:
        """Whether there may be such a key."""
        return key == "zarr.json" or key.startswith("c/")

    async def get_partial_values(
        self,
        prototype: BufferPrototype,
        key_ranges: Iterable[tuple[str, ByteRequest | None]],
    ) -> list[Buffer | None]:
        """Return several values, whole."""
        return [await self.get(key, prototype) for key, _ in key_ranges]

    async def set(self, key: str, value: Buffer) -> None:
        """Refuse: the store is read-only."""
        raise NotImplementedError

    async def delete(self, key: str) -> None:
        """Refuse: the store is read-only."""
        raise NotImplementedError

    async def list(self) -> AsyncIterator[str]:
        """Yield what is not a chunk."""
        yield "zarr.json"

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """Yield what is not a chunk."""
        yield "zarr.json"

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Yield what is not a chunk."""
        yield "zarr.json"


def ours(path: Path) -> View:
    with open_slide(path) as source:
        level = Pyramid(source).levels[0]

    def view(y: int, x: int) -> np.ndarray:
        tile_cache().clear()
        return computed(level, y, x)

    return view


def by_openslide(path: Path) -> View:
    store = OpenSlideStore(path)
    level = da.from_zarr(store)

    def view(y: int, x: int) -> np.ndarray:
        store.slide.set_cache(openslide.OpenSlideCache(OPENSLIDE_CACHE))
        return computed(level, y, x)[:, :, :3]

    return view


def by_tifffile(path: Path) -> View:
    level = da.from_zarr(tifffile.imread(path, aszarr=True, level=0))
    return lambda y, x: computed(level, y, x)


def computed(level: da.Array, y: int, x: int) -> np.ndarray:
    part = level[y : y + VIEW, x : x + VIEW]
    return part.compute(scheduler="threads")


WAYS = {
    "Dask level": ours,
    "zarr over OpenSlide": by_openslide,
    "tifffile's zarr store": by_tifffile,
}


def check(views: list[View], y: int, x: int) -> None:
    """Make sure that all read the same place (JPEG decoders differ by a little)."""
    first, *others = (view(y, x).astype(int) for view in views)
    for other in others:
        assert np.abs(first - other).mean() < 2, "the ways read different pixels"


def best_seconds(views: list[View], places: np.ndarray, rounds: int) -> np.ndarray:
    """Return (ways, places): the best time for each view, s."""
    best = np.full((len(views), len(places)), np.inf)
    for _ in range(rounds):
        for place, (y, x) in enumerate(places):
            for way, view in enumerate(views):
                start = time.perf_counter()
                view(int(y), int(x))
                best[way, place] = min(best[way, place], time.perf_counter() - start)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=40_000, help="px of the slide")
    parser.add_argument("--places", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    path = slide_of(args.side)
    views = [way(path) for way in WAYS.values()]
    rng = np.random.default_rng(2)
    places = rng.integers(0, args.side - VIEW, (args.places, 2))
    check(views, *map(int, places[0]))
    times = best_seconds(views, places, args.rounds)
    print(f"{path.name}: views of {VIEW} x {VIEW} px at {len(places)} places")
    print(f"{'':22}{'best':>9}{'median':>9}{'Dask level is faster by':>26}")
    for name, spent in zip(WAYS, times, strict=True):
        ratio = np.median(spent) / np.median(times[0])
        print(f"{name:22}{spent.min() * 1e3:6.0f} ms{np.median(spent) * 1e3:6.0f} ms"
              f"{ratio:25.2f}x")  # fmt: skip
    print("target: zarr over OpenSlide 3x")


if __name__ == "__main__":
    main()
