"""How long features take from the store, and what keeping a batch costs.

100,000 patches of the default encoder's 192 features, and of 1,536, as UNI2-h and
H-optimus have them. The peer is reading the same files into memory, without looking
at what they hold; ours finds the entry, checks the checksum of every chunk, and
returns an array.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from napari_gimp.geometry import Grid
from napari_gimp.patches.grid import PatchGrid
from napari_gimp.patches.store import FeatureKey, FeatureStore

LIMIT_S = 1.0
WIDTHS = (192, 1536)
BATCH, BATCHES = 64, 20
KEY = FeatureKey("slide", "encoder", (0.5, 0.5), 1.0, 128.0, 128.0, "layout")


def patches_of(count: int) -> PatchGrid:
    """Return patches on a square lattice."""
    side = int(np.ceil(np.sqrt(count)))
    index = np.stack(np.divmod(np.arange(count), side), 1).astype(np.int32)
    grid = Grid((side, side), (128.0, 128.0))
    return PatchGrid(grid, index, np.ones(count, np.float32), 128.0)


def raw(folder: Path) -> int:
    """Read every chunk of an entry as bytes; return how many there are."""
    return sum(len(path.read_bytes()) for path in folder.glob("features/c/*/0"))


def least(call: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Return the least time and processor time of a call, s."""
    times = []
    for _ in range(rounds):
        start, processor = time.perf_counter(), time.process_time()
        call()
        used = time.process_time() - processor
        times.append((time.perf_counter() - start, used))
    return min(t for t, _ in times), min(p for _, p in times)


def measure(folder: Path, count: int, width: int, rounds: int) -> None:
    """Print a line for one width."""
    rng = np.random.default_rng(0)
    features = rng.standard_normal((count, width), dtype=np.float32)
    store = FeatureStore(folder / str(width))
    stored = store.open_or_create(KEY, patches_of(count), width)
    began = time.perf_counter()
    for k in range(BATCHES):
        rows = slice(k * BATCH, (k + 1) * BATCH)
        stored.write(rows.start, features[rows])
    keep_ms = (time.perf_counter() - began) / BATCHES * 1e3
    stored.write(0, features)
    assert np.array_equal(store.open(KEY).whole(), features)
    ours, processor = least(lambda: store.open(KEY).read(), rounds)
    verified, _ = least(lambda: store.has(KEY), rounds)
    peer, _ = least(lambda: raw(store.path(KEY)), rounds)
    size = features.nbytes / 1e6
    print(
        f"| {count:,} x {width:,} ({size:,.0f} MB) | {ours:.2f} | {processor:.2f} "
        f"| {verified:.2f} "
        f"| {peer:.2f} | {ours / peer:.1f} | {ours / LIMIT_S:.2f} | {keep_ms:.1f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patches", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    print(f"\n### Feature store (limit {LIMIT_S:g} s to read)\n")
    print(
        "| features | read, s | processor, s | found and verified, s | raw bytes, s "
        f"| ratio | of the limit | a batch of {BATCH} kept, ms |"
    )
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for width in WIDTHS:
            measure(Path(folder), args.patches, width, args.rounds)


if __name__ == "__main__":
    main()
