"""Images against gene profiles: the contrastive loss and how well they are matched.

Spec mgi C. Letters: B regions, E embedding, M patients.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import comb

import torch
import torch.nn.functional as F
from torch import Tensor

from gimp_models.precision import at_least_float32

__all__ = [
    "Ranking",
    "Retrieval",
    "contrastive_loss",
    "contrastive_targets",
    "rank_profiles",
    "rank_regions",
    "retrieval",
    "retrieval_of",
    "similarities",
]


@dataclass(frozen=True, slots=True)
class Ranking:
    """How early the own partner comes when all candidates are sorted by similarity.

    Parameters
    ----------
    recall_1, recall_5
        Share of queries whose own partner is the first, or among the first five.
    median_rank
        Median rank of the own partner; 1 is best. Equally similar candidates share
        the mean of their ranks, so that a constant embedding is worth chance.
    chance_1, chance_5, chance_rank
        What a random order gives on average: both recalls, and the mean rank.
    queries
        Number of queries.
    """

    recall_1: float
    recall_5: float
    median_rank: float
    chance_1: float
    chance_5: float
    chance_rank: float
    queries: int


@dataclass(frozen=True, slots=True)
class Retrieval:
    """Both ways: the profile of a region's patient, and a region of a profile's."""

    profiles: Ranking
    regions: Ranking


def contrastive_loss(u: Tensor, g: Tensor, patients: Tensor, scale: Tensor) -> Tensor:
    """L = (CE(S, t) + CE(S^T, t)) / 2 with S = exp(theta) u g^T (spec C).

    Parameters
    ----------
    u, g
        (B,E) unit vectors of the regions and of their patients' profiles.
    patients
        (B,) int64, equal for regions of one patient: all of them are right answers.
        For distinct patients this is plain InfoNCE. With m regions of each patient
        the least value is log m, not 0.
    scale
        exp(theta), scalar.

    Returns
    -------
    Tensor
        Scalar, in float32 at least: a scale of 100 is beyond the steps of bf16.
    """
    cosines = similarities(u, g)
    logits, targets = scale * cosines, contrastive_targets(patients).to(cosines.dtype)
    with torch.autocast(u.device.type, enabled=False):
        to_profiles = F.cross_entropy(logits, targets)
        to_regions = F.cross_entropy(logits.T, targets)
    return (to_profiles + to_regions) / 2


def contrastive_targets(patients: Tensor) -> Tensor:
    """Targets t_ij = 1[same patient] / row sum, (B,B), of patients (B,)."""
    same = (patients[:, None] == patients).float()
    return same / same.sum(1, keepdim=True)


def similarities(u: Tensor, g: Tensor) -> Tensor:
    """Cosines (B,M) of unit vectors (B,E) and (M,E), in float32 at least."""
    with torch.autocast(u.device.type, enabled=False):
        return at_least_float32(u) @ at_least_float32(g).T


def retrieval(u: Tensor, g: Tensor, patients: Tensor) -> Retrieval:
    """Measure how well regions and profiles find each other.

    Parameters
    ----------
    u, g
        (B,E) unit vectors of the regions and of their patients' profiles.
    patients
        (B,) int64. Regions of one patient share one profile, so there are M profiles
        to be found, and a profile may find any region of its patient.

    Returns
    -------
    Retrieval
        Recall@1, Recall@5 and median rank both ways, with chance beside them.
    """
    first = _first_rows(patients)
    own = patients[:, None] == patients[first]
    return retrieval_of(similarities(u, g[first]), own)


def retrieval_of(matrix: Tensor, own: Tensor) -> Retrieval:
    """Measure retrieval from a table of similarities; as in `rank_profiles`.

    Each profile needs a region of its patient, too.
    """
    return Retrieval(
        profiles=_summary(rank_profiles(matrix, own), own),
        regions=_summary(rank_regions(matrix, own), own.T),
    )


def rank_profiles(matrix: Tensor, own: Tensor) -> Tensor:
    """Rank of the own profile among all, for each region.

    Parameters
    ----------
    matrix
        (B,M) similarity of regions (rows) and profiles (columns).
    own
        (B,M) bool, True where region and profile are of one patient; at least one
        in each row.

    Returns
    -------
    Tensor
        (B,) 1 + strangers that are more similar + half of those equally similar.
    """
    best = matrix.masked_fill(~own, -torch.inf).amax(1, keepdim=True)
    better, equal = (matrix > best) & ~own, (matrix == best) & ~own
    return 1 + better.sum(1) + equal.sum(1) / 2


def rank_regions(matrix: Tensor, own: Tensor) -> Tensor:
    """Rank (M,) of a profile's best own region among all; arguments as above."""
    return rank_profiles(matrix.T, own.T)


def _first_rows(patients: Tensor) -> Tensor:
    """Index of each patient's first row, in order of appearance."""
    first = (patients[:, None] == patients).int().argmax(1)
    here = torch.arange(len(patients), device=patients.device)
    return here[first == here]


def _summary(ranks: Tensor, own: Tensor) -> Ranking:
    candidates = own.shape[1]
    right = own.sum(1).tolist()  # once, not a wait for the GPU per query
    chance = [_chance(candidates, count) for count in right]
    return Ranking(
        recall_1=float((ranks <= 1).float().mean()),
        recall_5=float((ranks <= 5).float().mean()),
        median_rank=float(ranks.double().quantile(0.5)),
        chance_1=sum(c[0] for c in chance) / len(chance),
        chance_5=sum(c[1] for c in chance) / len(chance),
        chance_rank=sum(c[2] for c in chance) / len(chance),
        queries=len(ranks),
    )


def _chance(candidates: int, right: int) -> tuple[float, float, float]:
    """Recall@1, Recall@5 and mean rank of the best of some right among candidates."""
    wrong = candidates - right
    missed = [comb(wrong, k) / comb(candidates, k) for k in (1, min(5, candidates))]
    return 1 - missed[0], 1 - missed[1], (candidates + 1) / (right + 1)
