"""GiMP on slides of many patches: memory of a forward pass, cost of the class row.

A forward pass of the base size over 50,000 patches of 1,024 features with attention
asked for, in a fresh process each; the peak is the kernel's own count of the memory
that the process held at most, interpreter, torch, weights and features included.
Limit: 1.5 GB in float32. Then what grows with the number of patches N: the class
token's attention row, which must cost O(N), and the forward pass, which is O(N^2) with
exact attention (in O(N) memory) and O(N) with Nyström's.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

PATCHES, FEATURES, GENES = 50_000, 1024, 20_530
LIMIT_MB = 1500
ROW_PATCHES = (50_000, 100_000, 200_000)  # beyond what a cache holds
FORWARD_PATCHES = (2_500, 5_000, 10_000)
REPEATS = 5


def peak_mb() -> float:
    """Return the most memory this process held since `forget_peak`, MB (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(v.split()[1] for v in lines if v.startswith("VmHWM"))) / 1024


def forget_peak() -> float:
    """Start the count of `peak_mb` anew; return what the process holds now, MB."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak_mb()


def alone(work: Callable[..., Any], *arguments: Any) -> Any:
    """Return what a function gives in a process of its own."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as process:
        return process.submit(work, *arguments).result()


def seconds(work: Callable[[], object], repeats: int = REPEATS) -> float:
    """Return the median time of a call, after one to warm up."""
    times = []
    for _ in range(repeats + 1):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return statistics.median(times[1:])


def base_model(attention: str) -> Any:
    """Return an untrained GiMP of the base size."""
    from gimp_models.gimp import Gimp, GimpConfig

    config = GimpConfig.preset("base", patch_features=FEATURES, genes=GENES, classes=3)
    torch.manual_seed(0)
    return Gimp(replace(config, attention=attention)).eval()


def slide(patches: int) -> Any:
    """Return a batch of one patient with a nearly square slide."""
    from gimp_models.bag import Bag, collate

    side = int(patches**0.5) + 1
    index = torch.arange(patches)
    cells = torch.stack([index // side, index % side], dim=1)
    features = torch.randn(patches, FEATURES)
    return collate([Bag(features, cells * 128.0, torch.randn(GENES))])


def forward(attention: str, patches: int) -> tuple[float, float]:
    """Return seconds and the peak of memory in MB of one forward pass."""
    model, batch = base_model(attention), slide(patches)
    forget_peak()
    begin = time.perf_counter()
    with torch.no_grad():
        output = model(batch, attention=True)
    spent = time.perf_counter() - begin
    assert output.logits.isfinite().all()
    return spent, peak_mb()


def class_row(patches: int) -> float:
    """Return the seconds that the class token's row takes alone."""
    attention = base_model("exact").image.mixer.layers[-1].attention
    tokens = torch.randn(1, 1 + patches, 512)
    with torch.no_grad():
        return seconds(lambda: attention.class_row(tokens, None))


def print_memory(patches: int) -> None:
    print(f"forward, base size, N = {patches}, P = {FEATURES}, limit {LIMIT_MB} MB")
    print(f"{'attention':12}{'s':>8}{'peak MB':>9}{'of limit':>10}")
    for attention in ("exact", "nystrom"):
        spent, peak = alone(forward, attention, patches)
        mark = "" if peak <= LIMIT_MB else "  ABOVE"
        ratio = peak / LIMIT_MB
        print(f"{attention:12}{spent:8.1f}{peak:9.0f}{ratio:9.2f}x{mark}", flush=True)


def print_row() -> None:
    print("\nclass token's row: O(N) is the same time for each patch")
    print(f"{'N':>8}{'ms':>9}{'ns per patch':>14}{'to first':>10}")
    first = None
    for patches in ROW_PATCHES:
        spent = alone(class_row, patches)
        each = spent / patches * 1e9
        first = first or each
        print(f"{patches:8}{spent * 1e3:9.2f}{each:14.0f}{each / first:9.2f}x")


def print_growth() -> None:
    print("\nforward, base size: time against the first N")
    print(f"{'N':>8}{'exact s':>9}{'':>8}{'nystrom s':>11}{'':>8}")
    first = None
    for patches in FORWARD_PATCHES:
        times = [alone(forward, kind, patches)[0] for kind in ("exact", "nystrom")]
        first = first or times
        told = [f"{t:9.2f}{t / f:7.1f}x" for t, f in zip(times, first, strict=True)]
        print(f"{patches:8}{''.join(told)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patches", type=int, default=PATCHES, help="of the slide")
    args = parser.parse_args()
    print(f"{torch.get_num_threads()} threads")
    print_memory(args.patches)
    print_row()
    print_growth()


if __name__ == "__main__":
    main()
