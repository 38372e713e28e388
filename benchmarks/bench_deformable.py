"""Deformable attention against the plain reference, and how its cost grows.

A training step (forward and backward, dropout on) of the attention of one branch of
Subspace at base size, B = 1. Every number is from a fresh process: the best of a few
steps, and the memory that the first step took above what was there before it (the
kernel's count, or CUDA's). The limits are 3 x in time and 1/3 in memory.

Then the grid grows: with the 12 x 12 keys held, by a stride and kernel that grow with
it, and with the stride held, so that the keys grow too; then the pairs of query and
key, and with them the time of anything exact, grow like N^2.

    python benchmarks/bench_deformable.py [--threads 2] [--rounds 5]
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from gimp_models.deformable import DeformableAttention, key_side
from naive_deformable import NaiveDeformableAttention

NETS = {"plain": NaiveDeformableAttention, "ours": DeformableAttention}
SIDES = 24, 48, 96, 192
MB = 1 << 20


@dataclass(frozen=True, slots=True)
class Case:
    """One process: which attention, on how large a grid, where."""

    net: str
    side: int
    stride: int = 4
    kernel: int = 6
    device: str = "cpu"
    half: bool = False

    @property
    def keys(self) -> int:
        """Number of keys."""
        return key_side(self.side, self.kernel, self.stride) ** 2


@dataclass(frozen=True, slots=True)
class Cost:
    """What a training step takes: wall and processor time, s, and memory, bytes."""

    seconds: float
    processor: float
    memory: float


def main() -> None:
    args = arguments()
    if args.one:
        print(json.dumps(asdict(measure(Case(**json.loads(args.one)), args))))
        return
    print("| one step at N = 2500, 144 keys | wall, ms | processor, ms | memory, MB |")
    print("|---|---|---|---|")
    against_reference(args, "cpu", half=False)
    if torch.cuda.is_available():
        for half in (False, True):
            against_reference(args, "cuda", half=half)
    held = [Case("ours", side, side // 12, side // 12 + 2) for side in SIDES]
    growth("12 x 12 keys held", held, args)
    growth("stride 4 held", [Case("ours", side) for side in SIDES[:-1]], args)


def against_reference(args: argparse.Namespace, device: str, *, half: bool) -> None:
    """Print both, and the ratios."""
    plain, ours = (
        cost_of(Case(net, 50, device=device, half=half), args) for net in NETS
    )
    place = device + (", bfloat16" if half else "")
    for name, cost in (("plain", plain), ("ours", ours)):
        print(
            f"| {place}: {name} | {1e3 * cost.seconds:.0f} "
            f"| {1e3 * cost.processor:.0f} | {cost.memory / MB:.0f} |"
        )
    print(
        f"| {place}: plain / ours | {plain.seconds / ours.seconds:.1f}x "
        f"| {plain.processor / ours.processor:.1f}x "
        f"| {plain.memory / ours.memory:.1f}x |"
    )


def growth(name: str, cases: list[Case], args: argparse.Namespace) -> None:
    """Print cost per query, and how each row's compares with the one before."""
    print(f"\n| {name}: N | keys | processor, ms | x | memory, MB | x |")
    print("|---|---|---|---|---|---|")
    before = None
    for case in cases:
        cost = cost_of(case, args)
        steps = ["", ""]
        if before:
            steps = [
                f"{cost.processor / before.processor:.1f}",
                f"{cost.memory / before.memory:.1f}",
            ]
        print(
            f"| {case.side**2} | {case.keys} | {1e3 * cost.processor:.0f} "
            f"| {steps[0]} | {cost.memory / MB:.0f} | {steps[1]} |"
        )
        before = cost


def cost_of(case: Case, args: argparse.Namespace) -> Cost:
    """Measure in a fresh process."""
    told = subprocess.run(
        [
            *(sys.executable, __file__, "--one", json.dumps(asdict(case))),
            *("--threads", str(args.threads), "--rounds", str(args.rounds)),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    return Cost(**json.loads(told.stdout))


def measure(case: Case, args: argparse.Namespace) -> Cost:
    """Take the steps."""
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    step = training_step(case)
    warm = min(case.side, 2 * case.stride)
    step(warm)  # loads libraries, which are not the attention's
    memory = memory_of(lambda: step(case.side), case.device)
    times = [times_of(lambda: step(case.side), case.device) for _ in range(args.rounds)]
    walls, processors = zip(*times, strict=True)
    return Cost(min(walls), min(processors), memory)


def training_step(case: Case) -> Callable[[int], None]:
    """Return a step on a grid of a given side."""
    net = NETS[case.net](stride=case.stride, kernel=case.kernel).to(case.device)

    def step(side: int) -> None:
        inputs = torch.randn(2, 1, 128, side, side, device=case.device)
        with torch.autocast(case.device, torch.bfloat16, enabled=case.half):
            found = net(*inputs.requires_grad_())
            output = found[0] if isinstance(found, tuple) else found.output
        output.float().square().mean().backward()

    return step


def memory_of(run: Callable[[], None], device: str) -> float:
    """Return the bytes held at most while running, above what was held."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return torch.cuda.max_memory_allocated() - before
    unit = 1 if sys.platform == "darwin" else 1024
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit


def times_of(run: Callable[[], None], device: str) -> tuple[float, float]:
    """Return wall and processor time, s."""
    start, busy = time.perf_counter(), time.process_time()
    run()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start, time.process_time() - busy


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--one", help=argparse.SUPPRESS)  # measure one case, as JSON
    return parser.parse_args()


if __name__ == "__main__":
    main()
