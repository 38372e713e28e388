from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_gimp.errors import GeneError
from napari_gimp.genes.panel import CLIP, Panel, align, align_table
from napari_gimp.genes.scale import Scale, to_log2
from napari_gimp.genes.table import GeneTable, Profile

GENES = tuple(f"G{k}" for k in range(30))


def panel() -> Panel:
    rng = np.random.default_rng(0)
    return Panel.fit(rng.normal(6, 2, (40, 30)).astype(np.float32), GENES)


def profile_of(
    values: np.ndarray, genes: tuple[str, ...] = GENES, scale: Scale = "log2"
) -> Profile:
    return Profile("S", genes, values.astype(np.float32), scale)


def some_values(seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(6, 2, 30)


def test_a_fitted_panel_standardises_its_own_samples() -> None:
    values = np.random.default_rng(0).normal(6, 2, (40, 30)).astype(np.float32)
    fitted = Panel.fit(values, GENES)

    z, present = align_table(GeneTable(("s",) * 40, GENES, values, "log2"), fitted)

    assert present.all()
    np.testing.assert_allclose(z.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(z.std(0), 1, atol=1e-5)


@settings(deadline=None)
@given(st.permutations(range(30)), st.sampled_from(["log2", "counts", "linear"]))
def test_the_order_of_a_table_changes_nothing(order: list[int], scale: Scale) -> None:
    values = np.rint(np.exp2(some_values()))
    shuffled = tuple(GENES[k] for k in order)

    first = align(profile_of(values, scale=scale), panel())
    second = align(profile_of(values[order], shuffled, scale), panel())

    np.testing.assert_allclose(first.z, second.z, atol=1e-5)
    assert first.report == second.report


@settings(deadline=None)
@given(st.sets(st.integers(0, 29), min_size=1), st.booleans())
def test_a_missing_gene_is_the_training_mean_and_the_others_stay(
    kept: set[int], as_nan: bool
) -> None:
    values, rows = some_values(), sorted(kept)
    if as_nan:
        partial = profile_of(np.where(np.isin(np.arange(30), rows), values, np.nan))
    else:
        partial = profile_of(values[rows], tuple(GENES[k] for k in rows))

    aligned = align(partial, panel())

    whole = align(profile_of(values), panel())
    missing = np.setdiff1d(np.arange(30), rows)
    np.testing.assert_array_equal(aligned.z[missing], 0)
    np.testing.assert_array_equal(aligned.z[rows], whole.z[rows])
    assert not aligned.present[missing].any()
    assert aligned.present[rows].all()
    assert aligned.report.matched == tuple(GENES[k] for k in rows)
    assert aligned.report.missing == tuple(GENES[k] for k in missing)


def test_genes_the_panel_does_not_know_change_nothing_on_a_log_scale() -> None:
    values = some_values()
    more = profile_of(np.append(values, [3, 4]), (*GENES, "X", "Y"))

    np.testing.assert_array_equal(
        align(more, panel()).z, align(profile_of(values), panel()).z
    )


def test_counts_do_not_depend_on_the_depth_of_sequencing() -> None:
    counts = np.rint(np.exp2(some_values() + 6))

    once = align(profile_of(counts, scale="counts"), panel())
    thrice = align(profile_of(counts * 3, scale="counts"), panel())

    np.testing.assert_allclose(once.z, thrice.z, atol=1e-5)


def test_counts_and_linear_values_reach_log2() -> None:
    counts = np.float32([[1, 3], [0, 5]])

    expected = np.log2([[250_001, 750_001], [1, 1_000_001]])
    np.testing.assert_allclose(to_log2(counts, "counts"), expected, rtol=1e-6)
    np.testing.assert_allclose(
        to_log2(counts, "linear"), np.log2(counts + 1), rtol=1e-6
    )
    assert to_log2(counts, "log2") is counts


def test_extreme_values_are_clipped_and_told() -> None:
    known, values = panel(), some_values()
    values[3] = known.mean[3] + 50 * known.sd[3]
    values[4] = known.mean[4] - 50 * known.sd[4]

    aligned = align(profile_of(values), known)

    assert aligned.z[3] == CLIP
    assert aligned.z[4] == -CLIP
    assert aligned.report.out_of_range == ("G3", "G4")
    assert any("2 genes" in note for note in aligned.report.notes)


def test_all_samples_at_once_equal_one_after_the_other() -> None:
    values = np.random.default_rng(5).normal(6, 2, (4, 30)).astype(np.float32)
    table = GeneTable(("a", "b", "c", "d"), GENES, values, "log2")

    z, present = align_table(table, panel())

    for row, sample in enumerate(table.samples):
        one = align(table.profile(sample), panel())
        np.testing.assert_array_equal(z[row], one.z)
        np.testing.assert_array_equal(present[row], one.present)


def test_constant_and_unmeasured_genes_are_dropped_from_a_panel() -> None:
    values = np.random.default_rng(0).normal(6, 2, (10, 4)).astype(np.float32)
    values[:, 1] = 7
    values[:, 2] = np.nan

    assert Panel.fit(values, ("A", "B", "C", "D")).genes == ("A", "D")


def test_the_most_varying_genes_are_kept_in_their_order() -> None:
    spread = np.array([1, 5, 0.5, 4], np.float32)
    values = np.random.default_rng(0).normal(0, 1, (50, 4)).astype("f4") * spread

    assert Panel.fit(values, ("A", "B", "C", "D"), top=2).genes == ("B", "D")


def test_z_scores_are_taken_only_by_a_panel_of_z_scores() -> None:
    values = np.random.default_rng(0).normal(size=(20, 30)).astype(np.float32)
    of_scores = Panel.fit(values, GENES, scale="zscore")

    aligned = align(profile_of(values[0], scale="zscore"), of_scores)

    assert aligned.present.all()
    with pytest.raises(GeneError, match="mean nothing"):
        align(profile_of(values[0], scale="zscore"), panel())
    with pytest.raises(GeneError, match="same kind of z-scores"):
        align(profile_of(values[0], scale="log2"), of_scores)


def test_other_gene_names_altogether_are_refused() -> None:
    with pytest.raises(GeneError, match="none of the model's 30 genes"):
        align(profile_of(some_values(), tuple(f"X{k}" for k in range(30))), panel())


def test_a_sample_without_any_number_is_told_from_other_gene_names() -> None:
    with pytest.raises(GeneError, match="no number for any"):
        align(profile_of(np.full(30, np.nan)), panel())


def test_a_sample_without_counts_is_refused() -> None:
    with pytest.raises(GeneError, match="no counts"):
        align(profile_of(np.zeros(30), scale="counts"), panel())


@pytest.mark.parametrize(
    ("mean", "sd", "genes"),
    [
        ([0.0], [1.0, 1.0], ("A", "B")),
        ([0.0, 0.0], [1.0, 0.0], ("A", "B")),
        ([0.0, 0.0], [1.0, 1.0], ("A", "A")),
    ],
)
def test_an_impossible_panel_is_refused(
    mean: list[float], sd: list[float], genes: tuple[str, ...]
) -> None:
    with pytest.raises(GeneError):
        Panel(genes, np.float32(mean), np.float32(sd))


def test_a_panel_needs_samples_and_something_that_varies() -> None:
    with pytest.raises(GeneError, match="at least 2"):
        Panel.fit(np.ones((1, 30), "f4"), GENES)
    with pytest.raises(GeneError, match="varies"):
        Panel.fit(np.ones((5, 30), "f4"), GENES)


@pytest.mark.parametrize(("kept", "asks"), [(24, False), (23, True), (1, True)])
def test_a_profile_with_less_than_80_percent_of_the_panel_is_a_question(
    kept: int, asks: bool
) -> None:
    aligned = align(profile_of(some_values()[:kept], GENES[:kept]), panel())

    assert (aligned.question is not None) == asks


def test_the_question_says_what_is_missing_and_how_to_go_on() -> None:
    question = align(profile_of(some_values()[:23], GENES[:23]), panel()).question

    assert question is not None
    assert question.answer == "Run with 76 % of the panel"
    assert str(question.refusal("run with --allow-missing")) == (
        "only 23 of the model's 30 genes (76 %) have a number in the table, 80 % "
        "should; the others (G23, G24, G25, G26, G27 and 2 more) would count as "
        "the training mean. Give a table with more of the model's genes, or run with "
        "--allow-missing to go on all the same"
    )


def test_a_gene_without_a_number_in_this_sample_counts_as_missing() -> None:
    values = some_values()
    values[20:] = np.nan

    question = align(profile_of(values), panel()).question

    assert question is not None
    assert (question.matched, question.missing) == (20, GENES[20:])
