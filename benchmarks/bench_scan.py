"""Selective scan, forward and backward: time and memory of each form in one run.

The yardstick is `form="loop"`: the recurrence token by token, differentiated by
autograd. It unbinds its inputs once; a loop that slices `x[:, t]`, as public slow
paths do, is quadratic in T on the way back and tens of times slower. The peer is
mambapy's parallel scan, where it is installed.

Aims at (B,T,E,N) = (4,321,512,16), float32: `auto` at least twice as fast as the loop
(better four times), no slower than mambapy, and at most three times the memory of all
states, B T E N values. Rounds are taken in turn, so that load hits all alike, and the
least time counts; memory is what a fresh process grows by. A second table says from
how many tokens on `auto` leaves the loop.

    python benchmarks/bench_scan.py [--rounds 7] [--threads 2]
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch
import torch.nn.functional as F
from gimp_models.scan import choose_form, selective_scan
from torch import Tensor

SIZES = (4, 321, 512, 16)
LENGTHS = (1, 2, 4, 8, 16, 64, 321, 1024)
MB = 1 << 20
Scan = Callable[..., Tensor]


def main() -> None:
    args = _arguments()
    torch.set_num_threads(args.threads)
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    for device in devices:
        compare(device, args)
    lengths(args)


def compare(device: str, args: argparse.Namespace) -> None:
    """Print one row per form."""
    names = scans(device)
    held = signals(*SIZES, device=device)
    spent = least(names, held, args.rounds)
    peak = {name: memory_mb(name, device, args.threads) for name in names}
    batch, length, channels, states = SIZES
    all_states = batch * length * channels * states * 4 / MB
    print(f"{device}, (B,T,E,N) = {SIZES}, all states {all_states:.0f} MB")
    print(f"{'scan':22} {'ms':>8} {'faster':>7} {'MB':>7} {'of states':>9}")
    for name in names:
        faster = spent["loop"] / spent[name]
        print(
            f"{name:22} {1e3 * spent[name]:8.1f} {faster:6.2f}x {peak[name]:7.1f} "
            f"{peak[name] / all_states:8.2f}x"
        )
    chosen = choose_form(SIZES[1], torch.device(device), torch.float32)
    print(f"auto takes {chosen!r}; limits: 2x faster than loop, 3x of states\n")


def lengths(args: argparse.Namespace) -> None:
    """Print how much faster `chunked` is than the loop, by number of tokens."""
    print(f"{'T':>5} {'loop ms':>8} {'chunked ms':>10} {'faster':>7}  auto")
    for length in LENGTHS:
        held = signals(4, length, 256, 16, device="cpu")
        spent = least(("loop", "chunked"), held, args.rounds)
        chosen = choose_form(length, torch.device("cpu"), torch.float32)
        loop, chunked = (1e3 * spent[name] for name in ("loop", "chunked"))
        print(
            f"{length:5d} {loop:8.2f} {chunked:10.2f} {loop / chunked:6.2f}x  {chosen}"
        )


def scans(device: str) -> tuple[str, ...]:
    """Names of what there is to compare."""
    forms = ["loop", "doubling", "chunked"]
    if choose_form(SIZES[1], torch.device(device), torch.float32) == "mamba_ssm":
        forms.append("mamba_ssm")
    try:
        import mambapy.pscan  # noqa: F401 - is it there?
    except ImportError:
        return tuple(forms)
    return *forms, "mambapy pscan"


def scan_of(name: str) -> Scan:
    if name == "mambapy pscan":
        return by_mambapy
    return lambda *held: selective_scan(*held, form=name)


def by_mambapy(u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Scan as mambapy's own block does."""
    from mambapy.pscan import pscan

    decay = torch.exp(delta[..., None] * a)
    states = pscan(decay, (delta * u)[..., None] * b[:, :, None])
    return (states @ c[..., None]).squeeze(-1)


def signals(
    batch: int, length: int, channels: int, states: int, *, device: str
) -> list[Tensor]:
    """Return u, Delta, A, B, C as a fresh block makes them."""
    rng = torch.Generator().manual_seed(0)
    u, step = (torch.randn(batch, length, channels, generator=rng) for _ in range(2))
    b, c = (torch.randn(batch, length, states, generator=rng) for _ in range(2))
    a = -torch.arange(1.0, states + 1).repeat(channels, 1)
    held = u, F.softplus(step - 3), a, b, c
    return [x.to(device).requires_grad_() for x in held]


def step(scan: Scan, held: list[Tensor]) -> None:
    torch.autograd.grad(scan(*held).sum(), held)
    if held[0].is_cuda:
        torch.cuda.synchronize()


def least(names: tuple[str, ...], held: list[Tensor], rounds: int) -> dict[str, float]:
    """Return the least time of forward and backward, s; the first round warms up."""
    spent = dict.fromkeys(names, float("inf"))
    for turn in range(rounds + 1):
        for name in names:
            begin = time.perf_counter()
            step(scan_of(name), held)
            if turn:
                spent[name] = min(spent[name], time.perf_counter() - begin)
    return spent


def memory_mb(name: str, device: str, threads: int) -> float:
    """Return by how much one forward and backward pass lets a fresh process grow."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as process:
        return process.submit(_growth_mb, name, device, threads).result()


def _growth_mb(name: str, device: str, threads: int) -> float:
    torch.set_num_threads(threads)
    step(scan_of(name), signals(1, 8, 16, 16, device=device))  # what is set up once
    held = signals(*SIZES, device=device)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step(scan_of(name), held)
        return (torch.cuda.max_memory_allocated() - before) / MB
    before_kb = _status_kb("VmRSS")
    step(scan_of(name), held)
    return (_status_kb("VmHWM") - before_kb) / 1024


def _status_kb(field: str) -> int:
    """Return a count of the kernel's about this process; Linux only."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(field)))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Time the forms of the selective scan")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    main()
