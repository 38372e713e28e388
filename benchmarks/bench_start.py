"""How long until something is there: imports, the command line, a dropped slide.

Every number is from fresh processes, of which the best and the median are told,
beside the limit it is held against. A dropped slide is timed in a process that has
made napari's viewer model, as the one has into which a slide is dropped: from asking
our reader to its layers, and on to the pixels of the coarsest level.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

MARK = "print(time.perf_counter() - start)"
DROP = """
from napari.components import ViewerModel
ViewerModel()
start = time.perf_counter()
from napari_gimp.reader import get_reader
layers = get_reader(PATH)(PATH)
MARK
import numpy
numpy.asarray(layers[0][0][-1])
MARK
"""
IMPORT = """
start = time.perf_counter()
import NAME
MARK
"""


@dataclass(frozen=True, slots=True)
class Case:
    """What a process is timed for: what it has by each mark, and within what, s."""

    code: str
    marks: tuple[tuple[str, float], ...]


def cases(path: Path) -> list[Case]:
    """Return what processes are timed for."""
    imports = [
        Case(IMPORT.replace("NAME", name), ((f"import {name}", 0.2),))
        for name in ("napari_gimp.reader", "napari_gimp.cli")
    ]
    marks = (("dropped slide: layers", 1.0), ("dropped slide: first pixels", 1.0))
    return [*imports, Case(DROP.replace("PATH", repr(str(path))), marks)]


def seconds_inside(case: Case) -> list[float]:
    """Return what a fresh process measures at each mark, s."""
    code = "import time\n" + case.code.replace("MARK", MARK)
    command = [sys.executable, "-W", "ignore", "-c", code]
    told = subprocess.run(command, capture_output=True, text=True, check=True)
    return [float(line) for line in told.stdout.split()]


def seconds_of(command: list[str]) -> float:
    """Return how long a command takes, s."""
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def row(name: str, times: list[float], limit_s: float) -> str:
    """Return a line of the table."""
    best, middle = min(times), statistics.median(times)
    return (
        f"| {name} | {1e3 * best:.0f} | {1e3 * middle:.0f} | {1e3 * limit_s:.0f} "
        f"| {best / limit_s:.2f}x |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=40_000, help="of the slide, px")
    parser.add_argument("--slide", type=Path, help="another slide instead")
    parser.add_argument("--rounds", type=int, default=7, help="fresh processes each")
    args = parser.parse_args()
    path = args.slide or made(args.side)
    print(f"\n### Start: {path.name}, {args.rounds} fresh processes each\n")
    print("| what | best, ms | median, ms | limit, ms | best against it |")
    print("|---|---|---|---|---|")
    for case in cases(path):
        rounds = [seconds_inside(case) for _ in range(args.rounds)]
        for (name, limit_s), times in zip(
            case.marks, zip(*rounds, strict=True), strict=True
        ):
            print(row(name, list(times), limit_s))
    # an empty interpreter tells how much of it is ours
    for name, words in {
        "napari-gimp --help, whole process": ["-m", "napari_gimp.cli", "--help"],
        "an empty Python, whole process": ["-c", ""],
    }.items():
        command = [sys.executable, *words]
        print(row(name, [seconds_of(command) for _ in range(args.rounds)], 0.5))


def made(side: int) -> Path:
    """Return the JPEG pyramid that the other benchmarks use."""
    from bench_tiles import slide_of

    return slide_of(side)


if __name__ == "__main__":
    main()
