"""Attention biased by a learned function of distance, never written out in full.

A query's score for a key is q k / sqrt(d) + bias(D), D the difference of their
positions and the bias an MLP of sign(D) log(1 + |D|) (spec subspace 3.4). Written
plainly its hidden layers hold R N J C values (92 million at base size) several times
over. Here they are made chunk by chunk, small enough for the processor's cache, and
again in the backward pass; of the R N J weights a fixed number is kept, the rest made
again. So memory grows like N, whatever J is. Values and gradients are exact.

Shape letters: R = bags times heads, d head width, N = h w queries on a grid, J keys,
C hidden width of the bias, M = queries times keys of one block.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import product, zip_longest
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

__all__ = ["PositionBias", "attend"]

_BLOCK = {"cpu": 1 << 19, "cuda": 1 << 22}
"""Pairs of query and key whose scores are made at once: 2 MB, or 16 MB on a GPU."""
_CHUNK = {"cpu": 1 << 14, "cuda": 1 << 18}
"""Pairs whose hidden layers are: 32 wide they take 2 MB each, about a core's cache
(every thread gets so many), or 32 MB each on a GPU, which wants few large steps."""
_THREADS = 8
"""More do not make the chunks larger: their memory should stay small."""
_KEPT = 1 << 25
"""Weights kept for the backward pass at most, 128 MB; what is beyond is made again."""

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

    Gradients can be taken once. All is computed in the bias' type, float32 at least.

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
        (R,J) in [0,1], what a key's weight is multiplied by before normalisation;
        None for 1. A row that sees nothing mixes to 0.
    real
        (R,h,w) bool, queries that count in the keys' mean weights; None for all.
    dropout
        Share of weights dropped, in [0, 1); drawn from torch's generator.

    Returns
    -------
    tuple of Tensor
        Mixed values (R,d,h,w), and the keys' weights (R,J): mean over the real
        queries, before dropout, without gradient.
    """
    seen = torch.ones_like(key[:, 0]) if seen is None else seen
    blind = ~(seen > 0).any(-1)
    with _exactly(query):
        work = torch.promote_types(bias.last.weight.dtype, torch.float32)
        given = (x.to(work) for x in (query, key, value, seen, positions))
        operands = _operands(dropout, *given)
        layers = (layer.to(work) for layer in bias.affine())
        draws = _shares(query, real, work), dropout, _seed(dropout)
        mixed, weights = _Attend.apply(*draws, *layers, *operands)  # type: ignore[no-untyped-call]  # torch's
    mixed = mixed.masked_fill(blind[:, None, None, None], 0)
    return mixed.to(query.dtype), weights.masked_fill(blind[:, None], 0)


def _operands(
    dropout: float, query: Tensor, key: Tensor, value: Tensor, seen: Tensor, at: Tensor
) -> _Operands:
    """Scale what each block would have to scale otherwise."""
    key, value = key / query.shape[1] ** 0.5, value / (1 - dropout)
    return _Operands(query, key, value, _log(seen), at)


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
    value: Tensor  # (R,d,J), divided by the share that dropout keeps
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
        most = prod(self.blocks[0].shape) * key.shape[-1]
        self.room = _KEPT // most
        self.mlp = _Mlp(first, second, last, min(_chunk(key), most))
        self.generator = torch.Generator(key.device).manual_seed(seed)

    def weights(self, block: _Block) -> Tensor:
        """Return a block's attention (r,n,J) before dropout."""
        query, key, _, counts, _ = self.operands
        rows = block.rows
        scores = torch.baddbmm(counts[rows, None], block.of(query).mT, key[rows])
        self.mlp.add_to(scores, self.pairs(block, self.log_distances(block)))
        return torch.softmax(scores, dim=-1)

    def log_distances(self, block: _Block) -> Tensor:
        """Return signed log distances (r,x+y,J) of columns along x, of rows along y.

        A column of queries shares its x and a row its y: few logarithms for all pairs.
        """
        x, y = self.operands.positions[block.rows, None].unbind(-1)
        down, across = self.axes[0][block.ys, None], self.axes[1][block.xs, None]
        return _signed_log(torch.cat([across - x, down - y], dim=1))

    def pairs(self, block: _Block, logs: Tensor) -> Tensor:
        """Return what the bias reads of every pair (3,M): log distances and a one."""
        across, down = logs.split_with_sizes(block.shape[:0:-1], dim=1)
        pairs = logs.new_ones(3, *block.shape, logs.shape[-1])
        pairs[0], pairs[1] = across[:, None], down[:, :, None]
        return pairs.flatten(1)

    def keep(self, weights: Tensor) -> Tensor:
        """Draw which of a block's weights dropout keeps, 1 or 0."""
        if not self.dropout:
            return weights.new_ones(())
        kept = torch.empty_like(weights)
        return kept.bernoulli_(1 - self.dropout, generator=self.generator)


class _Attend(torch.autograd.Function):
    """Attention whose scores live one block at a time, in both directions."""

    @staticmethod
    def forward(
        ctx: Any, shares: Tensor, dropout: float, seed: int, *saved: Tensor
    ) -> tuple[Tensor, Tensor]:
        ctx.draws = dropout, seed
        walk = _Walk(saved, dropout, seed)
        query, _, value, *_ = walk.operands
        mixed, means = torch.empty_like(query), torch.zeros_like(value[:, :1])
        kept: list[Tensor] = []
        for block in walk.blocks:
            weights = walk.weights(block)
            if len(kept) < walk.room:
                kept.append(weights)
            means[block.rows].baddbmm_(block.of(shares), weights)
            dropped = weights * walk.keep(weights)
            block.put(value[block.rows] @ dropped.mT, mixed)
        means = means.squeeze(1)
        ctx.save_for_backward(*saved, *kept)
        ctx.mark_non_differentiable(means)
        return mixed, means

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        with _exactly(grad):
            inputs = 3 + len(_Operands._fields)
            saved, kept = ctx.saved_tensors[:inputs], ctx.saved_tensors[inputs:]
            walk = _Walk(saved, *ctx.draws)
            grads = _Operands(*map(torch.zeros_like, walk.operands))
            for block, weights in zip_longest(walk.blocks, kept):
                weights = walk.weights(block) if weights is None else weights
                _add_gradients(walk, block, weights, block.of(grad), to=grads)
        return None, None, None, *walk.mlp.gradients(), *grads


