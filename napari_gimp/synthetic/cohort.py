"""Synthetic cohorts: slides, bulk expression, and the truth behind both.

A cohort folder holds `manifest.csv`, `genes.csv`, `slides/ID.tif`, `truth/ID.png`
(tissue codes at 8 um) and `truth.json` (planted modules, patients, codes).
"""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_gimp.errors import CohortError
from napari_gimp.geometry import Grid
from napari_gimp.synthetic.expression import (
    CLASS_WEIGHTS,
    DECOYS,
    GENE_SD,
    MODULE_SD,
    TISSUE_WEIGHTS,
    Expression,
    plant,
)
from napari_gimp.synthetic.layout import TRUTH_UM, Layout, Tissue, truth_codes
from napari_gimp.synthetic.noise import F32, stream
from napari_gimp.synthetic.patient import (
    CLASS_DRIVE,
    CLASSES,
    SITES,
    Patient,
    draw_patient,
)
from napari_gimp.synthetic.slide import write_slide

FORMAT = "napari-gimp synthetic cohort 1"
COLUMNS = ("patient", "slide", "sample", "label", "site")
Progress = Callable[[int, int], None]
Codes = NDArray[np.uint8]


def make_cohort(
    out: Path,
    *,
    patients: int,
    seed: int,
    side_px: int = 3072,
    mpp: float = 0.5,
    progress: Progress | None = None,
) -> Path:
    """Make a cohort folder and return its manifest.

    Labels and sites are balanced; equal arguments, equal cohort. The folder appears
    under its name only when it is whole.

    Parameters
    ----------
    out
        The folder to make; it may exist if it is empty.
    patients
        How many, one slide and one expression profile each.
    seed
        Names the cohort.
    side_px, mpp
        Side of each slide in px, and um/px.
    progress
        Called with patients done and patients in all.

    Raises
    ------
    CohortError
        If a number makes no sense, or the folder is not empty.
    """
    people = draw_patients(patients, seed)
    return write_cohort(
        Path(out).resolve(),
        people,
        seed,
        side_px=side_px,
        mpp=mpp,
        progress=progress,
        workers=min(os.cpu_count() or 1, 4),
    )


