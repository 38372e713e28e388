"""Tile rates: our reader against the codec alone and against OpenSlide, in one run.

Four ways to get the same tiles of the same 40,000 px JPEG pyramid as RGB, one thread
each: the codec on bytes that lie in memory, into one array (no memory is taken: the
limit) and into new arrays (what any reader must return), `read_region` on the file
with an empty cache, and openslide-python. The ways take turns on 20 tiles at a time,
and of each turn the best of several rounds in several processes counts, in processor
time: other work on the machine and the luck of memory layout then weigh little. With
one thread and the file in the system's cache nothing is waited for, so that on an idle
machine the clock on the wall says the same.

Then the same tiles on two threads against one, by the clock on the wall, for the bare
codec (what the machine's two cores give at all now) and for `read_region`.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import tifffile

from napari_gimp.slide.source import open_slide
from napari_gimp.slide.tiles import tile_cache

TILE = 256
TURN = 20
NAMES = ("codec, one array", "codec, new arrays", "read_region", "openslide-python")
OURS = NAMES.index("read_region")
SCALED = (1, OURS)
"""The ways that are also measured on two threads."""
FAST_ADDRESS = 16
"""Modulo 32: where JPEG's SIMD code need not go round the processor's cache."""
Index = list[tuple[int, int]]
Way = Callable[[Index], None]


def histology(rows: int, cols: int, seed: int = 0) -> np.ndarray:
    """Return (rows, cols, 3) that compresses like stained tissue: nuclei on pink."""
    rng = np.random.default_rng(seed)
    image = np.empty((rows, cols, 3), np.float32)
    image[:] = (225, 170, 205)
    y, x = np.mgrid[:rows, :cols].astype(np.float32)
    image += 18 * np.sin(x / 17 + 3 * np.sin(y / 41))[..., None]
    for cy, cx, r in rng.uniform((0, 0, 4), (rows, cols, 9), (rows * cols // 900, 3)):
        box = np.s_[
            max(0, int(cy - r)) : int(cy + r) + 1, max(0, int(cx - r)) : int(cx + r) + 1
        ]
        inside = (y[box] - cy) ** 2 + (x[box] - cx) ** 2 < r * r
        image[box][inside] = (95, 60, 140)
    image += rng.normal(0, 7, image.shape)
    return image.clip(0, 255).astype(np.uint8)


def slide_of(side: int) -> Path:
    """Return a JPEG pyramid of side x side px, made once per machine."""
    path = Path(tempfile.gettempdir()) / f"napari-gimp-bench-{side}.tif"
    if path.exists():
        return path
    block = histology(2048, 2048)
    unfinished = path.with_suffix(".part")
    with tifffile.TiffWriter(unfinished, bigtiff=True) as tiff:
        level = 0
        while side >> level >= 512:
            here = block[:: 1 << min(level, 2), :: 1 << min(level, 2)]
            tiff.write(
                tiles_of(here, side >> level),
                shape=(side >> level, side >> level, 3),
                dtype=np.uint8,
                tile=(TILE, TILE),
                photometric="rgb",
                compression="jpeg",
                compressionargs={"level": 85},
                subsampling=(2, 2),
                subfiletype=int(level > 0),
                resolution=(2e4, 2e4),
                resolutionunit="CENTIMETER",
                metadata=None,
            )
            level += 1
    return unfinished.rename(path)


def tiles_of(block: np.ndarray, side: int):
    """Yield the tiles of a square of `side` px paved with a block."""
    count = -(-side // TILE)
    period = len(block) // TILE
    for row in range(count):
        for col in range(count):
            y, x = row % period * TILE, col % period * TILE
            yield np.ascontiguousarray(block[y : y + TILE, x : x + TILE])


def codec(path: Path, index: Index, pixels: np.ndarray | None) -> Way:
    """Decode from memory, into one array again and again or each into a new one."""
    import imagecodecs

    with tifffile.TiffFile(path) as tiff, path.open("rb") as file:
        page = tiff.pages[0]
        columns = -(-page.imagewidth // TILE)
        stored = {}
        for row, col in index:
            file.seek(page.dataoffsets[row * columns + col])
            stored[row, col] = file.read(page.databytecounts[row * columns + col])
        tables = page.jpegtables

    def read(places: Index) -> None:
        for place in places:
            imagecodecs.jpeg8_decode(
                stored[place], tables=tables, outcolorspace=2, out=pixels
            )

    return read


def ours(path: Path) -> Way:
    """Read the tiles from the file, none of them cached."""
    source = open_slide(path)

    def read(places: Index) -> None:
        for row, col in places:
            source.read_region(0, row * TILE, col * TILE, TILE, TILE)

    return read


def by_openslide(path: Path) -> Way:
    """Read the tiles as RGB with openslide-python, none of them cached."""
    import openslide

    slide = openslide.OpenSlide(path)

    def read(places: Index) -> None:
        for row, col in places:
            image = slide.read_region((col * TILE, row * TILE), 0, (TILE, TILE))
            np.asarray(image)[:, :, :3]

    slide.set_cache(openslide.OpenSlideCache(0))
    return read


def fast_array() -> np.ndarray:
    """Return one tile's array at the address at which the codec is fastest."""
    raw = np.empty(TILE * TILE * 3 + 32, np.uint8)
    start = (FAST_ADDRESS - raw.ctypes.data) % 32
    return raw[start : start + TILE * TILE * 3].reshape(TILE, TILE, 3)


