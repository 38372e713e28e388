"""Mamba and the gene encoder built from it (MGI, spec B).

Read from the top: the selective state-space part of one direction, the block with
its gate, norm and residual, the gene encoder. The scan itself is in `scan.py`, the
cutting of profiles into tokens in `gene_tokens.py`.

Letters: B patients, T gene tokens, D width, E = 2 D channels, N states, k width of
the convolution, r = ceil(D / 16) rank of Delta, G genes, F genes of a fragment.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gimp_models.gene_tokens import GeneTokeniser, Tokenise
from gimp_models.scan import selective_scan

__all__ = [
    "GeneSequence",
    "GeneTokeniser",
    "MambaBlock",
    "MambaGenes",
    "ScanSignals",
    "SelectiveStates",
    "no_weight_decay",
]

Pool = Literal["mean", "last"]

_STEP_LEAST, _STEP_MOST, _STEP_FLOOR = 1e-3, 1e-1, 1e-4  # Delta at the start, spec B


@dataclass(frozen=True, slots=True)
class ScanSignals:
    """What a selective scan works on; the arguments of `selective_scan`.

    Parameters
    ----------
    u, delta
        (B,T,E) input after convolution and SiLU, and step; both 0 on padding.
    a
        (E,N) A = -exp(A_log).
    b, c
        (B,T,N) B and C.
    skip
        (E,) D_skip.
    """

    u: Tensor
    delta: Tensor
    a: Tensor
    b: Tensor
    c: Tensor
    skip: Tensor


class SelectiveStates(nn.Module):
    """Convolution and selective scan of one direction, (B,T,E) to (B,T,E).

    Parameters
    ----------
    channels
        E.
    states
        N.
    conv
        k, taps of the causal depthwise convolution.
    rank
        r, rank of Delta.

    Attributes
    ----------
    A_log
        (E,N), starts at log(1..N).
    skip
        (E,), D_skip, starts at 1.
    step
        W_D and b_D; softplus(b_D) starts log-uniform in [1e-3, 1e-1].
    """

    def __init__(self, channels: int, *, states: int, conv: int, rank: int) -> None:
        super().__init__()
        self.sizes = (rank, states, states)
        self.conv = nn.Conv1d(
            channels, channels, conv, groups=channels, padding=conv - 1
        )
        self.select = nn.Linear(channels, sum(self.sizes), bias=False)  # W_x
        self.step = nn.Linear(rank, channels)
        self.A_log = nn.Parameter(torch.empty(channels, states))
        self.skip = nn.Parameter(torch.ones(channels))
        self._initialise()

    @torch.no_grad()
    def _initialise(self) -> None:
        states = torch.arange(1, self.A_log.shape[1] + 1, device=self.A_log.device)
        self.A_log.copy_(states.log().expand_as(self.A_log))
        bound = self.step.in_features**-0.5
        nn.init.uniform_(self.step.weight, -bound, bound)
        low, high = math.log(_STEP_LEAST), math.log(_STEP_MOST)
        delta = torch.empty_like(self.step.bias).uniform_(low, high).exp()
        delta = delta.clamp_min(_STEP_FLOOR)
        self.step.bias.copy_(delta + torch.log(-torch.expm1(-delta)))  # softplus^-1

    def forward(self, u: Tensor, mask: Tensor | None = None) -> Tensor:
        """Scan u (B,T,E); `mask` (B,T) is True for real tokens, None if all are."""
        held = self.signals(u, mask)
        return selective_scan(held.u, held.delta, held.a, held.b, held.c, held.skip)

    def signals(self, u: Tensor, mask: Tensor | None = None) -> ScanSignals:
        """Prepare the scan: convolve, then select Delta, B and C by the input.

        Padding enters the convolution as zeros, as what lies before the first token
        does, and its Delta = 0 hands the state on unchanged.

        Returns
        -------
        ScanSignals
        """
        u = _only_real(u, mask)
        mixed = self.conv(u.transpose(1, 2))[..., : u.shape[1]].transpose(1, 2)
        u = _only_real(F.silu(mixed.contiguous()), mask)  # the rest reads by token
        low_rank, b, c = self.select(u).split(self.sizes, dim=-1)
        # Under autocast W_D d is bf16 and b_D float32: their sum keeps small steps.
        delta = F.softplus(F.linear(low_rank, self.step.weight) + self.step.bias)
        a, delta = -torch.exp(self.A_log), _only_real(delta, mask)
        return ScanSignals(u, delta, a, b, c, self.skip)


class MambaBlock(nn.Module):
    """x + Mamba(RMSNorm(x)) with a selective scan (Gu and Dao 2023; spec B).

    Parameters
    ----------
    width
        D.
    states
        N.
    conv
        k.
    expand
        E / D.
    bidirectional
        Sum a scan from the first token to the last and one back, each with its own
        convolution and selection; gate and projections are shared. One-way, a token
        knows only the tokens before it.
    dropout
        Of the residual branch.
    """

    def __init__(
        self,
        width: int,
        *,
        states: int = 16,
        conv: int = 4,
        expand: int = 2,
        bidirectional: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        channels, rank = expand * width, math.ceil(width / 16)
        self.norm = nn.RMSNorm(width, eps=1e-5)
        self.project_in = nn.Linear(width, 2 * channels, bias=False)
        self.directions = nn.ModuleList(
            SelectiveStates(channels, states=states, conv=conv, rank=rank)
            for _ in range(1 + bidirectional)
        )
        self.project_out = nn.Linear(channels, width, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mix tokens.

        Parameters
        ----------
        x
            (B,T,D) tokens.
        mask
            (B,T) bool, True for real tokens; None if all are. What padding holds
            reaches no real token.

        Returns
        -------
        Tensor
            (B,T,D).
        """
        u, gate = self.project_in(self.norm(x)).chunk(2, dim=-1)
        y = self.directions[0](u, mask)
        for backward in self.directions[1:]:
            y = y + _turned(backward(_turned(u), _turned(mask)))
        mixed: Tensor = x + self.dropout(self.project_out(y * F.silu(gate)))
        return mixed

    def signals(self, x: Tensor, mask: Tensor | None = None) -> list[ScanSignals]:
        """Return what is scanned for x (B,T,D); second, if so, from the last token."""
        u, _ = self.project_in(self.norm(x)).chunk(2, dim=-1)
        ways = ((u, mask), (_turned(u), _turned(mask)))
        return [
            part.signals(*way)
            for part, way in zip(self.directions, ways, strict=False)
            if isinstance(part, SelectiveStates)
        ]


