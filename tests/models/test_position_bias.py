"""Attention with a bias of distance, against the same written out in full."""

from __future__ import annotations

from typing import Any

import gimp_models.position_bias
import pytest
import torch
from gimp_models.position_bias import PositionBias, attend
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

ROWS, HEIGHT, WIDE, KEYS, WIDTH = 4, 3, 5, 6, 7


@pytest.fixture
def bias() -> PositionBias:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        return PositionBias(8).double()


@pytest.fixture
def operands(rng: torch.Generator) -> list[Tensor]:
    """Query, key, value, positions."""
    shapes = (WIDTH, HEIGHT, WIDE), (WIDTH, KEYS), (WIDTH, KEYS), (KEYS, 2)
    return [
        torch.randn(
            ROWS, *shape, dtype=torch.float64, generator=rng, requires_grad=True
        )
        for shape in shapes
    ]


def mix(bias: PositionBias, operands: list[Tensor], **options: Any) -> Tensor:
    query, key, value, positions = operands
    return attend(query, key, value, bias, positions, **options)[0]


def weights(bias: PositionBias, operands: list[Tensor]) -> Tensor:
    """Softmax over all pairs at once (R,N,J)."""
    query, key, _, positions = operands
    y, x = torch.meshgrid(
        torch.linspace(-1, 1, HEIGHT), torch.linspace(-1, 1, WIDE), indexing="ij"
    )
    cells = torch.stack([x, y], dim=-1).view(1, -1, 1, 2).double()
    scores = query.flatten(2).mT @ key / WIDTH**0.5 + bias(cells - positions[:, None])
    return scores.softmax(-1)


def test_it_equals_attention_written_out(bias, operands):
    written = operands[2] @ weights(bias, operands).mT
    torch.testing.assert_close(mix(bias, operands).flatten(2), written)


def test_without_a_bias_it_is_torchs_attention(bias, operands):
    torch.nn.init.zeros_(bias.last.weight)
    query, key, value, _ = operands
    torchs = torch.nn.functional.scaled_dot_product_attention(
        query.flatten(2).mT, key.mT, value.mT
    )
    torch.testing.assert_close(mix(bias, operands).flatten(2).mT, torchs)


@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_gradients_are_those_of_finite_differences(
    bias, operands, dropout, monkeypatch, rng
):
    """With dropout too: the backward pass drops what the forward pass dropped."""
    for limits in (gimp_models.position_bias._BLOCK, gimp_models.position_bias._CHUNK):
        monkeypatch.setitem(limits, "cpu", 20)
    monkeypatch.setattr(gimp_models.position_bias, "_KEPT", 100)
    seen = torch.rand(ROWS, KEYS, generator=rng).double().add(0.1).requires_grad_()
    names, layers = zip(*bias.named_parameters(), strict=True)

    def mixed(seen: Tensor, *tensors: Tensor) -> Tensor:
        torch.manual_seed(5)
        return torch.func.functional_call(
            _Mix(bias, seen, list(tensors[:4]), dropout),
            {f"bias.{n}": p for n, p in zip(names, tensors[4:], strict=True)},
            (),
        )

    assert torch.autograd.gradcheck(mixed, (seen, *operands, *layers), fast_mode=True)


class _Mix(torch.nn.Module):
    """`attend` as a function of the bias' layers."""

    def __init__(
        self, bias: PositionBias, seen: Tensor, operands: list[Tensor], dropout: float
    ) -> None:
        super().__init__()
        self.bias, self.given = bias, (operands, seen, dropout)

    def forward(self) -> Tensor:
        operands, seen, dropout = self.given
        return mix(self.bias, operands, seen=seen, dropout=dropout)


def test_gradients_of_gradients_are_refused(bias, operands):
    grad = torch.autograd.grad(
        mix(bias, operands).sin().sum(), operands[:1], create_graph=True
    )[0]
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


def test_dropout_drops_the_stated_share_and_scales_the_rest(bias, operands):
    """Values that are one key each let the dropped weights be read."""
    operands[2] = torch.eye(KEYS).double().expand(ROWS, KEYS, KEYS)
    query, key = operands[0], operands[1]
    operands[0] = query.repeat(1, 1, 30, 30)
    operands[1] = torch.zeros_like(key)
    torch.nn.init.zeros_(bias.last.weight)  # all weights are 1 / KEYS
    queries, keys = operands[0][:, :KEYS], operands[1][:, :KEYS]
    dropped = attend(queries, keys, operands[2], bias, operands[3], dropout=0.25)[0]
    kept = dropped != 0
    assert kept.double().mean() == pytest.approx(0.75, abs=0.01)
    torch.testing.assert_close(
        dropped[kept], torch.full_like(dropped[kept], 1 / KEYS / 0.75)
    )


def test_a_key_that_is_half_seen_counts_half(bias, operands):
    """Its weight before normalisation, so that two halves make a whole."""
    query, key, value, positions = operands
    twice = [
        torch.cat([x, x[:, :, :1] if x.ndim == 3 else x], dim=-1) for x in (key, value)
    ]
    doubled = torch.cat([positions, positions[:, :1]], dim=1)
    seen = torch.ones(ROWS, KEYS + 1).double()
    seen[:, [0, -1]] = 0.5
    half = attend(query, *twice, bias, doubled, seen=seen)[0]
    torch.testing.assert_close(half, mix(bias, operands))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_comes_back_as_it_went_in(bias, operands, dtype):
    exact = mix(bias, operands)
    half = mix(bias.float(), [x.to(dtype) for x in operands[:3]] + operands[3:])
    assert half.dtype == dtype
    torch.testing.assert_close(half.double(), exact, atol=0.05, rtol=0.05)


@given(
    st.integers(1, 9),
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(1, 300),
    st.sampled_from(["cpu", "meta"]),
)
def test_blocks_cover_every_query_once_and_are_small(rows, height, width, keys, device):
    query = torch.empty(rows, 1, height, width, device=device)
    blocks = gimp_models.position_bias._blocks(query, keys)
    count = torch.zeros(rows, 1, height, width, dtype=torch.int64)
    for block in blocks:
        count[block.rows, :, block.ys, block.xs] += 1
    assert (count == 1).all()
    most = max((1 << 19) // keys, 1)
    sizes = [b.shape[0] * b.shape[1] * b.shape[2] for b in blocks]
    assert max(sizes) == sizes[0] <= most