def ways_of(path: Path, index: Index) -> list[Way]:
    codecs = codec(path, index, fast_array()), codec(path, index, None)
    return [*codecs, ours(path), by_openslide(path)]


def best_seconds(path: Path, index: Index, rounds: int) -> np.ndarray:
    """Return (4, turns): least processor time of each way for each 20 tiles, s."""
    ways = list(enumerate(ways_of(path, index)))
    turns = [index[i : i + TURN] for i in range(0, len(index), TURN)]
    best = np.full((len(ways), len(turns)), np.inf)
    for _ in range(rounds):
        tile_cache().clear()
        ways = ways[1:] + ways[:1]  # whoever follows OpenSlide is slower
        for turn, places in enumerate(turns):
            for way, read in ways:
                start = time.thread_time()
                read(places)
                spent = time.thread_time() - start
                best[way, turn] = min(best[way, turn], spent)
    return best


def best_seconds_on_threads(path: Path, index: Index, rounds: int) -> np.ndarray:
    """Return (2 ways, 1 or 2 threads, turns): best time for 80 tiles, s."""
    ways = [ways_of(path, index)[way] for way in SCALED]
    turns = [index[i : i + 4 * TURN] for i in range(0, len(index), 4 * TURN)]
    best = np.full((len(ways), 2, len(turns)), np.inf)
    with ThreadPoolExecutor(2) as pool:

        def on_two(read: Way, places: Index) -> None:
            half = len(places) // 2
            list(pool.map(read, (places[:half], places[half:])))

        for _ in range(rounds):
            for turn, places in enumerate(turns):
                for way, read in enumerate(ways):
                    for threads, run in enumerate((read, partial(on_two, read))):
                        spent = seconds(run, places)
                        best[way, threads, turn] = min(best[way, threads, turn], spent)
    return best


def seconds(read: Way, places: Index) -> float:
    start = time.perf_counter()
    read(places)
    return time.perf_counter() - start


def in_processes(measure: Callable[..., np.ndarray], count: int, *args) -> np.ndarray:
    """Return the best over several fresh processes.

    Where a process happens to lay its arrays in memory moves the codec's rate by a
    quarter, and not the same way for all.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1) as processes:
        jobs = [processes.submit(measure, *args) for _ in range(count)]
        return np.min([job.result() for job in jobs], axis=0)


def print_rates(path: Path, best: np.ndarray, count: int) -> None:
    rates = count / best.sum(axis=1)
    print(f"{path.name}: {count} JPEG tiles of {TILE} px, one thread")
    print(f"{'':19}{'tiles/s':>9}{'read_region against it':>25}")
    for name, rate in zip(NAMES, rates, strict=True):
        print(f"{name:19}{rate:9.0f}{rates[OURS] / rate:24.2f}x")
    print(f"targets: {NAMES[1]} 0.85x, {NAMES[3]} 4x")


def print_scaling(best: np.ndarray) -> None:
    print("two threads against one")
    for way, seconds_of in zip(SCALED, best.sum(axis=2), strict=True):
        print(f"{NAMES[way]:19}{seconds_of[0] / seconds_of[1]:33.2f}x")
    print("target: read_region 1.7x where the codec alone reaches it")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=40_000, help="px of the slide")
    parser.add_argument("--tiles", type=int, default=320, help="tiles per round")
    parser.add_argument("--rounds", type=int, default=3, help="rounds per process")
    parser.add_argument("--processes", type=int, default=6)
    args = parser.parse_args()
    path, count = slide_of(args.side), args.side // TILE
    chosen = np.random.default_rng(1).permutation(count * count)[: args.tiles]
    index = [divmod(int(n), count) for n in np.sort(chosen)]
    job = path, index, args.rounds
    print_rates(path, in_processes(best_seconds, args.processes, *job), len(index))
    print_scaling(in_processes(best_seconds_on_threads, args.processes, *job))


if __name__ == "__main__":
    main()
