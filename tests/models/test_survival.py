"""Discrete-time survival against hand computations, golden numbers and lifelines."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from gimp_models.errors import BatchError, ConfigError
from gimp_models.survival import (
    concordance,
    concordance_interval,
    hazard_nll,
    hazards,
    intervals,
    quantile_edges,
    risk,
    survival_curve,
)

EDGES = (233.5, 511.0, 929.0)  # those of the public code (spec 1)


@pytest.fixture
def golden():
    path = Path(__file__).parents[3] / "shared/golden/subspace/losses.npz"
    if not path.is_file():
        pytest.skip(f"the golden numbers are not at {path}")
    return {name: torch.from_numpy(value) for name, value in np.load(path).items()}


@pytest.fixture
def cohort(rng):
    return draw(rng)


def draw(generator):
    """Risk, days and event of 60 patients with ties of each kind."""
    days = torch.randint(1, 25, (60,), generator=generator).double()
    event = torch.rand(60, generator=generator) < 0.6
    scores = torch.randint(0, 12, (60,), generator=generator).float()
    return scores, days, event


def logits_of(*hazard: float) -> torch.Tensor:
    return torch.tensor([hazard], dtype=torch.float64).logit()


def test_a_day_falls_into_the_bin_that_starts_at_or_before_it():
    days = torch.tensor([0, 233.4, 233.5, 510.9, 511, 929, 9000, math.nan])
    assert intervals(days, EDGES).tolist() == [0, 0, 1, 1, 2, 3, 3, -1]


def test_edges_are_the_quartiles_of_the_known_times_of_death():
    days = torch.tensor([100.0, 200, 300, 400, 500, 7, 9, math.nan])
    event = torch.tensor([True] * 5 + [False, False, True])
    assert quantile_edges(days, event) == (200.0, 300.0, 400.0)


def test_edges_make_bins_that_share_the_deaths_evenly(rng):
    days = torch.rand(1000, generator=rng, dtype=torch.float64) * 3000
    edges = quantile_edges(days, torch.ones(1000, dtype=torch.bool), bins=5)
    assert intervals(days, edges).bincount().tolist() == [200] * 5


@pytest.mark.parametrize("days", [[5.0, 6, 7], [5.0, 5, 5, 5, 5, 9]])
def test_too_few_times_of_death_make_no_bins(days):
    with pytest.raises(BatchError, match="do not make 4 bins"):
        quantile_edges(torch.tensor(days), torch.ones(len(days), dtype=torch.bool))


def test_edges_that_do_not_rise_are_refused():
    with pytest.raises(ConfigError, match="must rise"):
        intervals(torch.tensor([1.0]), (500.0, 200.0))


def test_the_likelihood_of_a_death_is_survival_before_times_the_hazard():
    logits = logits_of(0.1, 0.2, 0.5, 0.9)
    nll = hazard_nll(logits, torch.tensor([2]), torch.tensor([False]))
    assert nll.item() == pytest.approx(-math.log(0.9 * 0.8) - math.log(0.5))


def test_a_death_in_the_first_bin_has_survival_one_before():
    nll = hazard_nll(logits_of(0.3, 0.5), torch.tensor([0]), torch.tensor([False]))
    assert nll.item() == pytest.approx(-math.log(0.3))


def test_the_likelihood_of_a_censored_patient_is_survival_through_the_bin():
    logits = logits_of(0.1, 0.2, 0.5, 0.9)
    nll = hazard_nll(logits, torch.tensor([1]), torch.tensor([True]))
    assert nll.item() == pytest.approx(-math.log(0.9 * 0.8))


def test_the_likelihood_is_the_mean_over_patients_with_known_days():
    logits = torch.cat([logits_of(0.3, 0.5), logits_of(0.4, 0.2), logits_of(0.9, 0.9)])
    interval, censored = torch.tensor([0, 1, -1]), torch.tensor([False, True, False])
    nll = hazard_nll(logits, interval, censored)
    assert nll.item() == pytest.approx((-math.log(0.3) - math.log(0.6 * 0.8)) / 2)


def test_without_a_known_patient_the_likelihood_is_zero_with_a_graph():
    logits = torch.randn(2, 4, requires_grad=True)
    nll = hazard_nll(logits, torch.tensor([-1, -1]), torch.tensor([False, True]))
    nll.backward()
    assert nll == 0
    assert logits.grad.eq(0).all()


@pytest.mark.parametrize(("logit", "censored"), [(-100.0, False), (100.0, True)])
def test_probabilities_are_clamped(logit, censored):
    logits = torch.full((1, 4), logit)
    nll = hazard_nll(logits, torch.tensor([0]), torch.tensor([censored]))
    assert nll.item() == pytest.approx(-math.log(1e-7), rel=1e-6)


def test_certain_and_wrong_hazards_leave_the_gradient_finite():
    logits = torch.tensor([[200.0, -200, 200], [-200, 200, -200]], requires_grad=True)
    hazard_nll(logits, torch.tensor([2, 1]), torch.tensor([False, True])).backward()
    assert logits.grad.isfinite().all()


def test_half_precision_logits_are_measured_in_float32():
    logits = torch.tensor([[-3.0, 2, 1, 0]])
    given = torch.tensor([2]), torch.tensor([False])
    assert hazard_nll(logits.bfloat16(), *given) == hazard_nll(logits, *given)


def test_the_likelihood_equals_that_of_the_public_code(golden):
    interval, censored = golden["interval"], golden["censored"].bool()
    nll = hazard_nll(golden["logits"], interval, censored)
    torch.testing.assert_close(nll, golden["nll"], atol=1e-6, rtol=1e-6)


def test_the_gradient_of_the_likelihood_is_that_of_finite_differences(rng):
    logits = torch.randn(6, 4, generator=rng, dtype=torch.float64, requires_grad=True)
    interval = torch.tensor([0, 1, 2, 3, 3, -1])
    censored = torch.tensor([False, True, False, False, True, False])
    assert torch.autograd.gradcheck(
        lambda given: hazard_nll(given, interval, censored), logits
    )


def test_survival_and_risk_follow_from_the_hazards(rng):
    logits = torch.randn(5, 4, generator=rng, dtype=torch.float64)
    survival = (1 - hazards(logits)).cumprod(1)
    torch.testing.assert_close(survival_curve(logits), survival)
    torch.testing.assert_close(risk(logits), -survival.sum(1))


@pytest.mark.parametrize("seed", range(5))
def test_the_concordance_equals_that_of_lifelines_with_all_kinds_of_ties(seed):
    utils = pytest.importorskip("lifelines.utils", reason="lifelines is not installed")
    scores, days, event = draw(torch.Generator().manual_seed(seed))
    theirs = utils.concordance_index(days.numpy(), -scores.numpy(), event.numpy())
    assert concordance(scores, days, event).item() == pytest.approx(theirs, abs=1e-12)


def test_the_concordance_does_not_depend_on_how_rows_are_split(cohort, monkeypatch):
    whole = concordance(*cohort)
    monkeypatch.setattr("gimp_models.survival._ROWS", 7)
    assert concordance(*cohort) == whole


def test_a_perfect_order_has_concordance_one():
    days, died = torch.tensor([1.0, 2, 3, 4]), torch.ones(4, dtype=torch.bool)
    assert concordance(-days, days, died) == 1
    assert concordance(days, days, died) == 0
    assert concordance(torch.zeros(4), days, died) == 0.5


def test_patients_of_unknown_days_take_no_part_in_the_concordance():
    days, died = torch.tensor([1.0, math.nan, 3]), torch.ones(3, dtype=torch.bool)
    assert concordance(torch.tensor([2.0, 0, 1]), days, died) == 1


def test_no_comparable_pair_has_no_concordance():
    days, event = torch.tensor([5.0, 9]), torch.tensor([False, True])
    assert concordance(torch.randn(2), days, event).isnan()


def test_the_bootstrap_interval_holds_the_concordance_and_narrows(cohort, rng):
    scores, days, event = cohort
    low, high = concordance_interval(scores, days, event, generator=rng, draws=200)
    assert low < concordance(scores, days, event) < high
    many = (column.repeat(8) for column in cohort)
    narrow = concordance_interval(*many, generator=rng, draws=200)
    assert narrow[1] - narrow[0] < 0.6 * (high - low)
