"""Attention biased by a learned function of distance, never written out in full.

A query's score for a key is q k / sqrt(d) + bias(D), D the difference of their
positions and the bias an MLP of sign(D) log(1 + |D|) (spec subspace 3.4). Written
plainly its hidden layers hold R N J C values (92 million at base size) several times
over. Here scores are made block by block, small enough for the processor's cache, and
made again in the backward pass, so that nothing of size R N J is ever kept. Values
and gradients are exact.

Shape letters: R = bags times heads, d head width, N = h w queries on a grid, J keys,
C hidden width of the bias, M = queries times keys of one block.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

__all__ = ["PositionBias", "attend"]

_PAIRS = {"cpu": 1 << 14, "cuda": 1 << 18}
"""M at most: a hidden layer of 32 takes 2 MB, about what a core's cache holds, or
32 MB on a GPU, which wants few large steps."""
_FEWEST = 16
"""Queries per block at least, however many keys there are."""

_relu_backward = torch.ops.aten.threshold_backward.grad_input
"""Gradient where the unit is active, else 0: the one pass that autograd uses."""


class PositionBias(nn.Module):
    """MLP 2 -> C -> C -> 1 with ReLU of log distances, one for all heads.

    The last layer has no bias: it would add the same to all keys' scores, which
    softmax does not notice.

    Parameters
    ----------
    width
        C.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Linear(2, width)
        self.second = nn.Linear(width, width)
        self.last = nn.Linear(width, 1, bias=False)

    def forward(self, difference: Tensor) -> Tensor:
        """Return the bias (...) of differences (...,2), query minus key, as (x, y)."""
        hidden = torch.relu(self.first(_signed_log(difference)))
        bias: Tensor = self.last(torch.relu(self.second(hidden))).squeeze(-1)
        return bias

    def affine(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the layers as (C,3), (C,C+1) and (1,C), the bias as last column."""
        first, second = (
            torch.cat([layer.weight, layer.bias[:, None]], dim=1)
            for layer in (self.first, self.second)
        )
        return first, second, self.last.weight


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: PositionBias,
    positions: Tensor,
    *,
    seen: Tensor | None = None,
    real: Tensor | None = None,
    dropout: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Mix values by softmax(q k / sqrt(d) + bias(distance) + log(seen)).

    Gradients can be taken once, not of gradients. Half precision is computed in
    float32, where the sums over keys and blocks need it.

    Parameters
    ----------
    query
        (R,d,h,w); cell (y, x) lies at 2 x / (w-1) - 1, 2 y / (h-1) - 1.
    key, value
        (R,d,J).
    bias
        The bias of distance.
    positions
        (R,J,2) of the keys, as (x, y).
    seen
        (R,J) in [0,1], how much a key counts: its weight before normalisation is
        multiplied by it. None for 1. A row that sees nothing mixes to 0.
    real
        (R,h,w) bool, queries that count in the keys' mean weights; None for all.
    dropout
        Share of weights dropped, in [0, 1); drawn from torch's generator.

    Returns
    -------
    tuple of Tensor
        Mixed values (R,d,h,w), in the type of `query`, and the keys' weights (R,J),
        mean over the real queries before dropout, without gradient.
    """
    work = torch.promote_types(query.dtype, torch.float32)
    work = torch.promote_types(work, bias.last.weight.dtype)
    with _exactly(query):
        scaled = key.to(work) / query.shape[1] ** 0.5
        seen = positions.new_ones(key[:, 0].shape) if seen is None else seen
        counts = _log(seen.to(work))
        places = positions.to(work)
        operands = (query.to(work), scaled, value.to(work), counts, places)
        layers = (layer.to(work) for layer in bias.affine())
        mixed, weights = _Attend.apply(  # type: ignore[no-untyped-call]  # torch's
            _shares(query, real, work), dropout, _seed(dropout), *layers, *operands
        )
        blind = ~(seen > 0).any(-1)
        mixed = mixed.masked_fill(blind[:, None, None, None], 0)
    return mixed.to(query.dtype), weights.masked_fill(blind[:, None], 0)


def _exactly(like: Tensor) -> AbstractContextManager[Any]:
    """Switch automatic half precision off."""
    return torch.autocast(like.device.type, enabled=False)


def _log(seen: Tensor) -> Tensor:
    """Return log(seen), and where nothing is seen the least number, not -inf.

    A row of -inf would have no softmax; its gradient would not be finite.
    """
    some = seen > 0
    logs = torch.where(some, seen, 1).log()
    return logs.masked_fill(~some, torch.finfo(seen.dtype).min)


def _signed_log(difference: Tensor) -> Tensor:
    return torch.sign(difference) * torch.log1p(difference.abs())


def _axis(side: int, like: Tensor) -> Tensor:
    """Return where cells lie along a side: the outer ones at -1 and 1."""
    cells = torch.arange(side, device=like.device, dtype=like.dtype)
    return 2 * cells / max(side - 1, 1) - 1


def _shares(query: Tensor, real: Tensor | None, dtype: torch.dtype) -> Tensor:
    """Return each query's share (R,1,h,w) of the keys' mean weights."""
    if real is None:
        real = torch.ones_like(query[:, 0], dtype=torch.bool)
    counted = real[:, None].to(dtype)
    return counted / counted.sum((2, 3), keepdim=True).clamp_min(1)


def _seed(dropout: float) -> int:
    """Draw what the dropped weights are drawn from, twice: forward and backward."""
    return int(torch.randint(1 << 62, ())) if dropout else 0


class _Operands(NamedTuple):
    """What scores and mixed values are made of, or the gradients of these."""

    query: Tensor  # (R,d,h,w)
    key: Tensor  # (R,d,J), divided by sqrt(d)
    value: Tensor  # (R,d,J)
    counts: Tensor  # (R,J) log of how much a key counts
    positions: Tensor  # (R,J,2)


class _Walk:
    """A walk over the blocks, the same every time: also in what dropout drops."""

    def __init__(self, saved: Sequence[Any], dropout: float, seed: int) -> None:
        first, second, last = saved[:3]
        self.operands = _Operands(*saved[3:])
        self.dropout = dropout
        query, key = self.operands[:2]
        self.blocks = _blocks(query, keys=key.shape[-1])
        self.axes = [_axis(side, key) for side in query.shape[-2:]]
        # the first block is never smaller than the others
        self.mlp = _Mlp(first, second, last, prod(self.blocks[0].shape) * key.shape[-1])
        self.generator = torch.Generator(key.device).manual_seed(seed)

    def weights(self, block: _Block) -> Tensor:
        """Return a block's attention (r,n,J) before dropout."""
        query, key, _, counts, _ = self.operands
        rows = block.rows
        scores = torch.baddbmm(counts[rows, None], block.of(query).mT, key[rows])
        across, down = self.log_distances(block)
        self.mlp.add_to(scores, across[:, None], down[:, :, None])
        return torch.softmax(scores, dim=-1)

    def log_distances(self, block: _Block) -> tuple[Tensor, Tensor]:
        """Return signed log distances along x (r,x,J) and along y (r,y,J).

        A column of queries shares its x and a row its y: few logarithms for all pairs.
        """
        x, y = self.operands.positions[block.rows, None].unbind(-1)
        down, across = self.axes[0][block.ys, None], self.axes[1][block.xs, None]
        return _signed_log(across - x), _signed_log(down - y)

    def keep(self, weights: Tensor) -> Tensor:
        """Draw what dropout multiplies a block's weights with."""
        if not self.dropout:
            return weights.new_ones(())
        kept = 1 - self.dropout
        draw = torch.empty_like(weights).bernoulli_(kept, generator=self.generator)
        return draw.div_(kept)


class _Attend(torch.autograd.Function):
    """Attention whose scores live one block at a time, in both directions."""

    @staticmethod
    def forward(
        ctx: Any, shares: Tensor, dropout: float, seed: int, *saved: Tensor
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(*saved)
        ctx.draws = dropout, seed
        walk = _Walk(saved, dropout, seed)
        query, _, value, *_ = walk.operands
        mixed, means = torch.empty_like(query), torch.zeros_like(value[:, :1])
        for block in walk.blocks:
            weights = walk.weights(block)
            means[block.rows].baddbmm_(block.of(shares), weights)
            weights *= walk.keep(weights)
            block.put(value[block.rows] @ weights.mT, mixed)
        means = means.squeeze(1)
        ctx.mark_non_differentiable(means)
        return mixed, means

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        with _exactly(grad):
            walk = _Walk(ctx.saved_tensors, *ctx.draws)
            grads = _Operands(*map(torch.zeros_like, walk.operands))
            for block in walk.blocks:
                _add_gradients(walk, block, block.of(grad), to=grads)
        return None, None, None, *walk.mlp.gradients(), *grads


def _add_gradients(walk: _Walk, block: _Block, grad: Tensor, *, to: _Operands) -> None:
    """Add a block's part of the gradients, `grad` (r,d,n) that of its mixed values.

    With A the weights, S the scores and O = V (keep A)^T: dA = keep (dO^T V) and
    dS = A (dA - sum_j A dA).
    """
    query, key, value = walk.operands[:3]
    rows = block.rows
    weights = walk.weights(block)
    keep = walk.keep(weights)
    to.value[rows].baddbmm_(grad, weights * keep)
    scores = (grad.mT @ value[rows]).mul_(keep)
    scores = scores.sub_((weights * scores).sum(-1, keepdim=True)).mul_(weights)
    block.put(key[rows] @ scores.mT, to.query)
    to.key[rows].baddbmm_(block.of(query), scores)
    to.counts[rows] += scores.sum(1)
    across, down = walk.mlp.backward(scores).view(2, *block.shape, -1)
    sums = across.sum(1), down.sum(2)
    for channel, logs in enumerate(walk.log_distances(block)):
        slope = torch.exp(-logs.abs())  # of sign(D) log(1 + |D|): 1 / (1 + |D|)
        to.positions[rows, :, channel] -= (sums[channel] * slope).sum(1)


@dataclass(frozen=True, slots=True)
class _Block:
    """Some rows of R, some rows y and some columns x of the grid of queries."""

    rows: slice
    ys: slice
    xs: slice

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of rows of R, of rows and of columns of the grid."""
        rows, ys, xs = (s.stop - s.start for s in (self.rows, self.ys, self.xs))
        return rows, ys, xs

    def of(self, x: Tensor) -> Tensor:
        """Return the block's part of (R,d,h,w) as (r,d,n)."""
        return x[self.rows, :, self.ys, self.xs].flatten(2)

    def put(self, part: Tensor, into: Tensor) -> None:
        """Write (r,d,n) into the block's part of (R,d,h,w)."""
        place = into[self.rows, :, self.ys, self.xs]
        place.copy_(part.view(place.shape))


def _blocks(query: Tensor, keys: int) -> list[_Block]:
    """Cut queries (R,d,h,w) evenly: R first, then y, then x, to reach `_PAIRS`."""
    rows, _, height, width = query.shape
    limit = _PAIRS.get(query.device.type, _PAIRS["cpu"])
    most = max(limit // keys, _FEWEST)
    rs = _cut(rows, most // (height * width))
    ys = _cut(height, most // width)
    xs = _cut(width, most)
    return [_Block(*where) for where in product(rs, ys, xs)]


def _cut(length: int, most: int) -> list[slice]:
    """Cut a length into equal runs of at most `most`, or of one."""
    step = -(-length // -(-length // max(most, 1)))
    return [slice(i, min(i + step, length)) for i in range(0, length, step)]


class _Mlp:
    """The bias of one block of distances, in memory used again for every block.

    Channels come first, so that every layer is one wide product of matrices whose
    bias is the weight of a row of ones.
    """

    def __init__(self, first: Tensor, second: Tensor, last: Tensor, most: int) -> None:
        width = len(second)
        self.layers = first, second, last
        self.inputs = first.new_ones(3, most)
        self.hidden = first.new_ones(width + 1, most)
        self.outer, self.spare = first.new_empty(2, width, most)
        self.grads = first.new_zeros(3, width), first.new_zeros(width + 1, width)

    def add_to(self, scores: Tensor, across: Tensor, down: Tensor) -> None:
        """Add the bias to scores (r,n,J), of (r,1,x,J) and (r,y,1,J) log distances."""
        first, second, last = self.layers
        inputs, hidden, outer = self._parts(scores.numel())
        shape = (*down.shape[:2], *across.shape[2:])
        for row, distance in zip(inputs, (across, down), strict=False):
            row.view(shape).copy_(distance)
        torch.mm(first, inputs, out=hidden[:-1]).relu_()
        torch.mm(second, hidden, out=outer).relu_()
        scores.view(1, -1).addmm_(last, outer)

    def backward(self, grad: Tensor) -> Tensor:
        """Return the distances' gradients (2,M) from the scores' of the last block.

        With m = grad where the outer unit is active, the last layer needs no product
        of its own: sum(grad relu(z)) = sum(m z), z the outer layer's affine map.
        """
        first, second, last = self.layers
        inputs, hidden, outer = self._parts(grad.numel())
        inner = self.spare[:, : grad.numel()]
        _relu_backward(grad.view(1, -1).expand_as(outer), outer, 0, grad_input=outer)
        self.grads[1].addmm_(hidden, outer.mT)
        torch.mm((second[:, :-1] * last.mT).mT, outer, out=inner)
        _relu_backward(inner, hidden[:-1], 0, grad_input=inner)
        self.grads[0].addmm_(inputs, inner.mT)
        grad_inputs: Tensor = first[:, :2].mT @ inner
        return grad_inputs

    def gradients(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the layers' gradients, of all blocks so far."""
        _, second, last = self.layers
        active = self.grads[1].mT
        return self.grads[0].mT, last.mT * active, (second * active).sum(1)[None]

    def _parts(self, pairs: int) -> tuple[Tensor, Tensor, Tensor]:
        return self.inputs[:, :pairs], self.hidden[:, :pairs], self.outer[:, :pairs]
