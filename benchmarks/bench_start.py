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

TIMED = """
import time
{before}
start = time.perf_counter()
{code}
print(time.perf_counter() - start)
"""
NAPARI = "from napari.components import ViewerModel; ViewerModel()"
ASK_READER = """
from napari_gimp.reader import get_reader
layers = get_reader(PATH)(PATH)
"""
FIRST_PIXELS = """
import numpy
numpy.asarray(layers[0][0][-1])
"""


@dataclass(frozen=True, slots=True)
class Case:
    """What is timed, the limit in s, and the code before and inside the clock."""

    name: str
    limit_s: float
    code: str
    before: str = ""


def cases(path: Path) -> list[Case]:
    """Return what a process of its own is timed for."""
    dropped = ASK_READER.replace("PATH", repr(str(path)))
    return [
        Case("import napari_gimp.reader", 0.2, "import napari_gimp.reader"),
        Case("import napari_gimp.cli", 0.2, "import napari_gimp.cli"),
        Case("reader to layers", 1.0, dropped, NAPARI),
        Case("reader to first pixels", 1.0, dropped + FIRST_PIXELS, NAPARI),
    ]


def seconds_inside(case: Case) -> float:
    """Return what a fresh process measures for a case, s."""
    code = TIMED.format(before=case.before, code=case.code)
    command = [sys.executable, "-W", "ignore", "-c", code]
    told = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(told.stdout.split()[-1])


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
    parser.add_argument("--rounds", type=int, default=5, help="fresh processes each")
    args = parser.parse_args()
    path = args.slide or made(args.side)
    print(f"\n### Start: {path.name}, fresh processes, best of {args.rounds}\n")
    print("| what | best, ms | median, ms | limit, ms | best against it |")
    print("|---|---|---|---|---|")
    for case in cases(path):
        times = [seconds_inside(case) for _ in range(args.rounds)]
        print(row(case.name, times, case.limit_s))
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
