"""Tile rates: our reader against the codec alone and against OpenSlide, in one run.

Three ways to get the same tiles of the same JPEG pyramid as RGB, one thread each:
the codec on bytes that lie in memory (the limit), `read_region` on the file with an
empty cache, and openslide-python. The ways take turns on 20 tiles at a time, and of
each turn the best of several rounds counts: other work on the machine then weighs
little, and on all alike.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tifffile

from napari_gimp.slide.source import SlideSource, open_slide
from napari_gimp.slide.tiles import tile_cache

TILE = 256
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


def codec(path: Path, index: Index) -> Way:
    """Decode from memory: the limit."""
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
            imagecodecs.jpeg8_decode(stored[place], tables=tables, outcolorspace=2)

    return read


def ours(source: SlideSource) -> Way:
    """Read the tiles from the file, none of them cached."""

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


def best_rates(ways: dict[str, Way], index: Index, rounds: int) -> dict[str, float]:
    """Return tiles/s of each way: the best of the rounds for each 20 tiles, summed."""
    turns = [index[i : i + 20] for i in range(0, len(index), 20)]
    best = np.full((len(ways), len(turns)), np.inf)
    for _ in range(rounds):
        tile_cache().clear()
        for turn, places in enumerate(turns):
            for way, read in enumerate(ways.values()):
                start = time.perf_counter()
                read(places)
                spent = time.perf_counter() - start
                best[way, turn] = min(best[way, turn], spent)
    return dict(zip(ways, len(index) / best.sum(axis=1), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=20_000, help="px of the slide")
    parser.add_argument("--tiles", type=int, default=500, help="tiles per round")
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    path = slide_of(args.side)
    source = open_slide(path)
    count = args.side // TILE
    rng = np.random.default_rng(1)
    chosen = rng.permutation(count * count)[: args.tiles]
    index = [divmod(int(n), count) for n in np.sort(chosen)]
    names = ("codec in memory", "read_region", "openslide-python")
    ways = codec(path, index), ours(source), by_openslide(path)
    rates = best_rates(dict(zip(names, ways, strict=True)), index, args.rounds)
    own = rates["read_region"]
    print(f"{path.name}: {len(index)} JPEG tiles of {TILE} px, one thread")
    print(f"{'':18}{'tiles/s':>9}{'read_region against it':>25}")
    for name, rate in rates.items():
        print(f"{name:18}{rate:9.0f}{own / rate:24.2f}x")


if __name__ == "__main__":
    main()
