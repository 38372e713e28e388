"""Token mixing: pre-norm transformer layers whose token 0 is the class token.

Attention is exact and of linear memory (`scaled_dot_product_attention`), or, for
very long bags, Nyström's approximation. Shape letters beside those of `bag.py`:
T tokens with the class token first, H heads, d = D / H, M landmarks.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gimp_models.precision import at_least_float32

__all__ = ["Attention", "Layer", "Mixer", "landmark_pooling", "nystrom"]

_ROWS = 4096  # tokens that attend to landmarks at once
_PINV_STEPS = 6  # Xiong et al. 2021: six Newton-Schulz steps suffice for a softmax


class Mixer(nn.Module):
    """A stack of pre-norm transformer layers.

    Parameters
    ----------
    width
        D, a multiple of `heads`.
    depth
        Number of layers, at least 1.
    heads
        H.
    feedforward
        Hidden width of the feed-forward part in multiples of D.
    dropout
        Applied to both residual branches.
    """

    def __init__(
        self, width: int, *, depth: int, heads: int, feedforward: int, dropout: float
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            Layer(width, heads=heads, feedforward=feedforward, dropout=dropout)
            for _ in range(depth)
        )

    def forward(
        self, x: Tensor, mask: Tensor | None, pooling: Tensor | None = None
    ) -> Tensor:
        """Mix tokens (B,T,D); `mask` (B,T) is True for real ones, None if all are."""
        for layer in self.layers:
            x = layer(x, mask, pooling)
        return x

    def with_class_row(
        self, x: Tensor, mask: Tensor | None, pooling: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Mix as `forward` does and read the last layer's class row in O(T).

        Returns
        -------
        tuple of Tensor
            Tokens (B,T,D) and the attention of the class token to all others
            (B,T-1): softmax(q_c K^T / sqrt(d)), class token dropped, mean over
            heads, scaled to sum 1.
        """
        *early, last = self.layers
        assert isinstance(last, Layer)
        for layer in early:
            x = layer(x, mask, pooling)
        row = last.attention.class_row(last.norm_attention(x), mask)
        row = row[..., 1:].mean(1)
        tiny = torch.finfo(row.dtype).tiny
        return last(x, mask, pooling), row / row.sum(-1, keepdim=True).clamp_min(tiny)


class Layer(nn.Module):
    """x + attention(LN x), then x + feedforward(LN x)."""

    def __init__(
        self, width: int, *, heads: int, feedforward: int, dropout: float
    ) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm_feedforward = nn.LayerNorm(width)
        self.feedforward = nn.Sequential(
            nn.Linear(width, feedforward * width),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(feedforward * width, width),
        )
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Tensor, mask: Tensor | None, pooling: Tensor | None = None
    ) -> Tensor:
        """Tokens (B,T,D) to tokens (B,T,D)."""
        x = x + self.dropout(self.attention(self.norm_attention(x), mask, pooling))
        mixed: Tensor = x + self.dropout(self.feedforward(self.norm_feedforward(x)))
        return mixed


class Attention(nn.Module):
    """Multi-head self-attention, exact or through landmarks."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(
        self, x: Tensor, mask: Tensor | None, pooling: Tensor | None = None
    ) -> Tensor:
        """Attend over tokens.

        Parameters
        ----------
        x
            (B,T,D) tokens.
        mask
            (B,T) bool, True for real tokens; None if all are.
        pooling
            (B,M,T) from `landmark_pooling` for Nyström's approximation; None for
            exact attention.

        Returns
        -------
        Tensor
            (B,T,D).
        """
        query = self._heads(self.query(x))
        key, value = self._heads(self.key_value(x)).chunk(2, dim=-1)
        keys = None if mask is None else mask[:, None, None]
        if pooling is None:
            mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=keys)
        else:
            mixed = nystrom(query, key, value, keys=keys, pooling=pooling)
        out: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return out

    def class_row(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Attention (B,H,T) of token 0 to all tokens, in O(T) and without K itself.

        q_0 K^T = (q_0 W_k) x^T + q_0 b_k; softmax takes no notice of the last term,
        which is the same for every token.
        """
        query = self._heads(self.query(x[:, :1]))  # (B,H,1,d)
        weight = self.key_value.weight.view(self.heads, 2, -1, x.shape[-1])
        through_key = (query @ weight[:, 0]).squeeze(2)  # q_0 W_k, (B,H,D)
        scores = at_least_float32(through_key @ x.transpose(1, 2))
        scores = scores / query.shape[-1] ** 0.5
        if mask is not None:
            scores = scores.masked_fill(~mask[:, None], -torch.inf)
        return _rows(scores)

    def _heads(self, x: Tensor) -> Tensor:
        """(B,T,H*w) to (B,H,T,w)."""
        return x.reshape(*x.shape[:2], self.heads, -1).transpose(1, 2)


