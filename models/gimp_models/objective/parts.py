"""What every objective returns: a loss and the parts it is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

__all__ = ["LossParts"]


@dataclass(frozen=True, slots=True)
class LossParts:
    """A loss and what it is made of.

    Parameters
    ----------
    total
        Scalar to minimise, with its graph.
    parts
        Named scalars without graph, for the log; some are yardsticks that are not
        part of the total.
    """

    total: Tensor
    parts: Mapping[str, Tensor]
