"""Deformable cross-attention written down as the specification says it, at its cost.

The reference for `gimp_models.deformable`, whose internals it does not know: every
pair of query and key has its row of the bias' hidden layers in memory, and torch
differentiates. Parameters have the same names, so that weights can be exchanged.
Numbers in comments refer to spec subspace, section 3.4.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class NaiveDeformableAttention(nn.Module):
    """Cross-attention on a grid whose keys lie where an offset network puts them."""

    def __init__(
        self,
        width: int = 128,
        *,
        heads: int = 8,
        head_width: int = 64,
        stride: int = 4,
        kernel: int = 6,
        bias_width: int = 32,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        inner, side = heads * head_width, bias_width
        self.heads, self.head_width = heads, head_width
        self.query = nn.Conv2d(width, inner, 1, groups=heads, bias=False)
        self.key = nn.Conv2d(width, inner, 1, groups=heads, bias=False)
        self.value = nn.Conv2d(width, inner, 1, groups=heads, bias=False)
        pad, deep = (kernel - stride) // 2, {"groups": head_width}
        self.offsets = nn.ModuleDict(
            {
                "depthwise": nn.Conv2d(
                    head_width, head_width, kernel, stride, pad, **deep
                ),
                "pointwise": nn.Conv2d(head_width, 2, 1, bias=False),
            }
        )
        self.bias = nn.ModuleDict(
            {
                "first": nn.Linear(2, side),
                "second": nn.Linear(side, side),
                "last": nn.Linear(side, 1, bias=False),
            }
        )
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Conv2d(inner, width, 1)

    def forward(
        self, query: Tensor, context: Tensor, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return output (B,D,h,w), vgrid (B*g,2,hk,wk), attention (B,g,h*w,hk*wk)."""
        real = (
            torch.ones_like(query[:, :1]) if mask is None else mask[:, None].to(query)
        )
        query, context = query * real, context * real
        queries = self.query(query)
        vgrid = self.vgrid(queries)
        vs = between_minus_one_and_one(vgrid)  # (B*g,hk,wk,2)
        sampled = sample(self.by_head(context), vs).view(len(query), -1, *vs.shape[1:3])
        q, k, v = map(self.rows, (queries, self.key(sampled), self.value(sampled)))
        scores = (q / self.head_width**0.5) @ k.mT + self.biases(vs, query.shape[2:])
        attention = scores.softmax(-1)
        if mask is not None:
            seen = sample(real.repeat_interleave(self.heads, 0), vs)
            attention = counted(scores, seen.view(*k.shape[:2], 1, -1))
        mixed = (self.dropout(attention) @ v).transpose(2, 3).reshape(queries.shape)
        return self.out(mixed) * real, vgrid, attention

    def vgrid(self, queries: Tensor) -> Tensor:
        """Return base grid + 4 tanh(1x1(GELU(depthwise(q)))), channel 0 = x, 1 = y."""
        depthwise, pointwise = self.offsets.values()
        moved = 4 * torch.tanh(pointwise(F.gelu(depthwise(self.by_head(queries)))))
        y, x = torch.meshgrid(*map(torch.arange, moved.shape[2:]), indexing="ij")
        return torch.stack([x, y]).to(moved) + moved

    def biases(self, vs: Tensor, grid: torch.Size) -> Tensor:
        """MLP of sign(D) log(1 + |D|) for every query and key: (B,g,h*w,hk*wk)."""
        y, x = torch.meshgrid(*map(torch.arange, grid), indexing="ij")
        cells = torch.stack([x, y])[None].to(vs)
        positions = between_minus_one_and_one(cells).view(1, -1, 1, 2)
        distance = positions - vs.flatten(1, 2)[:, None]
        distance = torch.sign(distance) * torch.log(1 + distance.abs())
        first, second, last = self.bias.values()
        bias = last(F.relu(second(F.relu(first(distance))))).squeeze(-1)
        return bias.view(-1, self.heads, *bias.shape[1:])

    def by_head(self, x: Tensor) -> Tensor:
        """(B,g*c,h,w) to (B*g,c,h,w)."""
        return x.reshape(len(x) * self.heads, -1, *x.shape[2:])

    def rows(self, x: Tensor) -> Tensor:
        """(B,g*d,h,w) to (B,g,h*w,d)."""
        return x.view(len(x), self.heads, self.head_width, -1).transpose(2, 3)


def counted(scores: Tensor, seen: Tensor) -> Tensor:
    """Softmax of scores + log(seen); a key that sees nothing gets nothing."""
    some = seen > 0
    scores = scores + torch.where(some, seen, 1).log()
    return scores.masked_fill(~some, -1e30).softmax(-1) * some


def between_minus_one_and_one(cells: Tensor) -> Tensor:
    """(n,2,h,w) in cells to (n,h,w,2): 2 x / (w-1) - 1, 2 y / (h-1) - 1."""
    height, width = cells.shape[2:]
    last = torch.tensor([max(width - 1, 1), max(height - 1, 1)]).to(cells)
    return 2 * cells.permute(0, 2, 3, 1) / last - 1


def sample(image: Tensor, vs: Tensor) -> Tensor:
    """Read (n,c,h,w) at (n,hk,wk,2), zeros outside."""
    return F.grid_sample(image, vs, padding_mode="zeros", align_corners=False)
