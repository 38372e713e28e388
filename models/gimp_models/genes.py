"""Gene encoder of GiMP: group multi-head self-attention (spec C).

Genes are cut into fragments of F values, K fragments make a group. Attention runs
inside each group, then between the R groups: R K^2 + R^2 pairs instead of (R K)^2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gimp_models.mixing import Mixer

__all__ = ["GeneTokens", "GroupMSA"]


@dataclass(frozen=True, slots=True)
class GeneTokens:
    """What the gene branch says about a batch.

    Parameters
    ----------
    cls
        (B,Dg) class token c_G.
    groups
        (B,R,Dg) group tokens.
    within
        (B,R,K) attention of each group token to its fragments, each row sums to 1;
        None if not asked for.
    between
        (B,R) attention of the class token to the groups, sums to 1; None likewise.
    """

    cls: Tensor
    groups: Tensor
    within: Tensor | None = None
    between: Tensor | None = None


class GroupMSA(nn.Module):
    """Group multi-head self-attention over expression profiles.

    Parameters
    ----------
    groups
        R lists of gene indices; a gene may be in several groups or in none.
    genes
        G.
    fragment
        F, genes per fragment.
    width
        Dg.
    heads
        Attention heads of both stages.
    intra_depth, inter_depth
        Layers inside groups and between groups.
    feedforward
        Hidden width in multiples of Dg.
    dropout
        Dropout of the residual branches.
    per_fragment
        One embedding matrix per fragment instead of one for all.
    """

    def __init__(
        self,
        groups: Sequence[Sequence[int]],
        genes: int,
        *,
        fragment: int,
        width: int,
        heads: int,
        intra_depth: int,
        inter_depth: int,
        feedforward: int,
        dropout: float,
        per_fragment: bool,
    ) -> None:
        super().__init__()
        layout = _layout(groups, genes, fragment)  # (R,K,F)
        self.layout: Tensor
        self.register_buffer("layout", layout, persistent=False)
        self.real: Tensor  # (R,1+K), True for the group token and real fragments
        self.register_buffer("real", _real_tokens(layout, genes), persistent=False)
        matrices = layout.shape[:2] if per_fragment else (1, 1)
        self.weight = nn.Parameter(torch.empty(*matrices, fragment, width))
        self.position = nn.Parameter(torch.empty(*layout.shape[:2], width))
        self.group_token = nn.Parameter(torch.empty(width))
        self.class_token = nn.Parameter(torch.empty(width))
        self.intra = Mixer(
            width,
            depth=intra_depth,
            heads=heads,
            feedforward=feedforward,
            dropout=dropout,
        )
        self.inter = Mixer(
            width,
            depth=inter_depth,
            heads=heads,
            feedforward=feedforward,
            dropout=dropout,
        )
        self.norm = nn.LayerNorm(width)
        self._initialise()

    def _initialise(self) -> None:
        # A position as large as the embedded genes: with a small one the LayerNorms
        # turn around at z = 0, and integrated gradients from there do not complete.
        nn.init.normal_(self.weight, std=self.weight.shape[-2] ** -0.5)
        nn.init.normal_(self.position)
        for parameter in (self.group_token, self.class_token):
            nn.init.trunc_normal_(parameter, std=0.02)

    def forward(self, x: Tensor, *, attention: bool = False) -> GeneTokens:
        """Encode z-scored profiles.

        Parameters
        ----------
        x
            (B,G) z-scores of the training cohort.
        attention
            Also return both attention maps.

        Returns
        -------
        GeneTokens
        """
        groups, within = self.group_tokens(x, attention=attention)
        tokens = _prepend(self.class_token, groups)  # (B,1+R,Dg), C.3
        between = None
        if attention:
            tokens, between = self.inter.with_class_row(tokens, None)
        else:
            tokens = self.inter(tokens, None)
        cls: Tensor = self.norm(tokens[:, 0])  # C.4
        return GeneTokens(cls, groups, within, between)

    def group_tokens(
        self, x: Tensor, *, attention: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Encode each group alone (spec C.1 and C.2).

        Returns
        -------
        tuple
            Group tokens (B,R,Dg) and, if asked for, their attention (B,R,K).
        """
        batch, (count, kept) = len(x), self.real.shape
        tokens = _prepend(self.group_token, self.embed(x).flatten(0, 1))
        mask = self.real.expand(batch, count, kept).flatten(0, 1)
        if not attention:
            tokens = self.intra(tokens, mask)
            return tokens[:, 0].reshape(batch, count, -1), None
        tokens, row = self.intra.with_class_row(tokens, mask)
        first = tokens[:, 0].reshape(batch, count, -1)
        return first, row.reshape(batch, count, -1)

    def embed(self, x: Tensor) -> Tensor:
        """Fragments of (B,G) as tokens (B,R,K,Dg); padding genes are zeros (C.1)."""
        padded = torch.cat([x, x.new_zeros(len(x), 1)], dim=1)
        fragments = padded[:, self.layout]  # (B,R,K,F)
        if len(self.weight) == 1 and self.weight.shape[1] == 1:
            return fragments @ self.weight[0, 0] + self.position
        return torch.einsum("brkf,rkfd->brkd", fragments, self.weight) + self.position


def _layout(groups: Sequence[Sequence[int]], genes: int, fragment: int) -> Tensor:
    """Gene index of every slot (R,K,F); empty slots point at the zero behind G."""
    fragments = max(-(-len(group) // fragment) for group in groups)
    layout = torch.full((len(groups), fragments * fragment), genes)
    for row, group in zip(layout, groups, strict=True):
        row[: len(group)] = torch.tensor(group)
    return layout.reshape(len(groups), fragments, fragment)


def _real_tokens(layout: Tensor, genes: int) -> Tensor:
    real = torch.any(layout < genes, dim=-1)
    return torch.cat([torch.ones_like(real[:, :1]), real], dim=1)


def _prepend(token: Tensor, x: Tensor) -> Tensor:
    """(B,T,D) to (B,1+T,D) with a learnable token in front."""
    return torch.cat([token.expand(len(x), 1, -1).to(x.dtype), x], dim=1)
