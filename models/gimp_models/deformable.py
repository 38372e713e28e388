"""Deformable cross-attention on a grid of cells (spec subspace 3.4).

Queries are the cells of a grid; keys are few and lie where an offset network, led
by the queries, puts them. A learned function of the distance between query and key
is added to their score. Shape letters: B bags, D width, g heads (each head is a
group with keys of its own), d head width, h w the grid, hk wk the grid of keys,
N = h w queries, J = hk wk keys.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gimp_models.errors import BatchError, ConfigError
from gimp_models.position_bias import PositionBias, attend

__all__ = ["DeformableAttention", "Deformed", "key_side"]

_REACH = 4.0
"""How far a key moves at most, in cells of the key grid (spec subspace 3.4)."""


@dataclass(frozen=True, slots=True)
class Deformed:
    """What the attention returns, and where its keys lie.

    Parameters
    ----------
    output
        (B,D,h,w), zero at empty cells.
    vgrid
        (B*g,2,hk,wk) where the keys lie, in cells of the key grid: channel 0 is x,
        1 is y; row b*g + head.
    positions
        (B*g,hk,wk,2) vs, the same as (x, y) in [-1, 1]; a key beyond lies outside of
        the grid. Content is read at cell ((x+1) w - 1) / 2, whereas the position bias
        has the outer cells at -1 and 1: as in the public code, which mixes the two.
    key_weights
        (B,g,J) attention that a key gets, mean over the real queries, keys in rows
        of `vgrid`; None unless asked for.
    """

    output: Tensor
    vgrid: Tensor
    positions: Tensor
    key_weights: Tensor | None


def key_side(side: int, kernel: int, stride: int) -> int:
    """Return the number of keys along a side of the grid.

    Parameters
    ----------
    side
        Cells along the side, h or w.
    kernel, stride
        Of the offset network's convolution, whose padding is their half difference.

    Raises
    ------
    ConfigError
        If kernel and stride do not go together, or the grid has no room for a key.
    """
    if stride < 1 or kernel < stride or (kernel - stride) % 2:
        raise ConfigError(
            f"The offset kernel is {kernel} and the stride {stride}: the kernel must "
            "be the stride plus an even number, so that keys lie symmetrically; "
            "choose for example kernel 6 and stride 4."
        )
    keys = (side + (kernel - stride) - kernel) // stride + 1
    if keys < 1:
        raise ConfigError(
            f"A grid side of {side} cells has no room for a key: it must be at least "
            f"the stride, {stride}; use a larger grid or a smaller stride."
        )
    return keys


class Offsets(nn.Module):
    """Where each head's keys lie: base grid + 4 tanh(network of the queries).

    The network is shared by the heads.
    """

    def __init__(self, head_width: int, *, stride: int, kernel: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(
            head_width,
            head_width,
            kernel,
            stride=stride,
            padding=(kernel - stride) // 2,
            groups=head_width,
        )
        self.pointwise = nn.Conv2d(head_width, 2, 1, bias=False)

    def forward(self, query: Tensor) -> Tensor:
        """Map queries (B*g,d,h,w) to key positions `vgrid` (B*g,2,hk,wk)."""
        query = query.to(self.pointwise.weight.dtype)
        moved = self.pointwise(F.gelu(self.depthwise(query)))
        cells = torch.meshgrid(
            torch.arange(moved.shape[-1], device=moved.device),
            torch.arange(moved.shape[-2], device=moved.device),
            indexing="xy",
        )
        vgrid: Tensor = torch.stack(cells) + _REACH * torch.tanh(moved)
        return vgrid


class DeformableAttention(nn.Module):
    """Cross-attention whose keys and values are read where the queries point.

    Parameters
    ----------
    width
        D, a multiple of `heads`.
    heads
        g; also the number of groups of every convolution.
    head_width
        d.
    stride, kernel
        Of the offset network: a key per `stride` cells of a side.
    bias_width
        Hidden width of the position bias.
    dropout
        Of the attention weights.

    Raises
    ------
    ConfigError
        If the sizes contradict each other.
    """

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
        if width % heads:
            raise ConfigError(
                f"The width is {width}, it must be a multiple of the heads, {heads}."
            )
        if not 0 <= dropout < 1:
            raise ConfigError(
                f"The dropout is {dropout}: it must be in [0, 1), for example 0.1."
            )
        key_side(stride, kernel, stride)
        self.heads, self.stride, self.kernel = heads, stride, kernel
        self.dropout = dropout
        inner = heads * head_width
        self.query = nn.Conv2d(width, inner, 1, groups=heads, bias=False)
        self.key = nn.Conv2d(width, inner, 1, groups=heads, bias=False)
        self.value = nn.Conv2d(width, inner, 1, groups=heads, bias=False)
        self.offsets = Offsets(head_width, stride=stride, kernel=kernel)
        self.bias = PositionBias(bias_width)
        self.out = nn.Conv2d(inner, width, 1)

    def forward(
        self,
        query: Tensor,
        context: Tensor,
        mask: Tensor | None = None,
        *,
        key_weights: bool = False,
    ) -> Deformed:
        """Let every cell of `query` read `context` at the keys.

        Parameters
        ----------
        query, context
            (B,D,h,w); the content of empty cells is not looked at.
        mask
            (B,h,w) bool, True for real cells: a key counts by the share of real cells
            that it reads, not at all among empty ones or beyond the grid. None (the
            list layout, as in the public code): all cells are real, every key counts,
            and beyond the grid are zeros.
        key_weights
            Whether to return how much attention each key gets.

        Raises
        ------
        BatchError
            If the shapes do not fit.
        """
        self._check(query, context, mask)
        query, context = _real_part(query, mask), _real_part(context, mask)
        queries = self.query(query)  # (B,g*d,h,w)
        vgrid, positions, sampled = self._read(queries, context)
        mixed, weights = attend(
            self._split(queries),
            self._split(self.key(sampled)).flatten(2),
            self._split(self.value(sampled)).flatten(2),
            self.bias,
            positions.flatten(1, 2),
            seen=self._seen(mask, positions),
            real=self._real(mask),
            dropout=self.dropout if self.training else 0.0,
        )
        output = _real_part(self.out(self._joined(mixed)), mask)
        means = weights.view(len(query), self.heads, -1) if key_weights else None
        return Deformed(output, vgrid, positions, means)

    def _read(self, queries: Tensor, context: Tensor) -> tuple[Tensor, ...]:
        """Return where the keys lie, in both units, and what is there (B,D,hk,wk).

        Never in half precision: its 8 bits are too coarse for positions.
        """
        with torch.autocast(queries.device.type, enabled=False):
            vgrid = self.offsets(self._split(queries))
            positions = _normalised(vgrid)
            image = self._split(context).to(vgrid.dtype)
            return vgrid, positions, self._joined(_bilinear(image, positions))

    def _check(self, query: Tensor, context: Tensor, mask: Tensor | None) -> None:
        width = self.query.in_channels
        if query.shape != context.shape or query.ndim != 4 or query.shape[1] != width:
            raise BatchError(
                f"Query and context are {tuple(query.shape)} and "
                f"{tuple(context.shape)}: both must be (B, {width}, h, w)."
            )
        if mask is not None and mask.shape != (len(query), *query.shape[2:]):
            raise BatchError(
                f"The mask is {tuple(mask.shape)}, it must be (B, h, w) = "
                f"{(len(query), *query.shape[2:])}."
            )
        for side in query.shape[2:]:
            key_side(side, self.kernel, self.stride)

    def _split(self, x: Tensor) -> Tensor:
        """(B,g*c,...) to (B*g,c,...): each head's share of the channels."""
        return x.reshape(-1, x.shape[1] // self.heads, *x.shape[2:])

    def _joined(self, x: Tensor) -> Tensor:
        """(B*g,c,...) to (B,g*c,...)."""
        return x.reshape(-1, x.shape[1] * self.heads, *x.shape[2:])

    def _real(self, mask: Tensor | None) -> Tensor | None:
        """(B,h,w) to (B*g,h,w)."""
        return None if mask is None else mask.repeat_interleave(self.heads, dim=0)

    def _seen(self, mask: Tensor | None, positions: Tensor) -> Tensor | None:
        """(B*g,J) share of real cells that each key reads, smooth in its position."""
        real = self._real(mask)
        if real is None:
            return None
        with torch.autocast(real.device.type, enabled=False):
            return _bilinear(real[:, None].to(positions.dtype), positions).flatten(1)


def _real_part(cells: Tensor, mask: Tensor | None) -> Tensor:
    """Set empty cells of (B,D,h,w) to zero, whatever they hold."""
    return cells if mask is None else cells.masked_fill(~mask[:, None], 0)


def _normalised(vgrid: Tensor) -> Tensor:
    """Return vs = 2 vgrid / (side - 1) - 1, as (B*g,hk,wk,2) of (x, y)."""
    rows, cols = vgrid.shape[-2:]
    last = vgrid.new_tensor([max(cols - 1, 1), max(rows - 1, 1)])
    return 2 * vgrid.permute(0, 2, 3, 1) / last - 1


def _bilinear(image: Tensor, positions: Tensor) -> Tensor:
    return F.grid_sample(
        image, positions, mode="bilinear", padding_mode="zeros", align_corners=False
    )
