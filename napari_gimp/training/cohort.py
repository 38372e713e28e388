"""A cohort: who is in it, what is known of each patient, and checks beforehand.

The manifest is that of `cohorts.manifest`; a `label` is required. The slides of a
patient, in several rows or by a pattern, are one patient: their patches make one bag,
and they are never on two sides of a split.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from napari_gimp.cohorts.manifest import Entry, check_manifest, problem, refuse
from napari_gimp.errors import CohortError
from napari_gimp.training.splits import Split, patients_needed, split_patients

if TYPE_CHECKING:
    from napari_gimp.genes.panel import Panel
    from napari_gimp.genes.table import GeneTable
    from napari_gimp.patches.plan import PatchPlan


@dataclass(frozen=True, slots=True)
class Patient:
    """One patient of a cohort.

    Parameters
    ----------
    patient
        Identifier, unique in the cohort.
    slides
        At least one, in the manifest's order.
    sample
        Row of the gene table; None for slide only.
    label
        Class name.
    site
        Where the slides were made, as the first of them says; empty if unknown.
    days, event
        Time to the last news, days, and whether it was the event; None if unknown.
    """

    patient: str
    slides: tuple[Entry, ...]
    sample: str | None
    label: str
    site: str = ""
    days: float | None = None
    event: bool | None = None


@dataclass(frozen=True, slots=True)
class Cohort:
    """A checked cohort.

    Parameters
    ----------
    manifest
        The file it was read from.
    patients
        In the manifest's order.
    classes
        Class names, sorted; their positions are the class indices.
    table
        Expression of the cohort.
    """

    manifest: Path
    patients: tuple[Patient, ...]
    classes: tuple[str, ...]
    table: GeneTable

    def __len__(self) -> int:
        return len(self.patients)

    def pick(self, ids: Iterable[str]) -> tuple[Patient, ...]:
        """Return patients by identifier, in the order asked."""
        known = {p.patient: p for p in self.patients}
        return tuple(known[i] for i in ids)

    def label_index(self, patient: Patient) -> int:
        """Return the class index of a patient."""
        return self.classes.index(patient.label)

    def counts(self) -> dict[str, int]:
        """Return the number of patients per class."""
        found = Counter(p.label for p in self.patients)
        return {name: found[name] for name in self.classes}

    def slides(self) -> Iterator[Entry]:
        """Yield the slides of all patients."""
        for patient in self.patients:
            yield from patient.slides

    def gene_notes(self) -> tuple[str, ...]:
        """Return what was made of the gene table, as sentences."""
        table = self.table
        seen = f", judged from {table.judged_from}" if table.judged_from else ""
        size = f"{len(table.samples):,} samples x {len(table.genes):,} genes"
        return (f"Gene table: {size}, {table.scale}{seen}.", *table.notes)

    def split(self, *, folds: int, fold: int, seed: int) -> Split:
        """Split by patient and class.

        Raises
        ------
        CohortError
            If there is one class only, or a class has too few patients.
        """
        check_classes(self.counts(), folds)
        ids = [p.patient for p in self.patients]
        labels = [p.label for p in self.patients]
        return split_patients(ids, labels, folds=folds, fold=fold, seed=seed)


def read_cohort(manifest: Path | str, genes: Path | str) -> Cohort:
    """Read a manifest and its gene table and check them against each other.

    Raises
    ------
    CohortError
        Listing everything that is wrong: columns, empty cells, slides that do not
        exist or are of two patients, patients of whom two rows say two things,
        samples the gene table lacks.
    GeneError
        If the gene table cannot be read.
    """
    from napari_gimp.genes.table import read_table

    manifest = Path(manifest).resolve()
    entries, problems = check_manifest(manifest)
    table = read_table(Path(genes))
    problems += [*_problems(entries), *_unknown_samples(entries, table.samples)]
    refuse(manifest, problems, "Mend the manifest or the gene table.")
    patients = tuple(map(_patient, _by_patient(entries)))
    classes = tuple(sorted({p.label for p in patients}))
    return Cohort(manifest, patients, classes, table)


def check_slides(cohort: Cohort, plan: PatchPlan, *, srgb: bool) -> None:
    """Open every slide, and refuse what would end a training hours later.

    Raises
    ------
    CohortError
        Listing slides that cannot be used, with the reason; or naming one slide,
        under whatever name, that is of two patients.
    """
    from napari_gimp.cohorts.extraction import Recipe
    from napari_gimp.cohorts.inspection import check_leaks, inspect_slides

    recipe = Recipe("", "", Path(), srgb=srgb, plan=plan)
    found = list(inspect_slides(list(cohort.slides()), recipe))
    bad = [f"row {one.entry.row} {one.error}" for one in found if one.error]
    problems = [problem("slides that cannot be used", bad)] if bad else []
    mend = "Mend them, or take them out; a slide's um/px goes into the column mpp."
    refuse(cohort.manifest, problems, mend)
    check_leaks(found)


def check_panel(cohort: Cohort, panel: Panel) -> None:
    """Refuse a gene table that lacks much of the panel a checkpoint brings.

    Raises
    ------
    GeneError
        If less of the panel is there than `genes.panel.LEAST_MATCHED`.
    """
    from napari_gimp.genes.panel import align

    samples = [patient.sample for patient in cohort.patients if patient.sample]
    if samples:
        question = align(cohort.table.profile(samples[0]), panel).question
        if question:
            raise question.refusal("begin without `start`")


def check_classes(counts: dict[str, int], folds: int) -> None:
    """Raise a CohortError naming the classes that are too small for the folds."""
    if len(counts) < 2:
        raise CohortError(
            f"The cohort has one class, {', '.join(counts)}. "
            "A classifier needs at least two; add patients of another class."
        )
    need = patients_needed(folds)
    small = [f"{name} ({n})" for name, n in counts.items() if n < need]
    if small:
        raise CohortError(
            f"Classes with too few patients for {folds} folds: {', '.join(small)}. "
            f"Each needs at least {need}; add patients or lower `folds`."
        )


def _by_patient(entries: Iterable[Entry]) -> Iterable[tuple[Entry, ...]]:
    found: dict[str, tuple[Entry, ...]] = {}
    for entry in entries:
        found[entry.patient] = (*found.get(entry.patient, ()), entry)
    return found.values()


def _patient(slides: tuple[Entry, ...]) -> Patient:
    """Return a patient; rows agree on everything but the slide (and site)."""
    first = slides[0]
    return Patient(
        first.patient,
        slides,
        first.sample or None,
        first.label,
        first.site,
        first.days,
        first.event,
    )


def _problems(entries: Sequence[Entry]) -> list[str]:
    # a slide may be a folder: DICOM, OME-Zarr
    lost = [e for e in entries if not e.slide.exists()]
    unlabelled = [e for e in entries if not e.label]
    found = {
        "slides that do not exist": [f"row {e.row} {e.slide}" for e in lost],
        "patients without a label": [f"row {e.row} {e.patient}" for e in unlabelled],
    }
    return [problem(what, values) for what, values in found.items() if values]


def _unknown_samples(entries: Sequence[Entry], samples: Iterable[str]) -> list[str]:
    known = set(samples)
    lost = [e for e in entries if e.sample and e.sample not in known]
    told = [f"row {e.row} {e.sample}" for e in lost]
    return [problem("samples the gene table lacks", told)] if told else []
