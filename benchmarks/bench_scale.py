"""Features of several slides by one worker process and by two, each of one core.

What the machine itself allows is measured in the same run: the bare encoder, on
patches that are in memory, in one process and in two at once (cores share memory
and, some of them, their units). The last line is one process with all cores, which
is what the command does without `--workers`. Rounds go in turn, so that load hits
all alike, and the best of each counts; the aim is 1.7 on two free cores. Processor
time per patch tells on a busy machine, too, what sharing the work costs.

    python benchmarks/bench_scale.py [--slides 4] [--side-px 4096] [--rounds 3]
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
from bench_features import write_slide

from napari_gimp.cohorts.cluster import Cluster
from napari_gimp.cohorts.extraction import Recipe, loaded_encoder
from napari_gimp.cohorts.features import extract_manifest
from napari_gimp.cohorts.local import THREADS, cores, local_workers
from napari_gimp.cohorts.manifest import Entry
from napari_gimp.cohorts.states import State

LEVELS = (1, 2, 4)
BATCH, BATCHES = 64, 16


def main() -> None:
    args = _arguments()
    os.environ |= dict.fromkeys(THREADS, "1")  # of the workers; ours came before
    with (
        tempfile.TemporaryDirectory() as folder,
        local_workers(1) as one,
        local_workers(2) as two,
    ):
        entries = _slides(Path(folder), args.slides, args.side_px)
        recipe = Recipe(
            "default", loaded_encoder("default").fingerprint, Path(folder), "cpu"
        )
        jobs: dict[str, Callable[[], int]] = {
            "bare, 1 process": lambda: bare(one, 1),
            "bare, 2 processes": lambda: bare(two, 2),
            "slides, 1 process": lambda: slides(entries, recipe, one),
            "slides, 2 processes": lambda: slides(entries, recipe, two),
            f"slides, here, {cores()} cores": lambda: slides(entries, recipe, None),
        }
        rounds = [[_cost(job) for job in jobs.values()] for _ in range(args.rounds + 1)]
    _print(list(jobs), np.min(rounds[1:], axis=0))  # the first round loads encoders


def bare(cluster: Cluster, processes: int) -> int:
    """Encode patches in memory in each process at once; return how many."""
    client = cluster.client
    tasks = [client.submit(encode, k, pure=False) for k in range(processes)]
    return sum(client.gather(tasks))


def encode(seed: int) -> int:
    """Encode patches of noise on a worker."""
    encoder = loaded_encoder("default")
    shape = (BATCH, encoder.input_px, encoder.input_px, 3)
    pixels = np.random.default_rng(seed).integers(0, 255, shape, dtype=np.uint8)
    for _ in range(BATCHES):
        encoder(pixels)
    return BATCH * BATCHES


def slides(entries: Sequence[Entry], recipe: Recipe, cluster: Cluster | None) -> int:
    """Make the features of all slides into a new store; return how many."""
    with tempfile.TemporaryDirectory(dir=recipe.store) as store:
        anew = replace(recipe, store=Path(store))
        states = list(extract_manifest(entries, anew, cluster=cluster))
    ended = [state for state in states if state.state is State.DONE]
    assert len(ended) == len(entries)
    return sum(state.done for state in ended)


def _cost(job: Callable[[], int]) -> tuple[float, float]:
    """Return seconds by the clock and of the processors, for each patch."""
    start, busy = time.perf_counter(), _busy()
    count = job()
    return (time.perf_counter() - start) / count, (_busy() - busy) / count


def _busy() -> float:
    """Return the processor time of this process and its workers, s."""
    own = psutil.Process()
    times = [one.cpu_times() for one in (own, *own.children(recursive=True))]
    return sum(one.user + one.system for one in times)


def _print(names: Sequence[str], costs: np.ndarray) -> None:
    print(f"{'':24} {'patches/s':>10} {'against 1 process':>18} {'cpu ms':>7}")
    alone = (costs[0, 0], costs[0, 0], costs[2, 0], costs[2, 0], costs[2, 0])
    for name, (seconds, cpu), base in zip(names, costs, alone, strict=True):
        print(f"{name:24} {1 / seconds:10.0f} {base / seconds:18.2f} {1e3 * cpu:7.2f}")
    (bare_one, bare_two), (one, two) = costs[:2, 0], costs[2:4, 0]
    print(
        f"scaling of slides from 1 to 2 processes {one / two:.2f}, of the bare encoder "
        f"{bare_one / bare_two:.2f} (aim 1.7 on two free cores)"
    )


def _slides(folder: Path, count: int, side_px: int) -> list[Entry]:
    """Write slides of equal pixels; bytes after the file's end make them others."""
    first = write_slide(folder / "slide.tif", side_px, LEVELS).read_bytes()
    paths = [folder / f"{k}.tif" for k in range(count)]
    for k, path in enumerate(paths):
        path.write_bytes(first + bytes([k]) * 64)
    return [Entry(path, path.stem) for path in paths]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slides", type=int, default=4)
    parser.add_argument("--side-px", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


if __name__ == "__main__":
    main()
