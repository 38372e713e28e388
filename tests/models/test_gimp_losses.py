"""Loss functions against plain loops and numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from gimp_models.losses import (
    batch_hard_triplets,
    cosine_on,
    interpolate_hidden,
    masked_error,
    pair_triplets,
    standardise,
)
from hypothesis import given
from hypothesis import strategies as st

MARGIN = 0.3


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(*shape, generator=g), dim=-1)


@given(
    st.lists(st.sampled_from([-1, 0, 1, 2]), min_size=1, max_size=9),
    st.integers(0, 1000),
)
def test_batch_hard_triplets_equal_plain_loops(labels, seed):
    points = unit(len(labels), 5, seed=seed)
    hinges = []
    for i, own in enumerate(labels):
        away = [float((points[i] - p).norm()) for p in points]
        mates = [j for j, x in enumerate(labels) if x == own and j != i and own >= 0]
        others = [j for j, x in enumerate(labels) if x != own and min(x, own) >= 0]
        if mates and others:
            far, near = max(away[j] for j in mates), min(away[j] for j in others)
            hinges.append(max(0.0, MARGIN + far - near))
    found = batch_hard_triplets(points, torch.tensor(labels), margin=MARGIN)
    assert float(found) == pytest.approx(np.mean(hinges) if hinges else 0, abs=1e-4)


@pytest.mark.parametrize("labels", [[1, 1, 1], [0], [-1, -1], [0, 1, 2]])
def test_a_batch_without_triplets_gives_exactly_0_with_a_live_graph(labels):
    points = unit(len(labels), 4).requires_grad_()
    loss = batch_hard_triplets(points, torch.tensor(labels))
    assert loss.item() == 0
    loss.backward()
    assert points.grad is not None
    assert points.grad.eq(0).all()


def test_identical_embeddings_have_a_finite_gradient():
    points = torch.ones(4, 3, requires_grad=True)
    loss = batch_hard_triplets(points, torch.tensor([0, 0, 1, 1]), margin=MARGIN)
    loss.backward()
    assert loss.item() == pytest.approx(MARGIN)
    assert points.grad.isfinite().all()


def test_pair_triplets_equal_plain_loops():
    anchors, positives, pairs = unit(4, 5), unit(4, 5, seed=1), unit(4, 4, 5, seed=2)
    known = torch.tensor([True, True, False, True])
    hinges = []
    for i in (0, 1, 3):
        near = min((anchors[i] - pairs[i, j]).norm() for j in (0, 1, 3) if j != i)
        hinges.append(max(0, MARGIN + (anchors[i] - positives[i]).norm() - near))
    found = pair_triplets(anchors, positives, pairs, known, margin=MARGIN)
    assert float(found) == pytest.approx(float(sum(hinges)) / 3, abs=1e-5)


def test_pair_triplets_of_one_patient_give_0():
    one = torch.ones(1, dtype=torch.bool)
    assert pair_triplets(unit(1, 5), unit(1, 5), unit(1, 1, 5), one) == 0


@given(st.lists(st.booleans(), min_size=1, max_size=20), st.integers(0, 4))
def test_the_trivial_predictor_equals_numpy_interpolation(hidden, padding):
    n, masked = len(hidden), torch.tensor(hidden + [False] * padding)
    mask = torch.arange(n + padding) < n
    values = torch.randn(n + padding, 3, generator=torch.Generator().manual_seed(1))
    found = interpolate_hidden(values[None], masked[None], mask[None])[0, :n]
    visible = np.flatnonzero(~np.array(hidden))
    if not len(visible):
        assert found.eq(0).all()
        return
    for column in range(3):
        known = values[visible, column].numpy()
        expected = np.interp(np.arange(n), visible, known)
        np.testing.assert_allclose(found[:, column].numpy(), expected, atol=1e-5)


def test_standardised_vectors_have_mean_0_and_variance_1(rng):
    vectors = standardise(5 + 3 * torch.randn(4, 7, 64, generator=rng))
    torch.testing.assert_close(vectors.mean(-1), torch.zeros(4, 7), atol=1e-5, rtol=0)
    spread = vectors.var(-1, unbiased=False)
    torch.testing.assert_close(spread, torch.ones(4, 7), atol=1e-4, rtol=0)


def test_a_constant_vector_stays_finite():
    assert standardise(torch.full((2, 8), 3.0)).eq(0).all()


def test_only_masked_patches_count():
    target, masked = torch.zeros(1, 3, 4), torch.tensor([[False, True, False]])
    predicted = torch.tensor([100.0, 2.0, 100.0])[None, :, None].expand(1, 3, 4)
    assert masked_error(predicted, target, masked) == 4
    assert cosine_on(predicted, -predicted, masked) == pytest.approx(-1)


def test_nothing_masked_gives_0_with_a_live_graph():
    predicted = torch.ones(1, 3, 4, requires_grad=True)
    loss = masked_error(predicted, torch.zeros(1, 3, 4), torch.zeros(1, 3).bool())
    loss.backward()
    assert loss == 0
    assert predicted.grad.eq(0).all()
