from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tifffile import imwrite

from napari_gimp.errors import CohortError, GeneError
from napari_gimp.patches.plan import PatchPlan
from napari_gimp.training.cohort import (
    Cohort,
    check_panel,
    check_slides,
    read_cohort,
)
from napari_gimp.training.data import fit_panel


def edit(manifest: Path, old: str, new: str) -> None:
    manifest.write_text(manifest.read_text().replace(old, new))


def test_a_manifest_is_read_with_slides_beside_it(drawn: Any) -> None:
    cohort = read_cohort(drawn.manifest, drawn.genes)
    assert len(cohort) == 12
    assert cohort.classes == ("benign", "tumour")
    (slide,) = cohort.patients[0].slides
    assert slide.slide == drawn.manifest.parent / "P00.tif"
    assert cohort.counts() == {"benign": 6, "tumour": 6}


def test_a_manifest_with_tabs_reads_the_same(drawn: Any) -> None:
    tabs = drawn.manifest.with_suffix(".tsv")
    tabs.write_text(drawn.manifest.read_text().replace(",", "\t"))
    comma, tab = (read_cohort(p, drawn.genes) for p in (drawn.manifest, tabs))
    assert tab.patients == comma.patients


def test_everything_that_is_wrong_is_listed_at_once(drawn: Any) -> None:
    edit(drawn.manifest, "P03,P03.tif", "P02,P99.tif")
    edit(drawn.manifest, "S05", "S77")
    edit(drawn.manifest, "P07.tif,S07,tumour", "P07.tif,S07,")
    edit(drawn.manifest, "P08,P08.tif", "P08,")
    edit(drawn.manifest, "P10,P10.tif", "P10,P11.tif")
    with pytest.raises(CohortError) as caught:
        read_cohort(drawn.manifest, drawn.genes)
    text = str(caught.value)
    assert "more than one sample (1): P02 (S02, S03; rows 4, 5)" in text
    assert "do not exist (1): row 5 " in text
    assert "P99.tif" in text
    assert "the gene table lacks (1): row 7 S77" in text
    assert "without a label (1): row 9 P07" in text
    assert "rows without a slide (1): row 10" in text
    assert "P11.tif (P10, P11; rows 12, 13)" in text


def test_a_missing_column_is_named_with_those_there_are(drawn: Any) -> None:
    edit(drawn.manifest, "patient,slide", "patient,picture")
    with pytest.raises(CohortError, match=r"lacks the columns slide; .*picture"):
        read_cohort(drawn.manifest, drawn.genes)


def test_a_column_named_twice_is_refused(drawn: Any) -> None:
    edit(drawn.manifest, "site", "Label")
    with pytest.raises(CohortError, match="more than one column label"):
        read_cohort(drawn.manifest, drawn.genes)


def test_rows_and_patterns_make_several_slides_of_one_patient(drawn: Any) -> None:
    (drawn.manifest.parent / "P00b.tif").touch()
    edit(drawn.manifest, "P00,P00.tif", "P00,P00*.tif")
    edit(drawn.manifest, "P02,P02.tif,S02,", "P00,P02.tif,S00,")
    cohort = read_cohort(drawn.manifest, drawn.genes)
    assert len(cohort) == 11
    names = [entry.slide.name for entry in cohort.patients[0].slides]
    assert names == ["P00.tif", "P00b.tif", "P02.tif"]


