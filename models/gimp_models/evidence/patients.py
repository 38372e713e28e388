"""The cohort as GiMP sees it: patients in a plane, with their nearest neighbours.

The plane is spanned by the two leading principal axes of the unit vectors v, so
distances in it never exceed the true ones; neighbours are found in all dimensions.
Spec gimp, "What the viewer shows": patient map.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gimp_models.errors import BatchError

__all__ = ["Neighbours", "PatientMap", "patient_map"]


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The nearest patients of a kind, nearest first.

    Parameters
    ----------
    patients
        (S,k) int64 rows of the embedding, -1 where there are fewer than k.
    distance
        (S,k) Euclidean distances between unit vectors, 0 to 2; inf where there are
        fewer than k.
    """

    patients: Tensor
    distance: Tensor


@dataclass(frozen=True, slots=True)
class PatientMap:
    """Patients in the plane of the two leading principal axes.

    Parameters
    ----------
    places
        (S,2) coordinates, in units of v, centred on the cohort's mean.
    explained
        (2,) share of the variance of v along each axis.
    same, other
        Nearest patients of the same class, and of any other class.
    """

    places: Tensor
    explained: Tensor
    same: Neighbours
    other: Neighbours


def patient_map(
    embedding: Tensor, labels: Tensor, *, neighbours: int = 3
) -> PatientMap:
    """Lay out a cohort and find each patient's neighbours.

    Parameters
    ----------
    embedding
        (S,E) unit vectors v of S patients (`GimpOutput.embedding`).
    labels
        (S,) int64 classes, -1 where unknown: such patients have a place, but no
        neighbours, and are nobody's. For a patient under examination give the
        predicted class.
    neighbours
        k.

    Returns
    -------
    PatientMap

    Raises
    ------
    BatchError
        If there is no patient, or not one label for each.
    """
    if not len(embedding) or labels.shape != embedding.shape[:1]:
        raise BatchError(
            f"A map of patients needs vectors (S,E) and labels (S,), S >= 1, got "
            f"{tuple(embedding.shape)} and {tuple(labels.shape)}."
        )
    places, explained = _plane(embedding)
    distance = torch.cdist(
        embedding, embedding, compute_mode="donot_use_mm_for_euclid_dist"
    )
    known = (labels >= 0)[:, None] & (labels >= 0)
    same = (labels[:, None] == labels) & known
    own = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    return PatientMap(
        places,
        explained,
        same=_nearest(distance, same & ~own, neighbours),
        other=_nearest(distance, ~same & known, neighbours),
    )


def _plane(embedding: Tensor) -> tuple[Tensor, Tensor]:
    """Places (S,2) on the leading axes, and the share of variance of each (2,)."""
    centred = embedding - embedding.mean(0)
    _, sizes, axes = torch.linalg.svd(centred, full_matrices=False)
    # An axis has no sign of its own: its largest entry points up, on every machine.
    largest = axes.gather(1, axes.abs().argmax(1, keepdim=True))
    axes, variance = axes * largest.sign(), sizes.square()
    tiny = torch.finfo(variance.dtype).tiny
    places, explained = centred @ axes.T, variance / variance.sum().clamp_min(tiny)
    missing = max(0, 2 - len(axes))  # one patient, or one dimension
    pad = torch.nn.functional.pad
    return pad(places, (0, missing))[:, :2], pad(explained, (0, missing))[:2]


def _nearest(distance: Tensor, allowed: Tensor, count: int) -> Neighbours:
    """Of the allowed pairs (S,S), the nearest of each row."""
    masked = distance.masked_fill(~allowed, torch.inf)
    found, patients = masked.sort(dim=1, stable=True)
    missing = max(0, count - len(distance))
    pad = torch.nn.functional.pad
    found = pad(found[:, :count], (0, missing), value=torch.inf)
    patients = pad(patients[:, :count], (0, missing), value=-1)
    return Neighbours(patients.masked_fill(found.isinf(), -1), found)
