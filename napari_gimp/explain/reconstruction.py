"""Masked reconstruction: which patches are unexpected given their surroundings.

The model's own task: every patch is hidden once, in disjoint blocks, and its feature
predicted from what stays visible.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_gimp.explain.maps import Floats

if TYPE_CHECKING:
    from gimp_models.bag import Bag
    from gimp_models.gimp import Gimp


@dataclass(frozen=True, slots=True, eq=False)
class Hidden:
    """What was predicted so far; NaN and -1 for patches that come later.

    Parameters
    ----------
    predicted
        (N, P) on the scale of the model's target.
    error
        (N,) 1 − cosine similarity with the true feature.
    block
        (N,) number of the step in which each patch was hidden.
    done, total
        Steps.
    """

    predicted: Floats
    error: Floats
    block: NDArray[np.int64]
    done: int
    total: int


def reconstruct(model: Gimp, bag: Bag) -> Iterator[Hidden]:
    """Hide every patch once, in disjoint blocks, and predict it; yield every block.

    Parameters
    ----------
    model
        In evaluation mode.
    bag
        (N, P) features on the model's device.
    """
    import torch.nn.functional as F
    from gimp_models import evidence

    target = evidence.reconstruction_target(model, bag.features)
    predicted = np.full(target.shape, np.nan, dtype=np.float32)
    error = np.full(len(target), np.nan, dtype=np.float32)
    step = np.full(len(target), -1, dtype=np.int64)
    blocks = evidence.plan_blocks(bag.coords_um, model.config)
    for number, block in enumerate(blocks):
        guess = evidence.reconstruct_block(model, bag, block)
        off = 1 - F.cosine_similarity(guess, target[block.hidden], dim=-1)
        rows = block.hidden.cpu().numpy()
        predicted[rows], error[rows] = guess.cpu().numpy(), off.cpu().numpy()
        step[rows] = number
        yield Hidden(
            predicted.copy(), error.copy(), step.copy(), number + 1, len(blocks)
        )