def test_patients_of_many_slides_are_never_on_two_sides_of_a_split(
    drawn: Any,
) -> None:
    lines = drawn.manifest.read_text().splitlines()
    more = [line.replace(".tif", "b.tif") for line in lines[1:]]
    for line in more:
        (drawn.manifest.parent / line.split(",")[1]).touch()
    drawn.manifest.write_text("\n".join([*lines, *more]) + "\n")
    cohort = read_cohort(drawn.manifest, drawn.genes)
    assert [len(p.slides) for p in cohort.patients] == [2] * 12
    split = cohort.split(folds=3, fold=0, seed=0)
    parts = [set(split.train), set(split.validation), set(split.test)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 12


def test_days_and_event_are_kept_beside_the_label(drawn: Any) -> None:
    lines = drawn.manifest.read_text().splitlines()
    known = [f"{lines[0]},days,event", f"{lines[1]},365,1"]
    known += [f"{line},," for line in lines[2:]]
    drawn.manifest.write_text("\n".join(known) + "\n")
    first, second, *_ = read_cohort(drawn.manifest, drawn.genes).patients
    assert (first.days, first.event) == (365.0, True)
    assert (second.days, second.event) == (None, None)


def test_slides_that_cannot_be_opened_are_told_before_any_is_encoded(
    drawn: Any,
) -> None:
    cohort = read_cohort(drawn.manifest, drawn.genes)  # its slides are empty files
    with pytest.raises(CohortError) as caught:
        check_slides(cohort, PatchPlan(), srgb=False)
    text = str(caught.value)
    assert "slides that cannot be used (12): row 2 " in text
    assert "P00.tif" in text
    assert "column mpp" in text


def test_one_slide_under_two_names_and_patients_is_refused(drawn: Any) -> None:
    rng = np.random.default_rng(0)
    cohort = read_cohort(drawn.manifest, drawn.genes)
    for entry in cohort.slides():
        pixels = rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)
        imwrite(entry.slide, pixels, photometric="rgb", resolution=(2e4, 2e4),
                resolutionunit="CENTIMETER")  # fmt: skip
    check_slides(cohort, PatchPlan(), srgb=False)

    first, second, *_ = cohort.slides()
    second.slide.write_bytes(first.slide.read_bytes())
    with pytest.raises(CohortError, match=r"P00\.tif of P00 = P01\.tif of P01"):
        check_slides(cohort, PatchPlan(), srgb=False)


def test_a_class_too_small_for_the_folds_is_named_with_its_count(drawn: Any) -> None:
    cohort = read_cohort(drawn.manifest, drawn.genes)
    with pytest.raises(CohortError, match=r"benign \(6\), tumour \(6\)"):
        cohort.split(folds=7, fold=0, seed=0)


def test_a_patient_without_a_sample_is_slide_only(drawn: Any) -> None:
    edit(drawn.manifest, "P00.tif,S00", "P00.tif,")
    cohort = read_cohort(drawn.manifest, drawn.genes)
    assert cohort.patients[0].sample is None


def test_the_panel_does_not_know_test_and_validation_patients(drawn: Any) -> None:
    cohort = read_cohort(drawn.manifest, drawn.genes)
    split = cohort.split(folds=3, fold=0, seed=0)
    panel = fit_panel(cohort, split.train)
    others = {p.sample for p in cohort.pick((*split.test, *split.validation))}
    rows = np.array([s in others for s in cohort.table.samples])
    cohort.table.values[rows] = cohort.table.values[rows] * 3 + 100
    again = fit_panel(cohort, split.train)
    assert np.array_equal(again.mean, panel.mean)
    assert np.array_equal(again.sd, panel.sd)
    assert again.genes == panel.genes


def test_the_panel_does_know_training_patients(drawn: Any) -> None:
    cohort: Cohort = read_cohort(drawn.manifest, drawn.genes)
    split = cohort.split(folds=3, fold=0, seed=0)
    panel = fit_panel(cohort, split.train)
    rows = [s == f"S{split.train[0][1:]}" for s in cohort.table.samples]
    cohort.table.values[rows] += 1
    assert not np.array_equal(fit_panel(cohort, split.train).mean, panel.mean)


def test_a_table_that_lacks_much_of_a_checkpoints_panel_is_refused(drawn: Any) -> None:
    cohort = read_cohort(drawn.manifest, drawn.genes)
    panel = fit_panel(cohort, [p.patient for p in cohort.patients])
    check_panel(cohort, panel)
    few = replace(cohort, table=replace(
        cohort.table, genes=tuple(f"X{g}" if g % 2 else f"GENE{g}" for g in range(40))
    ))  # fmt: skip
    with pytest.raises(GeneError, match=r"only 20 of .* 40 genes.*without `start`"):
        check_panel(few, panel)


def test_what_was_made_of_the_gene_table_is_told(drawn: Any) -> None:
    first, *_ = read_cohort(drawn.manifest, drawn.genes).gene_notes()
    assert first.startswith("Gene table: 12 samples x 40 genes, log2, judged from ")


def test_top_genes_keeps_those_of_largest_variance(drawn: Any) -> None:
    cohort = read_cohort(drawn.manifest, drawn.genes)
    everybody = [p.patient for p in cohort.patients]
    cohort.table.values[:, 7] *= 30
    assert fit_panel(cohort, everybody, top_genes=1).genes == ("GENE7",)
