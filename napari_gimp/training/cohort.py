"""A cohort: who is in it, what is known of each patient, and checks beforehand.

A manifest is a table (.csv, or .tsv/.txt with tabs) with the columns `patient`,
`slide` (path, relative to the manifest), `label`, and optionally `sample` (row of
the gene table; empty: slide only) and `site`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from napari_gimp.cohorts.manifest import problem, read_sheet, twice
from napari_gimp.errors import CohortError
from napari_gimp.training.splits import Split, patients_needed, split_patients

if TYPE_CHECKING:
    from napari_gimp.genes.table import GeneTable

REQUIRED = ("patient", "slide", "label")
OPTIONAL = ("sample", "site")


@dataclass(frozen=True, slots=True)
class Patient:
    """One patient of a cohort.

    Parameters
    ----------
    patient
        Identifier, unique in the cohort.
    slide
        Absolute path of the slide.
    sample
        Row of the gene table; None for slide only.
    label
        Class name.
    site
        Where the slide was made; empty if unknown.
    """

    patient: str
    slide: Path
    sample: str | None
    label: str
    site: str = ""


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
        Listing everything that is wrong: columns, empty cells, patients named
        twice, slides that do not exist, samples the gene table lacks.
    GeneError
        If the gene table cannot be read.
    """
    from napari_gimp.genes.table import read_table

    manifest = Path(manifest).resolve()
    patients = _read_patients(manifest)
    table = read_table(Path(genes))
    problems = [
        *_problems(patients, manifest.parent),
        *_unknown_samples(patients, table.samples),
    ]
    if problems:
        raise CohortError(
            f"The cohort {manifest} cannot be used:\n- "
            + "\n- ".join(problems)
            + "\nMend the manifest or the gene table."
        )
    classes = tuple(sorted({p.label for p in patients}))
    return Cohort(manifest, patients, classes, table)


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


def _read_patients(manifest: Path) -> tuple[Patient, ...]:
    table = read_sheet(manifest)
    missing = [c for c in REQUIRED if c not in table.columns]
    if missing:
        raise CohortError(
            f"The manifest {manifest} lacks the columns {', '.join(missing)}; it has "
            f"{', '.join(map(str, table.columns))}. Columns are "
            f"{', '.join(REQUIRED)} and, if wanted, {', '.join(OPTIONAL)}."
        )
    if table.empty:
        raise CohortError(f"The manifest {manifest} names no patient. Add rows.")
    rows = table.reindex(columns=[*REQUIRED, *OPTIONAL], fill_value="")
    return tuple(_patient(row, manifest.parent) for row in rows.itertuples(index=False))


def _patient(row: object, base: Path) -> Patient:
    cell = {name: str(getattr(row, name)) for name in (*REQUIRED, *OPTIONAL)}
    slide = (base / cell["slide"]).resolve()
    return Patient(
        cell["patient"], slide, cell["sample"] or None, cell["label"], cell["site"]
    )


def _problems(patients: Sequence[Patient], base: Path) -> list[str]:
    unnamed = [f"row {i + 2}" for i, p in enumerate(patients) if not p.patient]
    named = [p for p in patients if p.slide != base]  # an empty cell is the folder
    found = {
        "rows without a patient": unnamed,
        "patients named twice": twice(p.patient for p in patients),
        "patients without a label": [p.patient for p in patients if not p.label],
        "patients without a slide": [p.patient for p in patients if p.slide == base],
        "slides that do not exist": [str(p.slide) for p in named if not _there(p)],
        "slides used by two patients": twice(str(p.slide) for p in named),
        "samples used by two patients": twice(p.sample or "" for p in patients),
    }
    return [problem(what, values) for what, values in found.items() if values]


def _there(patient: Patient) -> bool:
    return patient.slide.exists()  # a folder is a slide too: DICOM, OME-Zarr


def _unknown_samples(patients: Sequence[Patient], samples: Iterable[str]) -> list[str]:
    known = set(samples)
    lost = [p.sample for p in patients if p.sample and p.sample not in known]
    return [problem("samples the gene table lacks", lost)] if lost else []
