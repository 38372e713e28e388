"""Deformable cross-attention: what it must keep, whatever the grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from gimp_models.deformable import DeformableAttention, Deformed, key_side
from gimp_models.errors import BatchError, ConfigError
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

SMALL = {"heads": 2, "head_width": 6, "stride": 2, "kernel": 4, "bias_width": 8}
WIDTH = 12


@dataclass
class Case:
    """A small attention in float64 on a grid that is not square, with holes."""

    net: DeformableAttention
    query: Tensor
    context: Tensor
    mask: Tensor

    def __call__(self, **changed: Any) -> Deformed:
        mine = {"query": self.query, "context": self.context, "mask": self.mask}
        return self.net(**{**mine, **changed})


@pytest.fixture
def case(rng: torch.Generator) -> Case:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        net = DeformableAttention(WIDTH, **SMALL).double().eval()
    query, context = torch.randn(
        2, 3, WIDTH, 7, 10, dtype=torch.float64, generator=rng
    ).unbind()
    mask = torch.rand(3, 7, 10, generator=rng) > 0.5
    return Case(net, query, context, mask)


def test_keys_lie_twelve_by_twelve_on_the_papers_grid(rng):
    found = DeformableAttention().eval()(*torch.randn(2, 1, 128, 50, 50, generator=rng))
    assert found.output.shape == (1, 128, 50, 50)
    assert found.vgrid.shape == (8, 2, 12, 12)
    assert found.positions.shape == (8, 12, 12, 2)
    assert found.key_weights is None


@given(st.integers(4, 60), st.integers(1, 5), st.integers(0, 3))
def test_the_number_of_keys_is_that_of_the_offset_convolution(side, stride, pad):
    kernel = stride + 2 * pad
    line = torch.nn.Conv1d(1, 1, kernel, stride=stride, padding=pad)
    if side < stride:
        with pytest.raises(ConfigError, match="room for a key"):
            key_side(side, kernel, stride)
    else:
        assert key_side(side, kernel, stride) == line(torch.zeros(1, side)).shape[-1]


@pytest.mark.parametrize("content", [5.0, float("nan")])
def test_what_empty_cells_hold_changes_nothing(case, content):
    empty = ~case.mask[:, None]
    first = case(key_weights=True)
    second = case(
        query=case.query.masked_fill(empty, content),
        context=case.context.masked_fill(empty, content),
        key_weights=True,
    )
    assert torch.equal(first.output, second.output)
    assert torch.equal(first.vgrid, second.vgrid)
    assert torch.equal(first.key_weights, second.key_weights)
    assert (first.output.masked_select(empty) == 0).all()


def test_empty_cells_get_no_gradient(case):
    query, context = case.query.requires_grad_(), case.context.requires_grad_()
    case().output.sin().sum().backward()
    empty = ~case.mask[:, None]
    for grad in (query.grad, context.grad):
        assert (grad.masked_select(empty) == 0).all()
        assert grad.masked_select(~empty).abs().sum() > 0


def test_keys_that_see_no_real_cell_get_no_weight(case):
    mask = torch.zeros_like(case.mask)
    mask[:, :3, :3] = True
    found = case(mask=mask, key_weights=True)
    corner = (found.positions + 1) * torch.tensor([10, 7]) / 2  # in cells, from 0
    blind = (corner > 3.5).any(-1).flatten(1)  # a cell is read within one cell of it
    weights = found.key_weights.flatten(0, 1)
    assert blind.any()
    assert (weights[blind] == 0).all()
    torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights[:, 0]))


def test_a_key_fades_smoothly_as_it_leaves_the_real_cells(case):
    """A path of queries, finely stepped, has no jump: gradients can be added up."""
    ends = case.query[:1], 4 * case.context[:1]
    steps = torch.linspace(0, 1, 2000, dtype=torch.float64)[:, None, None, None]
    path = ends[0] + steps * (ends[1] - ends[0])
    mask, context = case.mask[:1], case.context[:1]
    with torch.no_grad():
        found = case.net(path, context.expand_as(path), mask.expand(len(path), -1, -1))
    seen = case.net._seen(mask.expand(len(path), -1, -1), found.positions)
    assert ((seen[:-2] > 0) != (seen[2:] > 0)).any(), "no key leaves on this path"
    change = found.output.diff(dim=0).abs().amax((1, 2, 3))
    assert change.max() < 20 * change.mean()


def test_a_bag_without_real_cells_stays_finite(case):
    case.mask[1] = False
    query = case.query.requires_grad_()
    found = case(key_weights=True)
    found.output.square().sum().backward()
    assert (found.output[1] == 0).all()
    assert (found.key_weights[1] == 0).all()
    for tensor in (found.output, query.grad, *(p.grad for p in case.net.parameters())):
        assert tensor.isfinite().all()


def test_weights_of_the_keys_sum_to_one(case):
    for mask in (case.mask, None):
        weights = case(mask=mask, key_weights=True).key_weights
        torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights[..., 0]))


def test_a_batch_equals_its_members(case):
    together = case(key_weights=True)
    for i in range(3):
        one = case.net(
            case.query[i : i + 1],
            case.context[i : i + 1],
            case.mask[i : i + 1],
            key_weights=True,
        )
        torch.testing.assert_close(one.output[0], together.output[i])
        torch.testing.assert_close(one.key_weights[0], together.key_weights[i])
        torch.testing.assert_close(one.vgrid, together.vgrid[2 * i : 2 * i + 2])


def test_keys_move_at_most_four_cells_of_their_grid(case):
    far = case(query=1e6 * case.query, mask=None).vgrid
    y, x = torch.meshgrid(torch.arange(3), torch.arange(5), indexing="ij")
    moved = far - torch.stack([x, y])
    assert moved.abs().max() <= 4
    assert moved.abs().max() > 3.99


def test_every_parameter_learns(case):
    case().output.sin().sum().backward()
    dead = [n for n, p in case.net.named_parameters() if not p.grad.abs().max() > 1e-12]
    assert dead == []


def test_dropout_follows_torchs_seed(case):
    case.net.train()
    torch.manual_seed(1)
    first = case().output
    other = case().output
    torch.manual_seed(1)
    assert torch.equal(case().output, first)
    assert not torch.equal(other, first)


def test_half_precision_stays_near_and_positions_stay_exact(case):
    net = case.net.float()
    query, context = case.query.float(), case.context.float()
    whole = net(query, context, case.mask)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = net(query, context, case.mask)
        half.output.float().square().mean().backward()
    assert half.vgrid.dtype == half.positions.dtype == torch.float32
    torch.testing.assert_close(half.output.float(), whole.output, atol=0.02, rtol=0.02)
    assert all(p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_finds_the_same(case):
    here = case().output
    case.net.cuda()
    there = case(
        query=case.query.cuda(), context=case.context.cuda(), mask=case.mask.cuda()
    )
    torch.testing.assert_close(there.output.cpu(), here)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": 5}, "multiple of the heads"),
        ({"kernel": 5}, "plus an even number"),
        ({"kernel": 0}, "plus an even number"),
        ({"stride": 0}, "plus an even number"),
        ({"dropout": 1.0}, r"in \[0, 1\)"),
    ],
)
def test_sizes_that_contradict_each_other_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        DeformableAttention(WIDTH, **{**SMALL, **options})


def test_tensors_that_do_not_fit_are_refused(case):
    with pytest.raises(BatchError, match="both must be"):
        case(context=case.context[..., :-1])
    with pytest.raises(BatchError, match=r"must be \(B, h, w\)"):
        case(mask=case.mask[:, :-1])
    with pytest.raises(ConfigError, match="room for a key"):
        case.net(case.query[..., :1], case.context[..., :1])
