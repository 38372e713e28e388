"""Predictions for whole bags, several at a time where they fit into memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from gimp_models.bag import Bag, Batch, collate
from torch import Tensor

Logits = Callable[[Batch], Tensor]
EVALUATION_PATCHES = 32_768  # per batch, padding included: bounds the memory


def evaluation_batches(bags: Sequence[Bag]) -> Iterator[list[int]]:
    """Yield positions of bags that fit into memory together, alike in length."""
    order = sorted(range(len(bags)), key=lambda i: len(bags[i].features))
    chunk: list[int] = []
    for i in order:
        if chunk and (len(chunk) + 1) * len(bags[i].features) > EVALUATION_PATCHES:
            yield chunk
            chunk = []
        chunk.append(i)
    if chunk:
        yield chunk


def collated(bags: Sequence[Bag]) -> Iterator[Batch]:
    """Yield all bags in batches that fit into memory."""
    for chunk in evaluation_batches(bags):
        yield collate([bags[i] for i in chunk])


def predict(model: Logits, bags: Sequence[Bag], device: torch.device) -> Tensor:
    """Return logits (n, C) of whole bags, in their order.

    Parameters
    ----------
    model
        Batch to logits (B, C); put it into evaluation mode before.
    bags
        n bags.
    device
        Where the model is.
    """
    rows: dict[int, Tensor] = {}
    with torch.inference_mode():
        for chunk in evaluation_batches(bags):
            logits = model(collate([bags[i] for i in chunk]).to(device))
            rows.update(zip(chunk, logits.float().cpu(), strict=True))
    return torch.stack([rows[i] for i in range(len(bags))])
