"""Attention with a learned bias of distance, never written out in full.

The bias of a query-key pair is an MLP of sign(D) log(1 + |D|), D the difference of
their positions (spec subspace 3.4).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["PositionBias", "attend", "grid_positions"]


class PositionBias(nn.Module):
    """MLP 2 -> width -> width -> 1 with ReLU, one for all heads.

    The last layer has no bias: it would add the same to all keys' scores, which
    softmax does not notice.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Linear(2, width)
        self.second = nn.Linear(width, width)
        self.last = nn.Linear(width, 1, bias=False)

    def forward(self, difference: Tensor) -> Tensor:
        """Bias (...) of differences (...,2), query minus key, as (x, y)."""
        x = torch.sign(difference) * torch.log1p(difference.abs())
        x = torch.relu(self.first(x))
        bias: Tensor = self.last(torch.relu(self.second(x))).squeeze(-1)
        return bias


def grid_positions(height: int, width: int, like: Tensor) -> Tensor:
    """Return (h*w,2) positions (x, y) of cells, the outer ones at -1 and 1."""
    x = _axis(width, like).expand(height, width)
    y = _axis(height, like)[:, None].expand(height, width)
    return torch.stack([x, y], dim=-1).flatten(0, 1)


def _axis(side: int, like: Tensor) -> Tensor:
    cells = torch.arange(side, device=like.device, dtype=like.dtype)
    return 2 * cells / max(side - 1, 1) - 1


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: PositionBias,
    positions: Tensor,
    *,
    grid: tuple[int, int],
    seen: Tensor | None,
    real: Tensor | None,
    dropout: float,
) -> tuple[Tensor, Tensor]:
    """Mix values (B,g,d,J) into (B,g,d,N); also the keys' mean weights (B,g,J)."""
    cells = grid_positions(*grid, like=positions)
    distance = cells[:, None] - positions[:, None]  # (B*g,N,J,2)
    scores = query.transpose(-1, -2) @ key / query.shape[-2] ** 0.5
    scores = scores + bias(distance).view_as(scores)
    if seen is not None:
        hidden = ~seen.view(*scores.shape[:2], 1, -1)
        scores = scores.masked_fill(hidden, torch.finfo(scores.dtype).min)
        weights = torch.softmax(scores, dim=-1).masked_fill(hidden, 0)
    else:
        weights = torch.softmax(scores, dim=-1)
    if real is None:
        mean = weights.mean(2)
    else:
        rows = real.flatten(1)[:, None, :, None].to(weights.dtype)
        mean = (weights * rows).sum(2) / rows.sum(2).clamp_min(1)
    return value @ F.dropout(weights, dropout).transpose(-1, -2), mean.detach()
