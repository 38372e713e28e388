"""Which patients make a step: P classes times K patients of each.

The triplet loss needs a positive and a negative for every anchor, so each batch
holds K >= 2 patients of every class.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from napari_gimp.errors import RunError


def patients_per_class(batch: int, classes: int) -> int:
    """Return K.

    Raises
    ------
    RunError
        If the batch has no room for two patients of each class.
    """
    if batch < 2 * classes:
        raise RunError(
            f"batch is {batch}; {classes} classes need at least {2 * classes}, two "
            "patients of each. Raise `batch`."
        )
    return batch // classes


def steps_per_epoch(labels: Sequence[int], batch: int) -> int:
    """Return how many batches it takes to show every patient at least once."""
    counts = torch.bincount(torch.tensor(labels))
    return -(-int(counts.max()) // patients_per_class(batch, len(counts)))


def balanced_batches(
    labels: Sequence[int], batch: int, generator: torch.Generator
) -> Iterator[list[int]]:
    """Yield one epoch of batches, as positions in `labels`.

    A class is dealt from shuffled decks, one after another: nobody comes again
    before everybody of the class was there.

    Parameters
    ----------
    labels
        Class index per patient; every class from 0 on has a patient.
    batch
        Patients per batch, at most; K x classes are taken.
    generator
        Source of the shuffles.
    """
    steps = steps_per_epoch(labels, batch)
    positions = torch.tensor(labels)
    classes = range(int(positions.max()) + 1)
    count = patients_per_class(batch, len(classes))
    decks = [
        _deal((positions == c).nonzero()[:, 0], steps * count, generator)
        for c in classes
    ]
    for step in range(steps):
        hand = slice(step * count, (step + 1) * count)
        yield [int(i) for deck in decks for i in deck[hand]]


def _deal(
    members: torch.Tensor, cards: int, generator: torch.Generator
) -> torch.Tensor:
    decks = -(-cards // len(members))
    shuffled = [torch.randperm(len(members), generator=generator) for _ in range(decks)]
    return members[torch.cat(shuffled)[:cards]]