def draw_patients(patients: int, seed: int) -> tuple[Patient, ...]:
    """Return the patients of a cohort, classes and sites balanced and shuffled."""
    if patients < 1:
        raise CohortError(f"a cohort needs at least 1 patient, got {patients}")
    rng = np.random.default_rng([seed, stream("cohort")])
    pairs = [
        (CLASSES[k % len(CLASSES)], SITES[k // len(CLASSES) % len(SITES)])
        for k in range(patients)
    ]
    order = rng.permutation(patients)
    return tuple(
        draw_patient(f"P{k + 1:04d}", seed, *pairs[int(which)])
        for k, which in enumerate(order)
    )


def write_cohort(
    out: Path,
    people: Sequence[Patient],
    seed: int,
    *,
    side_px: int,
    mpp: float,
    progress: Progress | None = None,
    blocks: Progress | None = None,
    workers: int = 1,
) -> Path:
    """Write given patients as a cohort folder, whole or not at all.

    As `make_cohort`, and: `blocks` is called with the painted and all blocks of the
    slide at hand, `workers` threads paint it.
    """
    _check(out, side_px, mpp)
    out.parent.mkdir(parents=True, exist_ok=True)
    unfinished = out.with_name(f".{out.name}.partial-{os.getpid()}")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        paint = partial(
            write_slide, side_px=side_px, mpp=mpp, workers=workers, progress=blocks
        )
        _fill(unfinished, people, (seed, mpp), paint, progress)
        if out.is_dir():
            out.rmdir()
        unfinished.replace(out)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return out / "manifest.csv"


def read_truth(manifest_dir: Path, patient: str) -> tuple[Codes, Grid]:
    """Return a patient's tissue codes (rows, cols) and their grid.

    Parameters
    ----------
    manifest_dir
        The cohort folder, or its manifest.
    patient
        The patient's id, as in the manifest.

    Raises
    ------
    CohortError
        If there is no truth for that patient.
    """
    from PIL import Image

    folder = Path(manifest_dir)
    folder = folder.parent if folder.suffix == ".csv" else folder
    path = folder / "truth" / f"{patient}.png"
    if not path.is_file():
        known = sorted(p.stem for p in path.parent.glob("*.png"))
        raise CohortError(
            f"no tissue truth for patient {patient} in {folder}; "
            f"patients with truth there: {', '.join(known[:5]) or 'none'}"
        )
    with Image.open(path) as image:
        codes = np.asarray(image, np.uint8).copy()
    return codes, Grid(codes.shape, (TRUTH_UM, TRUTH_UM))


def composition(codes: Codes) -> dict[Tissue, float]:
    """Return each tissue's share of what is neither glass nor pen."""
    counts = np.bincount(codes.ravel(), minlength=len(Tissue))
    tissues = [t for t in Tissue if t not in (Tissue.GLASS, Tissue.PEN)]
    total = max(int(counts[[int(t) for t in tissues]].sum()), 1)
    return {t: float(counts[t]) / total for t in tissues}


def _check(out: Path, side_px: int, mpp: float) -> None:
    if side_px < 512:
        raise CohortError(
            f"a slide of {side_px} px is too small to hold tissue; use 512 or more"
        )
    if not 0.1 <= mpp <= 2.0:
        raise CohortError(
            f"slides can be painted at 0.1 to 2 um/px, got {mpp}; 0.5 is 20x"
        )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise CohortError(
            f"{out} exists and is not an empty folder; nothing was written. "
            "Give a new folder, or remove that one first"
        )


def _fill(
    folder: Path,
    people: Sequence[Patient],
    made: tuple[int, float],
    paint: Callable[[Path, Patient], Layout],
    progress: Progress | None,
) -> None:
    (folder / "slides").mkdir(parents=True)
    (folder / "truth").mkdir()
    expression = plant()
    shares: dict[str, dict[Tissue, float]] = {}
    for done, person in enumerate(people, start=1):
        layout = paint(folder / "slides" / f"{person.name}.tif", person)
        codes, _ = truth_codes(layout)
        _write_codes(folder / "truth" / f"{person.name}.png", codes)
        shares[person.name] = composition(codes)
        if progress:
            progress(done, len(people))
    values = [expression.profile(p, shares[p.name]) for p in people]
    _write_genes(folder / "genes.csv", people, expression, values)
    _write_truth(folder / "truth.json", people, expression, shares, made)
    _write_manifest(folder / "manifest.csv", people)


def _write_codes(path: Path, codes: Codes) -> None:
    from PIL import Image

    Image.fromarray(codes).save(path)


def _write_genes(
    path: Path, people: Sequence[Patient], expression: Expression, values: list[F32]
) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["sample", *expression.genes])
        for person, row in zip(people, values, strict=True):
            table.writerow([person.name, *(f"{value:.4f}" for value in row)])


def _write_manifest(path: Path, people: Sequence[Patient]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for p in people:
            table.writerow([p.name, f"slides/{p.name}.tif", p.name, p.label, p.site])


def _write_truth(
    path: Path,
    people: Sequence[Patient],
    expression: Expression,
    shares: Mapping[str, Mapping[Tissue, float]],
    made: tuple[int, float],
) -> None:
    truth = {
        "format": FORMAT,
        "seed": made[0],
        "mpp": made[1],
        "truth_um": TRUTH_UM,
        "codes": {t.name.lower(): int(t) for t in Tissue},
        "classes": list(CLASSES),
        "class_drive": CLASS_DRIVE,
        "noise_sd": {"module": MODULE_SD, "gene": GENE_SD, "drive": 1.0},
        "modules": {m: _module(m, expression) for m in expression.modules},
        "patients": {p.name: _person(p, shares[p.name]) for p in people},
    }
    path.write_text(json.dumps(truth, indent=1), encoding="utf-8")


def _module(name: str, expression: Expression) -> dict[str, object]:
    tissues = TISSUE_WEIGHTS.get(name, {})
    return {
        "decoy": name in DECOYS,
        "tissues": {t.name.lower(): w for t, w in tissues.items()},
        "classes": dict(CLASS_WEIGHTS.get(name, {})),
        "genes": expression.genes_of(name),
    }


def _person(patient: Patient, share: Mapping[Tissue, float]) -> dict[str, object]:
    from dataclasses import asdict

    return {
        "label": patient.label,
        "site": patient.site,
        "pen": patient.pen,
        "drive": patient.drive,
        "habit": asdict(patient.habit),
        "composition": {t.name.lower(): round(v, 5) for t, v in share.items()},
    }
