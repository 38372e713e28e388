"""The contrastive loss against plain InfoNCE and loops; retrieval against sorting."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from gimp_models.contrast import (
    contrastive_loss,
    contrastive_targets,
    rank_profiles,
    retrieval,
)
from hypothesis import given, settings
from hypothesis import strategies as st

SCALE = torch.tensor(1 / 0.07)
patients_of_a_batch = st.lists(st.integers(0, 4), min_size=1, max_size=9)


def unit(*shape, seed=0, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(*shape, generator=g, dtype=dtype), dim=-1)


@pytest.mark.parametrize("count", [1, 2, 7])
def test_distinct_patients_give_plain_infonce(count):
    u, g = unit(count, 6), unit(count, 6, seed=1)
    own = torch.arange(count)
    logits = SCALE * u @ g.T
    plain = (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
    found = contrastive_loss(u, g, torch.randperm(count), SCALE)
    torch.testing.assert_close(found, plain)


@given(patients_of_a_batch, st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_several_regions_of_a_patient_equal_plain_loops(patients, seed):
    count = len(patients)
    u, g = unit(count, 4, seed=seed), unit(count, 4, seed=seed + 1)
    s = (SCALE * u @ g.T).tolist()

    def entropy(row, own):
        mates = [j for j in range(count) if patients[j] == patients[own]]
        log_sum = math.log(sum(math.exp(x) for x in row))
        return sum(log_sum - row[j] for j in mates) / len(mates)

    columns = list(zip(*s, strict=True))
    both = [entropy(s[i], i) + entropy(columns[i], i) for i in range(count)]
    found = contrastive_loss(u, g, torch.tensor(patients), SCALE)
    assert float(found) == pytest.approx(sum(both) / count / 2, abs=1e-6)


def test_perfect_pairs_cost_almost_nothing():
    u = torch.eye(5)
    loss = contrastive_loss(u, u, torch.arange(5), torch.tensor(100.0))
    assert 0 <= loss < 1e-6


def test_perfect_pairs_of_m_regions_a_patient_cost_log_m():
    patients = torch.arange(4).repeat_interleave(3)
    u = torch.eye(4)[patients]
    loss = contrastive_loss(u, u, patients, torch.tensor(100.0))
    assert float(loss) == pytest.approx(math.log(3), abs=1e-6)


def test_mismatched_pairs_cost_the_scale():
    u = torch.eye(4)
    loss = contrastive_loss(u, u.roll(1, 0), torch.arange(4), torch.tensor(50.0))
    assert float(loss) == pytest.approx(50, rel=1e-4)


def test_targets_are_shares_of_the_own_patient():
    found = contrastive_targets(torch.tensor([7, 3, 7]))
    half = [0.5, 0, 0.5]
    assert found.tolist() == [half, [0, 1, 0], half]


def test_every_input_of_the_loss_gets_a_gradient():
    u, g = unit(4, 3).requires_grad_(), unit(4, 3, seed=1).requires_grad_()
    scale = SCALE.double().requires_grad_()
    patients = torch.tensor([0, 0, 1, 2])
    torch.autograd.gradcheck(contrastive_loss, (u, g, patients, scale))
    contrastive_loss(u, g, patients, scale).backward()
    assert all(t.grad.abs().sum() > 0 for t in (u, g, scale))


def test_autocast_does_not_coarsen_the_loss():
    u, g = unit(6, 32).float(), unit(6, 32, seed=1).float()
    scale = torch.tensor(100.0)
    exact = contrastive_loss(u, g, torch.arange(6), scale)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = contrastive_loss(u, g, torch.arange(6), scale)
    assert torch.equal(found, exact)


@given(patients_of_a_batch, st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_retrieval_equals_sorting(patients, seed):
    count = len(patients)
    names = list(dict.fromkeys(patients))
    u = unit(count, 4, seed=seed)
    profile = dict(zip(names, unit(len(names), 4, seed=seed + 1), strict=True))
    g = torch.stack([profile[name] for name in patients])
    found = retrieval(u, g, torch.tensor(patients))
    ranks = []
    for row, own in zip(u, patients, strict=True):
        order = sorted(names, key=lambda name: -float(row @ profile[name]))
        ranks.append(order.index(own) + 1)
    assert_ranking(found.profiles, ranks)
    ranks = []
    for name in names:
        order = sorted(range(count), key=lambda i: -float(u[i] @ profile[name]))
        ranks.append([patients[i] for i in order].index(name) + 1)
    assert_ranking(found.regions, ranks)


def assert_ranking(found, ranks):
    values = torch.tensor(ranks, dtype=torch.float64)
    assert found.queries == len(ranks)
    assert found.recall_1 == pytest.approx(float((values <= 1).double().mean()))
    assert found.recall_5 == pytest.approx(float((values <= 5).double().mean()))
    assert found.median_rank == float(values.quantile(0.5))


def test_chance_is_what_a_random_order_gives():
    patients = torch.tensor([0, 0, 0, 1, 2, 2, 3, 4, 5, 6])
    draws = [
        retrieval(
            unit(10, 9, seed=2 * s), unit(7, 9, seed=2 * s + 1)[patients], patients
        )
        for s in range(400)
    ]
    for way in ("profiles", "regions"):
        told = getattr(draws[0], way)
        for k in (1, 5):
            seen = sum(getattr(getattr(d, way), f"recall_{k}") for d in draws) / 400
            assert seen == pytest.approx(getattr(told, f"chance_{k}"), abs=0.025)
    assert draws[0].profiles.chance_1 == pytest.approx(1 / 7)
    assert draws[0].profiles.chance_rank == 4
    assert draws[0].regions.chance_rank == pytest.approx(
        (11 / 4 + 11 / 3 + 5 * 11 / 2) / 7
    )


def test_a_constant_embedding_is_worth_the_rank_of_chance():
    same = torch.ones(8, 3) / 3**0.5
    found = retrieval(same, same, torch.arange(8))
    assert found.profiles.median_rank == found.profiles.chance_rank == 4.5
    assert found.profiles.recall_1 == 0


def test_own_regions_do_not_compete_with_each_other():
    matrix = torch.tensor([[0.9, 0.8, 0.1], [0.2, 0.3, 0.7]])
    own = torch.tensor([[True, True, False], [True, False, False]])
    assert rank_profiles(matrix, own).tolist() == [1, 3]