def _add_gradients(
    walk: _Walk, block: _Block, weights: Tensor, grad: Tensor, *, to: _Operands
) -> None:
    """Add a block's part of the gradients, `grad` (r,d,n) that of its mixed values.

    With A the weights, S the scores and O = V (keep A)^T: dA = keep (dO^T V) and
    dS = A (dA - sum_j A dA).
    """
    query, key, value = walk.operands[:3]
    rows = block.rows
    keep = walk.keep(weights)
    to.value[rows].baddbmm_(grad, weights * keep)
    scores = (grad.mT @ value[rows]).mul_(keep)
    scores = scores.sub_((weights * scores).sum(-1, keepdim=True)).mul_(weights)
    block.put(key[rows] @ scores.mT, to.query)
    to.key[rows].baddbmm_(block.of(query), scores)
    to.counts[rows] += scores.sum(1)
    logs = walk.log_distances(block)
    grads = walk.mlp.backward(scores, walk.pairs(block, logs))
    across, down = grads.view(2, *block.shape, -1)
    # the slope of sign(D) log(1 + |D|) is 1 / (1 + |D|); D falls as the key moves on
    slopes = torch.cat([across.sum(1), down.sum(2)], dim=1) / logs.abs().exp_()
    for channel, part in enumerate(slopes.split_with_sizes(block.shape[:0:-1], dim=1)):
        to.positions[rows, :, channel] -= part.sum(1)


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
    """Cut queries (R,d,h,w) evenly to reach `_BLOCK`: R first, then y, then x."""
    rows, _, height, width = query.shape
    most = _of(_BLOCK, query) // keys
    rs = _cut(rows, most // (height * width))
    ys = _cut(height, most // width)
    xs = _cut(width, most)
    return [_Block(*where) for where in product(rs, ys, xs)]


def _cut(length: int, most: int) -> list[slice]:
    """Cut a length into equal runs of at most `most`, or of one."""
    step = -(-length // -(-length // max(most, 1)))
    return [slice(i, min(i + step, length)) for i in range(0, length, step)]


def _of(limits: dict[str, int], like: Tensor) -> int:
    return limits.get(like.device.type, limits["cpu"])


def _chunk(like: Tensor) -> int:
    threads = torch.get_num_threads() if like.device.type == "cpu" else 1
    return _of(_CHUNK, like) * min(threads, _THREADS)


class _Mlp:
    """The bias of a block's pairs, its hidden layers in memory used again and again.

    Channels come first, so that every layer is one wide product of matrices whose
    bias is the weight of a row of ones.
    """

    def __init__(self, first: Tensor, second: Tensor, last: Tensor, most: int) -> None:
        width = len(second)
        self.layers, self.most = (first, second, last), most
        self.hidden = first.new_ones(width + 1, most)
        self.outer, self.spare = first.new_empty(2, width, most)
        self.grads = first.new_zeros(3, width), first.new_zeros(width + 1, width)

    def add_to(self, scores: Tensor, pairs: Tensor) -> None:
        """Add the bias of pairs (3,M) to their scores (r,n,J)."""
        last = self.layers[2]
        flat = scores.view(1, -1)
        for some in _cut(pairs.shape[1], self.most):
            _, outer = self._forward(pairs[:, some])
            flat[:, some].addmm_(last, outer.relu_())

    def backward(self, grad: Tensor, pairs: Tensor) -> Tensor:
        """Return the log distances' gradients (2,M) from the scores' (r,n,J)."""
        flat, found = grad.view(1, -1), torch.empty_like(pairs[:2])
        for some in _cut(pairs.shape[1], self.most):
            self._backward(flat[:, some], pairs[:, some], found[:, some])
        return found

    def gradients(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the layers' gradients, of all pairs so far.

        With m = grad where the outer unit is active, the last layer's is
        sum(grad relu(z)) = sum(m z), z being the outer layer's affine map.
        """
        _, second, last = self.layers
        active = self.grads[1].mT
        return self.grads[0].mT, last.mT * active, (second * active).sum(1)[None]

    def _forward(self, pairs: Tensor) -> tuple[Tensor, Tensor]:
        """Return the hidden layer with its row of ones, and the outer's affine map."""
        first, second, _ = self.layers
        hidden, outer = (x[:, : pairs.shape[1]] for x in (self.hidden, self.outer))
        torch.mm(first, pairs, out=hidden[:-1]).relu_()
        return hidden, torch.mm(second, hidden, out=outer)

    def _backward(self, grad: Tensor, pairs: Tensor, out: Tensor) -> None:
        first, second, last = self.layers
        hidden, outer = self._forward(pairs)
        inner = self.spare[:, : pairs.shape[1]]
        _relu_backward(grad.expand_as(outer), outer, 0, grad_input=outer)
        self.grads[1].addmm_(hidden, outer.mT)
        torch.mm((second[:, :-1] * last.mT).mT, outer, out=inner)
        _relu_backward(inner, hidden[:-1], 0, grad_input=inner)
        self.grads[0].addmm_(pairs, inner.mT)
        torch.mm(first[:, :2].mT, inner, out=out)
