"""The attention hidden in a selective scan (MGI, "What the viewer shows").

A scan is linear in its input once the input has chosen Delta, B and C, so it is an
attention matrix alpha with y_i = sum_j alpha_ij u_j + D_skip u_i (Ali, Zimerman and
Wolf 2024). It says how much of token j is left in the state when token i reads it.
It ignores the convolution before the scan, the gate and the projection behind it, and
the other blocks: a hint at what a token draws on, no attribution.

Letters: B patients, T gene tokens, E channels, N states.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gimp_models.evidence.evaluating import evaluating
from gimp_models.mamba import MambaBlock, MambaGenes, ScanSignals

__all__ = [
    "HIDDEN_ATTENTION_NOTE",
    "gene_hidden_attention",
    "hidden_attention",
    "mean_hidden_attention",
]

HIDDEN_ATTENTION_NOTE = (
    "Hidden attention of the scan alone: it ignores the convolution, the gate and the "
    "output projection of the block."
)
"""What a view of it has to say."""

_ROOM = 1 << 22
"""Values of alpha at once, so that 512 channels of 321 tokens need no 200 MB."""


def hidden_attention(signals: ScanSignals, channels: slice = slice(None)) -> Tensor:
    """Write a scan as a matrix: y_i = sum_j alpha_ij u_j + D_skip u_i, exactly.

    alpha_ij = sum_n C_i[n] exp(S_i - S_j)[n] Delta_j B_j[n] for j <= i and 0 beyond,
    S = cumsum(Delta A).

    Parameters
    ----------
    signals
        Of one direction of one block, from `MambaBlock.signals` or
        `SelectiveStates.signals`.
    channels
        Which of the E channels; all of them need B E T T values.

    Returns
    -------
    Tensor
        (B,E,T,T); row i says what token i reads.
    """
    delta = signals.delta[..., channels].mT  # (B,E,T)
    alpha = delta.new_zeros(*delta.shape, delta.shape[-1])
    future = torch.ones(alpha.shape[-2:], dtype=torch.bool, device=delta.device).triu(1)
    for a, b, c in zip(
        signals.a[channels].unbind(1),
        signals.b.unbind(2),
        signals.c.unbind(2),
        strict=True,
    ):
        # The difference of two long sums is small: float64 keeps its digits.
        log_decay = (delta.double() * a[:, None]).cumsum(-1)
        gap = (log_decay[..., None] - log_decay[..., None, :]).to(alpha.dtype)
        decay = gap.masked_fill_(future, -torch.inf).exp_()  # never above 1
        alpha += decay * c[:, None, :, None] * b[:, None, None]
    return alpha * delta[..., None, :]


def mean_hidden_attention(
    block: MambaBlock, x: Tensor, mask: Tensor | None = None
) -> Tensor:
    """Average |alpha| over the channels of a block, for display.

    The sign is dropped since channels of opposite sign would cancel; both directions
    of a bidirectional block are added, the second turned to the order of the tokens.

    Parameters
    ----------
    block
        A Mamba block.
    x
        (B,T,D) what enters it.
    mask
        (B,T) bool, True for real tokens; None if all are.

    Returns
    -------
    Tensor
        (B,T,T) >= 0; row i: what token i reads. 0 from padding.
    """
    with evaluating(block):
        forward, *backward = map(_mean_magnitude, block.signals(x, mask))
    return sum((way.flip(1, 2) for way in backward), start=forward)


def gene_hidden_attention(
    genes: MambaGenes, x: Tensor, mask: Tensor | None = None
) -> Tensor:
    """Average hidden attention of every block of a gene encoder.

    Parameters
    ----------
    genes
        The encoder; `genes.tokens_of_genes()` says which genes a token holds.
    x
        (B,G) z-scored profiles.
    mask
        (B,T) bool, True for tokens to read; None for all.

    Returns
    -------
    Tensor
        (B,L,T,T) for L blocks, as `mean_hidden_attention`.
    """
    maps = []
    with evaluating(genes):
        tokens = genes.embed(x)
        for block in genes.blocks:
            assert isinstance(block, MambaBlock)
            maps.append(mean_hidden_attention(block, tokens, mask))
            tokens = block(tokens, mask)
    return torch.stack(maps, dim=1)


def _mean_magnitude(signals: ScanSignals) -> Tensor:
    """Mean of |alpha| (B,T,T) over channels, some channels at a time."""
    batch, length, channels = signals.delta.shape
    total = signals.delta.new_zeros(batch, length, length)
    step = max(1, _ROOM // total.numel())
    for first in range(0, channels, step):
        some = slice(first, first + step)
        total += hidden_attention(signals, some).abs().sum(1)
    return total / channels
