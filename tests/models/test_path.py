"""Integrated gradients along a path, on functions whose integral is known."""

from __future__ import annotations

import pytest
import torch
from gimp_models.evidence.path import MOST_PARTS, along_path
from torch import Tensor


def ends(*shape: int) -> tuple[Tensor, Tensor]:
    return torch.full((1, *shape), 2.0), torch.full((1, *shape), -1.0)


def straight(x: Tensor) -> Tensor:
    return 3 * x.flatten(1).sum(1)


def step_near_the_end(x: Tensor) -> Tensor:
    return torch.sigmoid(60 * (x.mean(1) - 1.7))


def test_a_polynomial_of_degree_three_is_integrated_exactly():
    weights = torch.tensor([1.0, -2.0, 0.5])

    def cubic(x: Tensor) -> Tensor:
        return (weights * x**3).sum(1)

    *_, last = along_path(cubic, *ends(3))

    torch.testing.assert_close(last.attribution, weights * (2.0**3 + 1))
    assert last.done == 1
    assert last.gap < 1e-6


@pytest.mark.parametrize("shape", [(4,), (3, 5), (2, 3, 4)])
def test_inputs_may_have_any_shape(shape):
    *_, last = along_path(straight, *ends(*shape))

    torch.testing.assert_close(last.attribution, torch.full(shape, 9.0))


def test_parts_are_halved_where_the_target_bends_and_only_there():
    bent = [part.done for part in along_path(step_near_the_end, *ends(3))]

    assert [p.done for p in along_path(straight, *ends(3))] == [0.25, 0.5, 0.75, 1]
    assert bent == sorted(bent)
    assert len([end for end in bent if end > 0.75]) > 3
    assert len([end for end in bent if end <= 0.5]) == 2


def test_the_sum_so_far_is_the_change_so_far():
    inputs, baseline = ends(3)
    for part in along_path(step_near_the_end, inputs, baseline, 1e-3):
        here = baseline + part.done * (inputs - baseline)
        change = float(step_near_the_end(here) - step_near_the_end(baseline))
        assert float(part.attribution.sum()) == pytest.approx(change, abs=1e-3)


def test_a_target_that_jumps_ends_in_a_reported_gap_not_in_a_loop():
    def jump(x: Tensor) -> Tensor:  # gradients know nothing of the jump
        return (x.mean(1) > 0.123).float() + 0 * x.sum(1)

    parts = list(along_path(jump, *ends(3)))

    assert len(parts) <= MOST_PARTS
    assert parts[-1].gap == pytest.approx(1)


def test_a_slope_that_jumps_is_found_and_passed():
    """As bilinear sampling does at the border of a cell, here in 40 places."""
    g = torch.Generator().manual_seed(2)
    places, kinks = torch.rand(40, generator=g), torch.randn(40, generator=g)

    def bent(x: Tensor) -> Tensor:
        along = (x.mean(1, keepdim=True) + 1) / 3
        return along[:, 0] + (torch.relu(along - places) * kinks).sum(1)

    parts = list(along_path(bent, *ends(3)))

    assert len(parts) < MOST_PARTS / 4
    assert parts[-1].gap < 0.02


def test_a_jump_costs_only_its_own_surroundings():
    def jump(x: Tensor) -> Tensor:
        return (x.mean(1) > -0.9).float() + step_near_the_end(x)

    parts = list(along_path(jump, *ends(3)))
    gaps = {part.done: part.gap for part in parts}

    assert len(parts) < 40
    assert gaps[0.25] == pytest.approx(0.5, abs=0.01)  # half of the change is lost
    assert gaps[1] == pytest.approx(0.5, abs=0.01)  # and nothing after it


def test_the_gap_of_a_small_target_is_measured_against_the_floor_given():
    def small(x: Tensor) -> Tensor:
        return 1e-4 * step_near_the_end(x)

    coarse = list(along_path(small, *ends(3)))
    fine = list(along_path(small, *ends(3), floor=1e-6))

    assert len(fine) > len(coarse) == 4


def test_one_point_at_once_gives_what_two_give():
    *_, two = along_path(step_near_the_end, *ends(3))
    *_, one = along_path(step_near_the_end, *ends(3), at_once=1)

    torch.testing.assert_close(one.attribution, two.attribution)


def test_no_gradient_is_left_and_none_flows_to_the_caller():
    layer = torch.nn.Linear(3, 1)
    inputs, baseline = ends(3)
    inputs.requires_grad_()
    with torch.no_grad():
        *_, last = along_path(lambda x: layer(x)[:, 0], inputs, baseline)

    assert layer.weight.grad is None
    assert inputs.grad is None
    assert not last.attribution.requires_grad


def test_double_precision_stays_double():
    inputs, baseline = ends(3)
    *_, last = along_path(step_near_the_end, inputs.double(), baseline.double())

    assert last.attribution.dtype == torch.float64


@pytest.mark.filterwarnings("ignore::UserWarning:captum")
def test_the_integral_agrees_with_captums():
    captum = pytest.importorskip("captum.attr", reason="captum is not installed")
    g = torch.Generator().manual_seed(0)
    first, second = (
        torch.randn(6, n, generator=g, dtype=torch.float64) for n in (9, 4)
    )

    def target(x: Tensor) -> Tensor:
        return torch.tanh(x @ first).sum(1) + (x @ second).square().sum(1)

    inputs, baseline = torch.randn(2, 1, 6, generator=g, dtype=torch.float64)
    peer = captum.IntegratedGradients(target, multiply_by_inputs=True)
    expected = peer.attribute(inputs, baseline, n_steps=200)[0]
    *_, last = along_path(target, inputs, baseline, 1e-6)

    torch.testing.assert_close(last.attribution, expected, atol=1e-6, rtol=1e-4)
