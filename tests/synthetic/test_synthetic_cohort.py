"""Synthetic cohorts: balanced, whole or absent, and honest about what was planted."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from napari_gimp.errors import CohortError
from napari_gimp.genes.sets import hallmarks
from napari_gimp.synthetic import cohort as cohorts
from napari_gimp.synthetic.cohort import (
    composition,
    draw_patients,
    make_cohort,
    read_truth,
)
from napari_gimp.synthetic.expression import PANEL, Expression, plant
from napari_gimp.synthetic.layout import Tissue
from napari_gimp.synthetic.patient import CLASSES, Patient

SMALL = 640


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cohorts") / "one"
    return make_cohort(out, patients=3, seed=5, side_px=SMALL)


@pytest.fixture(scope="module")
def expression() -> Expression:
    return plant()


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _share(patient: Patient, rng: np.random.Generator) -> dict[Tissue, float]:
    """Return a plausible composition without painting."""
    tumour = 0.0 if patient.label == "benign" else float(rng.uniform(0.1, 0.5))
    rest = rng.dirichlet((6, 0.5, 0.3 if tumour else 1e-3, 1.5)) * (1 - tumour)
    names = (Tissue.STROMA, Tissue.LYMPHOCYTES, Tissue.NECROSIS, Tissue.GLAND)
    return {
        Tissue.TUMOUR: tumour,
        **dict(zip(names, map(float, rest), strict=True)),
    }


def _simulated(expression: Expression, count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    people = draw_patients(count, 8)
    values = [expression.profile(p, _share(p, rng)) for p in people]
    return np.stack(values), np.array([CLASSES.index(p.label) for p in people])


def test_a_cohort_names_files_that_exist(manifest: Path) -> None:
    rows = _rows(manifest)
    assert [row["patient"] for row in rows] == ["P0001", "P0002", "P0003"]
    assert {row["label"] for row in rows} == set(CLASSES)
    assert all((manifest.parent / row["slide"]).is_file() for row in rows)
    assert [row["sample"] for row in _rows(manifest.parent / "genes.csv")] == [
        row["sample"] for row in rows
    ]


def test_equal_seeds_give_equal_cohorts(manifest: Path, tmp_path: Path) -> None:
    again = make_cohort(tmp_path / "two", patients=3, seed=5, side_px=SMALL).parent
    files = sorted(p.relative_to(again) for p in again.rglob("*") if p.is_file())
    assert len(files) == 9
    for file in files:
        assert (again / file).read_bytes() == (manifest.parent / file).read_bytes()


def test_truth_is_read_back_on_its_grid(manifest: Path) -> None:
    codes, grid = read_truth(manifest.parent, "P0002")
    assert codes.dtype == np.uint8
    assert codes.shape == grid.shape == (40, 40)
    assert grid.cell_um == (8.0, 8.0)
    np.testing.assert_array_equal(read_truth(manifest, "P0002")[0], codes)


def test_truth_of_an_unknown_patient_is_refused(manifest: Path) -> None:
    with pytest.raises(CohortError, match=r"P9999.*P0001"):
        read_truth(manifest.parent, "P9999")


def test_the_truth_file_agrees_with_the_mask(manifest: Path) -> None:
    truth = json.loads((manifest.parent / "truth.json").read_text())
    assert truth["codes"] == {t.name.lower(): int(t) for t in Tissue}
    assert set(truth["class_drive"]) == set(truth["classes"]) == set(CLASSES)
    for name, person in truth["patients"].items():
        share = composition(read_truth(manifest.parent, name)[0])
        assert sum(share.values()) == pytest.approx(1)
        for tissue, value in share.items():
            assert person["composition"][tissue.name.lower()] == pytest.approx(
                value, abs=1e-4
            )


def test_planted_genes_belong_to_their_hallmark(manifest: Path) -> None:
    truth = json.loads((manifest.parent / "truth.json").read_text())
    known = hallmarks()
    for name, module in truth["modules"].items():
        assert len(module["genes"]) > 20, name
        assert set(module["genes"]) <= set(known[name])
        assert all(loading > 0 for loading in module["genes"].values())
    heads = next(csv.reader((manifest.parent / "genes.csv").open()))
    assert len(heads) == len(set(heads)) == PANEL + 1


def test_labels_and_sites_are_balanced_and_unrelated() -> None:
    people = draw_patients(90, 1)
    table = {(p.label, p.site) for p in people}
    assert len(table) == 9
    for label, site in table:
        assert sum((p.label, p.site) == (label, site) for p in people) == 10
    assert [p.label for p in people[:9]] != [CLASSES[k % 3] for k in range(9)]


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"patients": 0}, "at least 1 patient"),
        ({"side_px": 100}, "100 px"),
        ({"mpp": 40.0}, r"40\.0"),
    ],
)
def test_senseless_numbers_are_refused(
    tmp_path: Path, wrong: dict[str, float], text: str
) -> None:
    good = {"patients": 1, "seed": 1, "side_px": SMALL, "mpp": 0.5}
    with pytest.raises(CohortError, match=text):
        make_cohort(tmp_path / "out", **{**good, **wrong})  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_a_folder_with_files_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(CohortError, match="not an empty folder"):
        make_cohort(tmp_path, patients=1, seed=1, side_px=SMALL)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_nothing_is_left_of_a_cohort_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_cohort(tmp_path / "o", patients=2, seed=1, side_px=SMALL, progress=stop)
    assert not list(tmp_path.iterdir())


def test_genes_alone_tell_most_classes_but_not_all(expression: Expression) -> None:
    # Slides tell more: their compositions are less random than these.
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    values, labels = _simulated(expression, 150)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=1e-3, max_iter=300))
    accuracy = cross_val_score(model, values, labels, cv=5).mean()
    assert 0.65 < accuracy < 0.92


def test_small_tumours_dilute_the_class_signal(expression: Expression) -> None:
    basal = next(p for p in draw_patients(30, 2) if p.label == "basal-like")
    row = expression.modules.index("HALLMARK_ESTROGEN_RESPONSE_EARLY")
    pure, thin = (
        expression.activity(basal, {Tissue.TUMOUR: share, Tissue.STROMA: 1 - share})
        for share in (0.8, 0.1)
    )
    assert pure[row] < thin[row] < 0


def test_planted_modules_differ_between_classes_and_decoys_do_not(
    expression: Expression,
) -> None:
    values, labels = _simulated(expression, 240)
    z = (values - values.mean(0)) / values.std(0)
    gaps = {
        name: abs(z[labels == 2][:, row > 0].mean() - z[labels == 1][:, row > 0].mean())
        for name, row in zip(expression.modules, expression.loading, strict=True)
    }
    assert gaps["HALLMARK_ESTROGEN_RESPONSE_EARLY"] > 0.3
    assert gaps["HALLMARK_E2F_TARGETS"] > 0.15
    assert max(gaps[name] for name in cohorts.DECOYS) < 0.15


def test_values_look_like_log2_counts(expression: Expression) -> None:
    values, _ = _simulated(expression, 30)
    assert values.min() >= 0
    assert 8 < values.max() < 22
    assert 4 < np.median(values) < 8
    assert 0.5 < np.median(values.std(0)) < 2
