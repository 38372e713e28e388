"""A cohort without slides: features and expression are drawn, files are empty."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_gimp.training import prepare
from napari_gimp.training.cohort import Cohort
from napari_gimp.training.data import CohortBags
from napari_gimp.training.features import PatientFeatures, SlidePart
from napari_gimp.training.plan import Plan
from napari_gimp.training.run import RunConfig

CLASSES = ("benign", "tumour")
GENES = 40
PATCHES, WIDTH = 9, 192


@dataclass(frozen=True, slots=True)
class DrawnCohort:
    """Paths of a cohort whose slides are empty files."""

    manifest: Path
    genes: Path

    def run(self, out: Path, **changes: object) -> RunConfig:
        """Return a run of two quick epochs; `plan` is a dict of changes."""
        plan = {"epochs": 2, "batch": 4, "folds": 3, "warmup": 1, "device": "cpu"}
        plan |= changes.pop("plan", {})  # type: ignore[operator]
        fields: dict[str, object] = {"stage": "pretrain"} | changes
        return RunConfig(
            manifest=self.manifest,
            genes=self.genes,
            out=out,
            plan=Plan(**plan),  # type: ignore[arg-type]
            **fields,  # type: ignore[arg-type]
        )


def write_cohort(folder: Path, *, patients: int = 12, seed: int = 0) -> DrawnCohort:
    """Write manifest, gene table and empty slides; two classes in turn."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    rows, table = ["patient,slide,sample,label,site"], ["sample," + names()]
    for k in range(patients):
        (folder / f"P{k:02d}.tif").touch()
        rows.append(f"P{k:02d},P{k:02d}.tif,S{k:02d},{CLASSES[k % 2]},north")
        level = rng.normal(6 + 1.5 * (k % 2) * (np.arange(GENES) < 5), 1)
        table.append(f"S{k:02d}," + ",".join(f"{v:.4f}" for v in level))
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    (folder / "genes.csv").write_text("\n".join(table) + "\n")
    return DrawnCohort(folder / "manifest.csv", folder / "genes.csv")


def names() -> str:
    return ",".join(f"GENE{g}" for g in range(GENES))


def drawn_features(cohort: Cohort) -> dict[str, PatientFeatures]:
    """Features that tell the classes apart, the same for the same patient."""
    return {p.patient: _features(p.patient, p.label) for p in cohort.patients}


def _features(patient: str, label: str) -> PatientFeatures:
    rng = np.random.default_rng(int(patient[1:]))
    shift = CLASSES.index(label) * (np.arange(WIDTH) < 8)
    features = rng.normal(shift, 1, (PATCHES, WIDTH)).astype(np.float32)
    rows, cols = np.divmod(np.arange(PATCHES), 3)
    coords = (np.stack([rows, cols], axis=1) * 128 + 64).astype(np.float32)
    slide = SlidePart(f"slide-{patient}", slice(0, PATCHES))
    return PatientFeatures(features, coords, (slide,))


@pytest.fixture
def drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DrawnCohort:
    """A cohort of 12 whose features are drawn instead of read."""
    replace_slides(monkeypatch)
    return write_cohort(tmp_path / "cohort")


def replace_slides(monkeypatch: pytest.MonkeyPatch) -> None:
    def features(
        cohort: Cohort,
        *_: object,
        report: Callable[[int, int, str], None],
        **__: object,
    ) -> dict[str, PatientFeatures]:
        report(len(cohort), len(cohort), "")
        return drawn_features(cohort)

    def thumbnails(
        bags: CohortBags, *_: object, **__: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        known = torch.cat([bag.features for bag in bags.train])
        return known, torch.full((len(known), 32, 32, 3), 0.5)

    monkeypatch.setattr(prepare, "read_features", features)
    monkeypatch.setattr(prepare, "draw_thumbnails", thumbnails)
    monkeypatch.setattr(prepare, "DECODER_LEAST", 1)
