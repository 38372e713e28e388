"""Where half precision is not enough."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["at_least_float32"]


def at_least_float32(tensor: Tensor) -> Tensor:
    """Widen a half-precision tensor to float32; float32 and float64 stay.

    For what must not be rounded to the 8 bits of bfloat16 under autocast: losses,
    distances between unit vectors, softmax rows that are shown, positions.
    """
    half = tensor.dtype in (torch.float16, torch.bfloat16)
    return tensor.float() if half else tensor
