"""Device, learning rate and randomness of a training."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from napari_gimp.errors import RunError
from napari_gimp.training.plan import Plan


def make_fabric(plan: Plan) -> Any:
    """Return a Fabric on one device; bfloat16 autocast on a GPU."""
    from lightning_fabric import Fabric

    device = choose_device(plan.device)
    return Fabric(
        accelerator=device,
        devices=1,
        precision="bf16-mixed" if device == "cuda" else "32-true",
    )


def choose_device(asked: str) -> str:
    """Return "cuda" or "cpu"; auto takes the GPU if there is one.

    Raises
    ------
    RunError
        If a GPU is asked for and there is none.
    """
    there = torch.cuda.is_available()
    if asked == "cuda" and not there:
        raise RunError(
            "device is 'cuda', but PyTorch sees no GPU here. "
            "Set device to 'cpu' or 'auto', or install a CUDA build of PyTorch."
        )
    return "cuda" if asked != "cpu" and there else "cpu"


def rate_factor(step: int, total: int, warmup: int) -> float:
    """Return the learning rate's factor: linear warm-up, then half a cosine."""
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, total - warmup)
    return 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


@contextmanager
def epoch_randomness(seed: int, epoch: int) -> Iterator[torch.Generator]:
    """Make the randomness of an epoch a function of (seed, epoch).

    Yields a generator for sampling and masking; dropout draws from torch's own,
    which is seeded inside and given back as it was.
    """
    mixed = int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])
    with torch.random.fork_rng():
        torch.manual_seed(mixed)
        yield torch.Generator().manual_seed(mixed)
