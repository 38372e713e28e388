"""A cohort as bags, split by patient; everything fitted sees training patients only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from gimp_models.bag import Bag

from napari_gimp.errors import CohortError
from napari_gimp.genes.panel import Panel, align
from napari_gimp.genes.scale import to_log2
from napari_gimp.training.cohort import Cohort, Patient, check_slides
from napari_gimp.training.features import (
    PatientFeatures,
    SlidePart,
    extract_cohort,
    read_thumbnails,
)
from napari_gimp.training.splits import Split

if TYPE_CHECKING:
    from napari_gimp.patches.encoders import Encoder
    from napari_gimp.patches.plan import PatchPlan

THUMBNAILS_PER_SLIDE = 24
THUMBNAILS = 2048

Report = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True)
class CohortBags:
    """Bags by part.

    Parameters
    ----------
    cohort, split
        Who is who.
    panel
        The model's genes, fitted on the training part or brought by a checkpoint.
    train, validation, test
        One bag per patient, in the split's order.
    slides
        Each patient's slides, and which patches are whose.
    """

    cohort: Cohort
    split: Split
    panel: Panel
    train: tuple[Bag, ...]
    validation: tuple[Bag, ...]
    test: tuple[Bag, ...]
    slides: Mapping[str, tuple[SlidePart, ...]]

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names."""
        return self.cohort.classes


def fit_panel(cohort: Cohort, train: Sequence[str], *, top_genes: int = 0) -> Panel:
    """Fit the gene panel on training patients: log2 scale, constant genes dropped.

    Parameters
    ----------
    cohort
        The cohort.
    train
        Identifiers of the training patients; nobody else's expression is looked at.
    top_genes
        Keep the genes of largest variance; 0 keeps all that vary.

    Raises
    ------
    CohortError
        If fewer than two training patients have expression.
    GeneError
        If no gene varies.
    """
    table = cohort.table
    samples = [p.sample for p in cohort.pick(train) if p.sample]
    if len(samples) < 2:
        raise CohortError(
            f"{len(samples)} of {len(train)} training patients have expression; a gene "
            "panel needs at least two. Fill in the column `sample`."
        )
    values = np.stack([table.profile(sample).values for sample in samples])
    if table.scale == "zscore":
        return Panel.fit(values, table.genes, top=top_genes or None, scale="zscore")
    log2 = to_log2(values, table.scale)
    return Panel.fit(log2, table.genes, top=top_genes or None)


def make_bags(
    cohort: Cohort,
    split: Split,
    panel: Panel,
    features: dict[str, PatientFeatures],
) -> CohortBags:
    """Put features and aligned expression together.

    Parameters
    ----------
    cohort, split, panel
        As in `CohortBags`.
    features
        By patient.
    """
    parts = [
        tuple(_bag(cohort, p, panel, features[p.patient]) for p in cohort.pick(ids))
        for ids in (split.train, split.validation, split.test)
    ]
    slides = {patient: found.slides for patient, found in features.items()}
    train, validation, test = parts
    return CohortBags(cohort, split, panel, train, validation, test, slides)


def read_features(
    cohort: Cohort,
    encoder: Encoder,
    plan: PatchPlan,
    *,
    store: Path,
    device: str,
    workers: int,
    srgb: bool,
    report: Report,
) -> dict[str, PatientFeatures]:
    """Return every patient's features, from the store or made now.

    Every slide is opened before the first is encoded. `report(done, total, text)` is
    called after each patient; the text says what could not be read of its slides.
    """
    from napari_gimp.patches.store import FeatureStore

    check_slides(cohort, plan, srgb=srgb)
    found: dict[str, PatientFeatures] = {}
    for patient, features in extract_cohort(
        cohort.patients,
        encoder,
        plan,
        store=FeatureStore(store),
        device=device,
        workers=workers,
        srgb=srgb,
    ):
        found[patient.patient] = features
        damage = " ".join(part.damage for part in features.slides if part.damage)
        report(len(found), len(cohort), damage)
    return found


def draw_thumbnails(
    bags: CohortBags, patch_um: float, generator: torch.Generator, *, srgb: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw training patches with their pictures, for the pixel decoder.

    Returns
    -------
    tuple
        Features (n, P) and thumbnails (n, 32, 32, 3) float32 in [0, 1].
    """
    per_slide = max(1, min(THUMBNAILS_PER_SLIDE, THUMBNAILS // len(bags.train)))
    features, pictures = [], []
    for bag, patient in zip(
        bags.train, bags.cohort.pick(bags.split.train), strict=True
    ):
        drawn = torch.randperm(len(bag.features), generator=generator)[:per_slide]
        parts = bags.slides[patient.patient]
        for entry, part in zip(patient.slides, parts, strict=True):
            rows = drawn[(drawn >= part.rows.start) & (drawn < part.rows.stop)]
            if not len(rows):
                continue
            right = np.array([0, part.right_um], np.float32)
            coords = bag.coords_um[rows].numpy() - right
            thumbnails = read_thumbnails(entry, coords, patch_um, srgb=srgb)
            features.append(bag.features[rows])
            pictures.append(torch.from_numpy(thumbnails).float() / 255)
    return torch.cat(features), torch.cat(pictures)


def plans_of(bags: CohortBags) -> dict[str, object]:
    """Return where patches were asked for: the record of all slides, or of each."""
    parts = [part for slides in bags.slides.values() for part in slides]
    if all(part.plan == parts[0].plan for part in parts):
        return dict(parts[0].plan)
    return {"by_slide": {p.fingerprint: dict(p.plan) for p in parts if p.plan}}


def _bag(cohort: Cohort, patient: Patient, panel: Panel, found: PatientFeatures) -> Bag:
    genes = None
    if patient.sample:
        genes = torch.from_numpy(align(cohort.table.profile(patient.sample), panel).z)
    return Bag(
        torch.from_numpy(found.features),
        torch.from_numpy(found.coords_um),
        genes,
        cohort.label_index(patient),
        patient.patient,
    )