def landmark_pooling(rank: Tensor, mask: Tensor, landmarks: int) -> Tensor:
    """Average runs of consecutive tokens into landmarks.

    Parameters
    ----------
    rank
        (B,T) int64, each token's place in the reading order, real ones first.
    mask
        (B,T) bool, True for real tokens.
    landmarks
        M. A bag of fewer tokens gets one landmark per token, the rest stay empty.

    Returns
    -------
    Tensor
        (B,M,T) float32 rows that sum to 1, or to 0 for an empty landmark.
    """
    length = mask.sum(1, keepdim=True)
    segment = rank * length.clamp(max=landmarks) // length
    landmark = torch.arange(landmarks, device=rank.device)[:, None]
    member = (segment[:, None] == landmark) & mask[:, None]
    return member / member.sum(-1, keepdim=True).clamp_min(1)


def nystrom(
    query: Tensor, key: Tensor, value: Tensor, *, keys: Tensor | None, pooling: Tensor
) -> Tensor:
    """Approximate softmax attention through landmarks (Xiong et al., AAAI 2021).

    The class token's row is computed exactly, so that the attention shown is the
    attention used.

    Parameters
    ----------
    query, key, value
        (B,H,T,d).
    keys
        (B,1,1,T) bool, True for real tokens, or None.
    pooling
        (B,M,T) from `landmark_pooling`.

    Returns
    -------
    Tensor
        (B,H,T,d).
    """
    first = F.scaled_dot_product_attention(query[:, :, :1], key, value, attn_mask=keys)
    with torch.autocast(query.device.type, enabled=False):  # the inverse needs float32
        query, key, value = map(at_least_float32, (query, key, value))
        rest = _through_landmarks(
            query, key, value, keys=keys, pooling=pooling.to(query.dtype)
        )
        batch, heads, count, width = query.shape
        mixed = first.new_empty(batch, count, heads, width).transpose(1, 2)
        mixed[:, :, :1] = first
        # Slab by slab into one place: (B,H,T,M) would be 16 times the tokens, and
        # many small pieces leave holes in memory that are as large as themselves.
        for start in range(1, count, _ROWS):
            rows = slice(start, start + _ROWS)
            mixed[:, :, rows] = rest(query[:, :, rows]).to(first.dtype)
    return mixed


def _through_landmarks(
    query: Tensor, key: Tensor, value: Tensor, *, keys: Tensor | None, pooling: Tensor
) -> Callable[[Tensor], Tensor]:
    """softmax(Q K~^T) pinv(softmax(Q~ K~^T)) softmax(Q~ K^T) V, ~ marks landmarks.

    Returns
    -------
    Callable
        Any rows (B,H,t,d) of Q to what they read, (B,H,t,d).
    """
    used = (pooling.sum(-1) > 0)[:, None, None]  # (B,1,1,M)
    query_marks = torch.einsum("bmt,bhtd->bhmd", pooling, query)
    key_marks = torch.einsum("bmt,bhtd->bhmd", pooling, key)
    between = _softmax(query_marks, key_marks, used) * used.transpose(-1, -2)
    read = F.scaled_dot_product_attention(query_marks, key, value, attn_mask=keys)
    core = _pseudo_inverse(between) @ read
    return lambda rows: _softmax(rows, key_marks, used) @ core


def _softmax(query: Tensor, key: Tensor, used: Tensor) -> Tensor:
    scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
    return _rows(scores.masked_fill(~used, -torch.inf))


def _rows(scores: Tensor) -> Tensor:
    return torch.softmax(scores, dim=-1)


def _pseudo_inverse(matrix: Tensor) -> Tensor:
    """Newton-Schulz iteration of order three; empty rows and columns stay zero."""
    identity = torch.eye(matrix.shape[-1], device=matrix.device, dtype=matrix.dtype)
    sizes = matrix.abs()
    scale = sizes.sum(-1).amax(-1) * sizes.sum(-2).amax(-1)
    inverse = matrix.transpose(-1, -2) / scale[..., None, None]
    for _ in range(_PINV_STEPS):
        product = matrix @ inverse
        inner = product @ (7 * identity - product)
        inverse = inverse @ (13 * identity - product @ (15 * identity - inner)) / 4
    return inverse
