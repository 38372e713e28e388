"""Evaluation mode for as long as a map is computed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

__all__ = ["evaluating"]


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluate without gradients; afterwards the model is in the mode it was in.

    Nor in half precision, whatever the caller has switched on: parts rounded to 8 bits
    would no longer add up to the whole.
    """
    training, device = model.training, next(model.parameters()).device.type
    model.eval()
    try:
        with torch.no_grad(), torch.autocast(device, enabled=False):
            yield
    finally:
        model.train(training)
