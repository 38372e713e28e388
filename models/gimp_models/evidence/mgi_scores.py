"""How good MGI's masks are, patient by patient (spec F).

Regions of a patient are counted together before Dice and IoU are taken, so that a
patient with many regions weighs as much as one with a single region.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from gimp_models.errors import BatchError
from gimp_models.evidence.evaluating import evaluating
from gimp_models.mgi import Mgi
from gimp_models.overlap import class_overlap, hd95_um, predicted_classes
from gimp_models.region import Region, collate_regions

__all__ = ["PatientScore", "patient_scores"]


@dataclass(frozen=True, slots=True)
class PatientScore:
    """Agreement of found and true mask of one tissue, over a patient's regions.

    Parameters
    ----------
    patient
        Name; "region i" for the i-th region where it has none.
    tissue
        Class of the mask, from 1.
    dice, iou
        Both empty 1, one empty 0.
    hd95_um
        95th percentile of the outlines' distance, mean over the regions; infinite
        if one of the masks is empty in some region.
    """

    patient: str
    tissue: int
    dice: float
    iou: float
    hd95_um: float


def patient_scores(
    model: Mgi, regions: Sequence[Region], *, at_once: int = 16
) -> list[PatientScore]:
    """Score the masks of every patient and tissue.

    Summarise a column with `gimp_models.overlap.spread`: mean, median and standard
    deviation over patients.

    Parameters
    ----------
    model
        A fine-tuned model; its `mpp` turns pixels into um.
    regions
        Of any number of patients. Unknown pixels, and regions without a known one,
        take no part.
    at_once
        Regions in one pass.

    Returns
    -------
    list of PatientScore
        Patients in order of appearance, tissues in order within each.

    Raises
    ------
    BatchError
        If no region has a known pixel.
    """
    seen = [(r.patient or f"region {i}", r) for i, r in enumerate(regions)]
    seen = [(name, r) for name, r in seen if r.mask is not None and (r.mask >= 0).any()]
    if not seen:
        raise BatchError(
            f"None of the {len(regions)} regions has a known pixel: scores need "
            "annotated regions."
        )
    by_patient: dict[str, list[_Compared]] = {}
    found = _segment(model, [region for _, region in seen], at_once)
    for (name, region), classes in zip(seen, found, strict=True):
        assert region.mask is not None
        compared = _Compared(classes, region.mask.to(classes.device))
        by_patient.setdefault(name, []).append(compared)
    tissues = range(1, max(model.config.classes, 2))
    return [
        _score(name, tissue, compared, model.config.mpp)
        for name, compared in by_patient.items()
        for tissue in tissues
    ]


@dataclass(frozen=True, slots=True, eq=False)
class _Compared:
    """Found and true classes (H,W) of one region."""

    found: Tensor
    truth: Tensor

    def outlines_apart_um(self, tissue: int, mpp: float) -> float:
        ours = (self.found == tissue) & (self.truth >= 0)
        return hd95_um(ours, self.truth == tissue, mpp=mpp)


def _segment(model: Mgi, regions: Sequence[Region], at_once: int) -> Iterator[Tensor]:
    """Yield the predicted classes (H,W) of each region."""
    device = model.log_scale.device
    for start in range(0, len(regions), at_once):
        some = regions[start : start + at_once]
        with evaluating(model):
            logits = model(collate_regions(some).to(device)).logits
        for region, classes in zip(some, predicted_classes(logits), strict=True):
            yield classes[: region.image.shape[1], : region.image.shape[2]]


def _score(
    name: str, tissue: int, compared: Sequence[_Compared], mpp: float
) -> PatientScore:
    counts = [class_overlap(c.found, c.truth, tissue) for c in compared]
    total = sum(counts[1:], start=counts[0])
    apart = [c.outlines_apart_um(tissue, mpp) for c in compared]
    return PatientScore(name, tissue, total.dice, total.iou, sum(apart) / len(apart))
