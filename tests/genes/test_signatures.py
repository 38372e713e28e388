"""Signature scores: mean z of a panel, and single-sample GSEA."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from napari_gimp.errors import GeneError
from napari_gimp.genes.panel import Panel, align
from napari_gimp.genes.sets import hallmarks
from napari_gimp.genes.signatures import LEAST_GENES, mean_z, ssgsea
from napari_gimp.genes.table import GeneTable, read_table

GENES = tuple(f"G{k}" for k in range(40))
UP = GENES[:8]
SETS = {"UP": UP, "OTHER": GENES[20:30]}


def table_of(values, genes=GENES, scale="log2"):
    values = np.asarray(values, dtype=np.float32)
    samples = tuple(f"S{k}" for k in range(len(values)))
    return GeneTable(samples=samples, genes=tuple(genes), values=values, scale=scale)


@pytest.fixture
def planted():
    """20 samples whose genes are noise; in the last 10 UP is raised by 3 sd."""
    values = np.random.default_rng(3).normal(8, 1, (20, len(GENES)))
    values[10:, : len(UP)] += 3
    return table_of(values)


def by_definition(values, inside, alpha=0.25):
    """Walk down the genes as Barbie et al. write it; values without ties."""
    order = np.argsort(-values)
    ranks = np.arange(len(values), 0, -1, dtype=float)
    met = np.where(inside[order], ranks**alpha, 0)
    others = ~inside[order]
    walk = np.cumsum(met) / met.sum() - np.cumsum(others) / others.sum()
    return walk.sum() / len(values)


def test_enrichment_is_the_published_walk(planted) -> None:
    found = ssgsea(planted, SETS)

    for k, symbols in enumerate(SETS.values()):
        inside = np.isin(GENES, symbols)
        expected = [by_definition(row, inside) for row in planted.values]
        np.testing.assert_allclose(found.scores[:, k], expected, atol=1e-12)


def test_enrichment_equals_gseapy_on_the_hallmarks() -> None:
    gseapy = pytest.importorskip("gseapy", reason="needs the extra [parity]")
    pd = pytest.importorskip("pandas")
    sets = hallmarks()
    genes = sorted({gene for symbols in sets.values() for gene in symbols})
    rng = np.random.default_rng(0)
    table = table_of(rng.gamma(0.5, 50, (6, len(genes))), genes, "linear")

    theirs = gseapy.ssgsea(
        pd.DataFrame(table.values.T, index=genes, columns=list(table.samples)),
        {name: list(symbols) for name, symbols in sets.items()},
        min_size=LEAST_GENES,
        max_size=len(genes),
        threads=1,
    ).res2d
    ours = ssgsea(table, sets)

    expected = theirs.pivot(index="Name", columns="Term", values="ES").astype(float)
    expected = expected.loc[list(ours.samples), list(ours.sets)].to_numpy()
    # gseapy accumulates in single precision and breaks ties by position.
    np.testing.assert_allclose(ours.scores * len(genes), expected, atol=0.02)
    assert np.abs(expected).max() > 100


def test_mean_z_is_the_mean_over_the_genes_that_are_there(planted) -> None:
    values = planted.values.copy()
    values[0, :2] = np.nan
    panel = Panel.fit(planted.values, GENES)
    table = replace(planted, values=values)

    found = mean_z(table, panel, SETS)

    z = ((values - panel.mean) / panel.sd).clip(-5, 5)
    np.testing.assert_allclose(found.scores[0, 0], z[0, 2:8].mean(), atol=1e-5)
    np.testing.assert_allclose(found.scores[:, 1], z[:, 20:30].mean(1), atol=1e-5)
    assert found.method == "mean z"


def test_mean_z_of_a_profile_is_that_of_the_model_s_view(planted) -> None:
    panel = Panel.fit(planted.values, GENES)
    profile = planted.profile("S12")

    found = mean_z(profile, panel, SETS)

    assert found.samples == ("S12",)
    seen = align(profile, panel).z
    np.testing.assert_allclose(found.scores[0, 0], seen[:8].mean(), rtol=1e-5)


@pytest.mark.parametrize("score", ["mean z", "ssGSEA"])
def test_a_planted_set_parts_the_samples_and_no_other_does(planted, score) -> None:
    if score == "mean z":
        found = mean_z(planted, Panel.fit(planted.values, GENES), SETS)
    else:
        found = ssgsea(planted, SETS)

    up, other = found.scores.T
    assert up[10:].min() > up[:10].max()
    assert other[10:].min() < other[:10].max()


def test_a_set_is_a_half_above_or_below_the_middle_at_most() -> None:
    genes = [f"G{k}" for k in range(5000)]
    sets = {"HIGH": genes[-5:], "LOW": genes[:5], "EVEN": genes[::100]}

    high, low, even = ssgsea(table_of([np.arange(5000)], genes), sets).scores[0]

    assert 0.499 < high < 0.501
    assert -0.501 < low < -0.499
    # The mean rank weighted by rank^0.25 is 1.25 / 2.25 of all.
    assert even == pytest.approx(1.25 / 2.25 - 0.5, abs=0.01)


@settings(max_examples=30, deadline=None)
@given(
    values=arrays.arrays(np.int16, (3, 40), elements=st.integers(0, 12)),
    seed=st.integers(0, 1000),
)
def test_enrichment_depends_on_neither_the_order_of_genes_nor_a_monotone_change(
    values, seed
) -> None:
    order = np.random.default_rng(seed).permutation(40)
    shuffled = table_of(values[:, order], [GENES[k] for k in order])

    found = ssgsea(table_of(values), SETS).scores

    np.testing.assert_allclose(ssgsea(shuffled, SETS).scores, found, atol=1e-12)
    np.testing.assert_array_equal(ssgsea(table_of(2.0**values), SETS).scores, found)


def test_genes_without_a_number_are_as_good_as_absent(planted) -> None:
    values = planted.values.copy()
    values[:, 30:] = np.nan
    absent = table_of(planted.values[:, :30], GENES[:30])

    np.testing.assert_allclose(
        ssgsea(replace(planted, values=values), SETS).scores,
        ssgsea(absent, SETS).scores,
        atol=1e-12,
    )


def test_each_sample_is_ranked_alone_however_many_there_are(
    planted, monkeypatch
) -> None:
    whole = ssgsea(planted, SETS).scores
    monkeypatch.setattr("napari_gimp.genes.signatures.BLOCK_NUMBERS", 3 * len(GENES))

    np.testing.assert_array_equal(ssgsea(planted, SETS).scores, whole)
    one = ssgsea(planted.profile("S7"), SETS).scores[0]
    np.testing.assert_array_equal(one, whole[7])


@pytest.mark.parametrize("method", ["mean z", "ssGSEA"])
def test_a_set_with_too_few_genes_has_no_score_and_is_named(planted, method) -> None:
    sets = {**SETS, "FEW": (*GENES[:4], "ABSENT1", "ABSENT2")}

    if method == "mean z":
        found = mean_z(planted, Panel.fit(planted.values, GENES), sets)
    else:
        found = ssgsea(planted, sets)

    assert np.isnan(found.scores[:, 2]).all()
    assert np.isfinite(found.scores[:, :2]).all()
    assert found.coverage[2].found == GENES[:4]
    assert found.coverage[2].missing == ("ABSENT1", "ABSENT2")
    assert any("1 of 3 gene sets" in n and "FEW" in n for n in found.notes)


def test_a_set_of_all_genes_has_no_enrichment_but_a_mean(planted) -> None:
    sets = {"ALL": GENES, **SETS}

    assert np.isnan(ssgsea(planted, sets).scores[:, 0]).all()
    panel = Panel.fit(planted.values, GENES)
    assert np.isfinite(mean_z(planted, panel, sets).scores[:, 0]).all()


def test_a_gene_named_twice_in_a_set_counts_once(planted) -> None:
    twice = {"UP": (*UP, *UP[:3])}

    found = ssgsea(planted, twice)

    np.testing.assert_array_equal(found.scores, ssgsea(planted, {"UP": UP}).scores)


def test_a_set_finds_its_genes_under_earlier_symbols(planted) -> None:
    now = ("SEPTIN7", "MARCHF5", "NECTIN1", *UP[3:])
    then = ("SEPT7", "MARCH5", "PVRL1", *UP[3:])
    table = replace(planted, genes=(*then, *GENES[8:]))

    found = ssgsea(table, {"NOW": now, "BOTH": (*now, *then)})

    expected = ssgsea(planted, {"UP": UP}).scores
    np.testing.assert_array_equal(found.scores, np.repeat(expected, 2, axis=1))
    assert found.coverage[0].found == now
    assert found.coverage[1].missing == ()


def test_sets_of_other_names_are_refused_with_both_kinds_of_names(planted) -> None:
    with pytest.raises(GeneError, match=r"ENSG1.*best has 0.*G0, G1, G2.*same kind"):
        ssgsea(planted, {"A": ["ENSG1", "ENSG2"]})
    with pytest.raises(GeneError, match="none of 0 gene sets"):
        mean_z(planted, Panel.fit(planted.values, GENES), {})


def test_a_table_without_a_number_is_refused(planted) -> None:
    empty = replace(planted, values=np.full_like(planted.values, np.nan))

    with pytest.raises(GeneError, match="best has 0"):
        ssgsea(empty, SETS)


@pytest.mark.parametrize(
    ("scale", "says"),
    [("zscore", "how unusual a gene is"), ("counts", "long genes"), ("log2", None)],
)
def test_ranks_that_mean_less_are_told(planted, scale, says) -> None:
    notes = ssgsea(replace(planted, scale=scale), SETS).notes

    assert (says is None) == (notes == ())
    assert says is None or says in notes[0]


def test_samples_that_are_mostly_zeros_are_counted(planted) -> None:
    values = planted.values.copy()
    values[:3, 10:] = 0

    (note,) = ssgsea(replace(planted, values=values), SETS).notes

    assert note.startswith("in 3 of 20 samples more than half")


@pytest.mark.real_data
def test_proliferation_rises_with_the_grade_of_glioma(shared_data: Path) -> None:
    import pandas as pd
    from sklearn.metrics import roc_auc_score

    path = shared_data / "omics" / "tcga_gbmlgg_dev.csv.gz"
    table, rows = read_table(path), pd.read_csv(path, low_memory=False)
    panel = Panel.fit(table.values, table.genes, scale="zscore")
    grades = rows["grade"].to_numpy()
    kept = np.isin(grades, ["G2", "G4"])

    for found in (mean_z(table, panel, hallmarks()), ssgsea(table, hallmarks())):
        scores = dict(zip(found.sets, found.scores.T, strict=True))
        for name in ("E2F_TARGETS", "G2M_CHECKPOINT"):
            auc = roc_auc_score(grades[kept] == "G4", scores["HALLMARK_" + name][kept])
            assert auc > 0.65
