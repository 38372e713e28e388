"""Memory of a tour over a whole slide, and what open/close cycles leave behind.

The tour visits all of level 0 of a generated 40,000 px JPEG pyramid (4.8 GB of
pixels) with a cache budget of 512 MB: as the viewer does (paint, wait until it is
sharp, go on), with `read_region`, and as a sum over the Dask level on threads. Each
way runs in a fresh process, and the peak is the kernel's own count of the memory that
the process held at most, interpreter and libraries included. Limit: budget + 500 MB.

Then a hundred times open, read, paint and close for each format there is a writer
for, after ten times for warming up. Limits: no handle, no thread, 50 MB; what is
above that is tried up to three times, and the least counts.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import psutil
from bench_tiles import slide_of

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "slide"))

BUDGET_MB = 512
SPARE_MB = 500
FIELD_PX = 2048
WARM, CYCLES = 10, 100
ROUNDS = 3
"""So often a hundred cycles are tried: a leak grows each time, the allocator's
stock of free memory (tens of MB now and then) does not."""
LEAK_MB = 50
MB = 1 << 20


def fields(side: int) -> Iterator[tuple[int, int]]:
    """Yield the corners of the fields that cover a square, in a snake."""
    starts = range(0, side, FIELD_PX)
    for turn, y in enumerate(starts):
        yield from ((y, x) for x in (starts if turn % 2 == 0 else reversed(starts)))


def painted(path: Path) -> int:
    """Look at every field until it is sharp; return the number of fields."""
    from napari_gimp.slide.decoding import decode_pool
    from napari_gimp.slide.source import open_slide
    from napari_gimp.slide.view import SlideView

    with open_slide(path) as source:
        view = SlideView(source)
        seen = 0
        for y, x in fields(source.levels[0].shape[0]):
            view.levels[0][y : y + FIELD_PX, x : x + FIELD_PX]
            while decode_pool().pending(view.tiles.token):
                time.sleep(0.002)
            view.levels[0][y : y + FIELD_PX, x : x + FIELD_PX]
            seen += 1
        view.close()
    return seen


def read(path: Path) -> int:
    """Read every field; return the number of fields."""
    from napari_gimp.slide.source import open_slide

    with open_slide(path) as source:
        places = list(fields(source.levels[0].shape[0]))
        for y, x in places:
            source.read_region(0, y - 3, x - 3, FIELD_PX, FIELD_PX)
    return len(places)


def summed(path: Path) -> int:
    """Sum level 0 through Dask on threads; return the number of chunks."""
    from napari_gimp.slide.pyramid import Pyramid
    from napari_gimp.slide.source import open_slide

    with open_slide(path) as source:
        level = Pyramid(source).levels[0]
    level.sum(dtype="uint64").compute(scheduler="threads")
    return int(level.npartitions)


TOURS: dict[str, Callable[[Path], int]] = {
    "SlideView, field by field": painted,
    "read_region, field by field": read,
    "Dask level, on threads": summed,
}


def tour(name: str, path: Path) -> tuple[int, float, float]:
    """Return steps, seconds and the peak of memory in MB of one way to see it all."""
    begin = time.perf_counter()
    steps = TOURS[name](path)
    spent = time.perf_counter() - begin
    return steps, spent, peak_mb()


def peak_mb() -> float:
    """Return the most memory this process held, MB.

    Linux tells of it twice: `ru_maxrss` counts what the parent held, too.
    """
    status = Path("/proc/self/status")
    if status.exists():
        lines = status.read_text().splitlines()
        return int(next(v.split()[1] for v in lines if v.startswith("VmHWM"))) / 1024
    import resource  # not on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def held() -> tuple[int, int, float]:
    """Return open handles, threads and memory in MB of this process."""
    gc.collect()
    process = psutil.Process()
    return process.num_fds(), process.num_threads(), process.memory_info().rss / MB


def cycles(number: int, count: int) -> tuple[str, int, int, float, float]:
    """Return name, handles, threads, MB more than before, and ms for a cycle."""
    import formats
    from slide_user import use

    form = formats.EVERY[number]
    with tempfile.TemporaryDirectory() as folder:
        path = form.sample(Path(folder)).path
        for _ in range(WARM):
            use(path)
        mb = float("inf")
        start = held()
        for _ in range(ROUNDS):
            before, begin = held(), time.perf_counter()
            for _ in range(count):
                use(path)
            spent = (time.perf_counter() - begin) / count * 1000
            after = held()
            mb = min(mb, after[2] - before[2])
            if mb <= LEAK_MB:
                break
    return form.name, after[0] - start[0], after[1] - start[1], mb, spent


def alone(work: Callable[..., Any], *arguments: Any) -> Any:
    """Return what a function gives in a process of its own."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as process:
        return process.submit(work, *arguments).result()


def print_tours(path: Path) -> None:
    limit = BUDGET_MB + SPARE_MB
    print(f"{path.name}, level 0 whole, cache budget {BUDGET_MB} MB, limit {limit} MB")
    print(f"{'':29}{'steps':>7}{'s':>8}{'peak MB':>9}{'of limit':>10}")
    for name in TOURS:
        steps, spent, peak = alone(tour, name, path)
        print(f"{name:29}{steps:7}{spent:8.1f}{peak:9.0f}{peak / limit:9.2f}x")


def print_cycles(count: int) -> None:
    import formats

    print(f"\n{count} times open, read, paint, close; more than before")
    print(f"{'':27}{'handles':>9}{'threads':>9}{'MB':>7}{'ms each':>9}")
    for number in range(len(formats.EVERY)):
        name, handles, threads, mb, ms = alone(cycles, number, count)
        bad = handles > 0 or threads > 0 or mb > LEAK_MB
        mark = "  LEAKS" if bad else ""
        print(f"{name:27}{handles:9}{threads:9}{mb:7.1f}{ms:9.1f}{mark}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=40_000, help="px of the slide")
    parser.add_argument("--cycles", type=int, default=CYCLES)
    args = parser.parse_args()
    os.environ["NAPARI_GIMP_CACHE_MB"] = str(BUDGET_MB)
    print_tours(slide_of(args.side))
    print_cycles(args.cycles)


if __name__ == "__main__":
    main()