@dataclass(frozen=True, slots=True)
class GeneSequence:
    """What a gene encoder says about a batch.

    Parameters
    ----------
    tokens
        (B,T,Dg) Z_G, 0 on padding.
    mask
        (B,T) bool, True for real tokens.
    pooled
        (B,Dg) one vector per patient.
    """

    tokens: Tensor
    mask: Tensor
    pooled: Tensor


class MambaGenes(nn.Module):
    """Gene encoder: profile to tokens to Mamba blocks to a pooled vector (spec B).

    Parameters
    ----------
    genes
        G. Their order matters to a one-way scan; the checkpoint keeps it.
    tokenise, fragment
        As in `GeneTokeniser`.
    width
        Dg.
    layers
        Number of blocks.
    states, conv, bidirectional, dropout
        As in `MambaBlock`.
    pool
        "mean" over real tokens, or the "last" real token of a scan: of two scans the
        mean of both ends, since at the last token the second has only begun.
    """

    def __init__(
        self,
        genes: int,
        *,
        tokenise: Tokenise,
        fragment: int,
        width: int,
        layers: int,
        states: int,
        conv: int,
        bidirectional: bool,
        pool: Pool,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.embed = GeneTokeniser(
            genes, tokenise=tokenise, fragment=fragment, width=width
        )
        self.blocks = nn.ModuleList(
            MambaBlock(
                width,
                states=states,
                conv=conv,
                bidirectional=bidirectional,
                dropout=dropout,
            )
            for _ in range(layers)
        )
        self.norm = nn.RMSNorm(width, eps=1e-5)
        self.pool = _POOLS["ends" if bidirectional and pool == "last" else pool]

    def forward(self, x: Tensor, mask: Tensor | None = None) -> GeneSequence:
        """Encode z-scored profiles.

        Parameters
        ----------
        x
            (B,G) z-scores of the training cohort.
        mask
            (B,T) bool, True for tokens to read; None for all.

        Returns
        -------
        GeneSequence

        Raises
        ------
        BatchError
            If there are not G genes.
        """
        tokens: Tensor = self.embed(x)
        for block in self.blocks:
            tokens = block(tokens, mask)
        tokens = _only_real(self.norm(tokens), mask)
        if mask is None:
            mask = torch.ones(tokens.shape[:2], dtype=torch.bool, device=x.device)
        return GeneSequence(tokens, mask, self.pool(tokens, mask))

    def tokens_of_genes(self) -> Tensor:
        """Token (G,) int64 in which each gene is read."""
        return self.embed.tokens_of_genes()


def no_weight_decay(module: nn.Module) -> set[str]:
    """Names of the parameters that must not decay: A_log, D_skip and b_D (spec B).

    Decay towards 0 would push every A to -1 and every step Delta to softplus(0).

    Parameters
    ----------
    module
        Anything that holds Mamba blocks, or nothing of the kind.

    Returns
    -------
    set of str
        As in `module.named_parameters()`.
    """
    return {
        f"{name}.{parameter}".lstrip(".")
        for name, part in module.named_modules()
        if isinstance(part, SelectiveStates)
        for parameter in ("A_log", "skip", "step.bias")
    }


def _only_real(x: Tensor, mask: Tensor | None) -> Tensor:
    """(B,T,D) with zeros on padding, whatever it held."""
    return x if mask is None else x.masked_fill(~mask[..., None], 0)


def _turned(x: Tensor | None) -> Tensor | None:
    """Last token first."""
    return None if x is None else x.flip(1)


def _mean(tokens: Tensor, mask: Tensor) -> Tensor:
    count = mask.sum(1, keepdim=True).clamp_min(1)
    return tokens.sum(1) / count


def _last(tokens: Tensor, mask: Tensor) -> Tensor:
    order = torch.arange(1, tokens.shape[1] + 1, device=mask.device)
    return _row(tokens, (mask * order).argmax(1))


def _ends(tokens: Tensor, mask: Tensor) -> Tensor:
    first = _row(tokens, mask.int().argmax(1))
    return (first + _last(tokens, mask)) / 2


def _row(tokens: Tensor, index: Tensor) -> Tensor:
    return tokens[torch.arange(len(tokens), device=index.device), index]


_POOLS = {"mean": _mean, "last": _last, "ends": _ends}
