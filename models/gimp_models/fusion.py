"""How genes reach the image tokens of MGI (spec D).

Every kind adds something that depends on the genes to each image token, then runs a
feed-forward part:

    Z' = Z + mix(Z, genes);  Z'' = Z' + FFN(LN Z').

Letters beside those of `vit.py`: T gene tokens, Dg gene width, M attention heads.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gimp_models.mamba import GeneSequence
from gimp_models.mgi_config import MgiConfig
from gimp_models.precision import at_least_float32

__all__ = ["Concatenation", "CrossAttention", "FeatureModulation", "Fusion"]

_FEEDFORWARD = 4


class Fusion(nn.Module):
    """`fusion_layers` layers of one kind; none at all for the image-only ablation.

    Parameters
    ----------
    config
        `fusion`, `fusion_layers`, `width`, `gene_width`, `heads`, `dropout`.
    """

    def __init__(self, config: MgiConfig) -> None:
        super().__init__()
        count = 0 if config.fusion == "none" else config.fusion_layers
        self.layers = nn.ModuleList(FusionLayer(config) for _ in range(count))

    def forward(self, z: Tensor, genes: GeneSequence) -> Tensor:
        """Image tokens Z_I (B,N,D) and gene tokens (B,T,Dg) to fused (B,N,D)."""
        for layer in self.layers:
            z = layer(z, genes)
        return z

    def with_attention(
        self, z: Tensor, genes: GeneSequence
    ) -> tuple[Tensor, Tensor | None]:
        """Fuse as `forward` does and read the last layer's attention.

        Returns
        -------
        tuple
            Fused tokens (B,N,D), and the attention (B,N,T) of image tokens to gene
            tokens, mean over heads, each row sums to 1; None where the kind of fusion
            has none.
        """
        weights = None
        for layer in self.layers:
            assert isinstance(layer, FusionLayer)
            weights = layer.mix.weights(z, genes)
            z = layer(z, genes)
        return z, weights


class FusionLayer(nn.Module):
    """Z + mix(Z, genes), then Z + FFN(LN Z)."""

    def __init__(self, config: MgiConfig) -> None:
        super().__init__()
        width = config.width
        self.mix = _KINDS[config.fusion](width, config.gene_width, config.heads)
        self.norm = nn.LayerNorm(width)
        self.feedforward = nn.Sequential(
            nn.Linear(width, _FEEDFORWARD * width),
            nn.GELU(),
            nn.Dropout(config.dropout),
            nn.Linear(_FEEDFORWARD * width, width),
        )
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, z: Tensor, genes: GeneSequence) -> Tensor:
        """Image tokens (B,N,D) to image tokens (B,N,D) that know the genes."""
        z = z + self.dropout(self.mix(z, genes))
        fused: Tensor = z + self.dropout(self.feedforward(self.norm(z)))
        return fused


class Mix(nn.Module):
    """What each image token learns of the genes."""

    def weights(self, z: Tensor, genes: GeneSequence) -> Tensor | None:
        """Attention (B,N,T) of image tokens to gene tokens; None without attention."""
        return None


class CrossAttention(Mix):
    """MHA(LN Z_I, LN Z_G): image tokens ask, gene tokens answer."""

    def __init__(self, width: int, gene_width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_image = nn.LayerNorm(width)
        self.norm_genes = nn.LayerNorm(gene_width)
        self.query = nn.Linear(width, width)
        # A key bias adds the same to all scores of a row; the softmax drops it.
        self.key = nn.Linear(gene_width, width, bias=False)
        self.value = nn.Linear(gene_width, width)
        self.out = nn.Linear(width, width)

    def forward(self, z: Tensor, genes: GeneSequence) -> Tensor:
        """Image tokens (B,N,D) and gene tokens (B,T,Dg) to (B,N,D)."""
        query, key = self._query_key(z, genes)
        value = self._heads(self.value(self.norm_genes(genes.tokens)))
        mixed = F.scaled_dot_product_attention(
            query, key, value, attn_mask=genes.mask[:, None, None]
        )
        out: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return out

    def weights(self, z: Tensor, genes: GeneSequence) -> Tensor:
        """softmax(Q K^T / sqrt(d)) (B,N,T), mean over heads, 0 on padding."""
        query, key = self._query_key(z, genes)
        scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
        scores = scores.masked_fill(~genes.mask[:, None, None], -torch.inf)
        return at_least_float32(scores).softmax(-1).mean(1)

    def _query_key(self, z: Tensor, genes: GeneSequence) -> tuple[Tensor, Tensor]:
        query = self._heads(self.query(self.norm_image(z)))
        return query, self._heads(self.key(self.norm_genes(genes.tokens)))

    def _heads(self, x: Tensor) -> Tensor:
        """(B,T,M*d) to (B,M,T,d)."""
        return x.reshape(*x.shape[:2], self.heads, -1).transpose(1, 2)


class Concatenation(Mix):
    """W [LN z_i; LN g]: every image token sees the same profile vector g."""

    def __init__(self, width: int, gene_width: int, heads: int) -> None:
        super().__init__()
        self.norm_image = nn.LayerNorm(width)
        self.norm_genes = nn.LayerNorm(gene_width)
        self.join = nn.Linear(width + gene_width, width)

    def forward(self, z: Tensor, genes: GeneSequence) -> Tensor:
        """Image tokens (B,N,D) and the profile (B,Dg) to (B,N,D)."""
        profile = self.norm_genes(genes.pooled)[:, None].expand(-1, z.shape[1], -1)
        joined: Tensor = self.join(torch.cat([self.norm_image(z), profile], dim=-1))
        return joined


class FeatureModulation(Mix):
    """gamma(g) * LN z_i + beta(g), FiLM (Perez et al., AAAI 2018)."""

    def __init__(self, width: int, gene_width: int, heads: int) -> None:
        super().__init__()
        self.norm_image = nn.LayerNorm(width)
        self.norm_genes = nn.LayerNorm(gene_width)
        self.modulation = nn.Linear(gene_width, 2 * width)

    def forward(self, z: Tensor, genes: GeneSequence) -> Tensor:
        """Image tokens (B,N,D) and the profile (B,Dg) to (B,N,D)."""
        modulation = self.modulation(self.norm_genes(genes.pooled))[:, None]
        gamma, beta = modulation.chunk(2, dim=-1)
        mixed: Tensor = gamma * self.norm_image(z) + beta
        return mixed


_KINDS: dict[str, type[CrossAttention | Concatenation | FeatureModulation]] = {
    "cross_attention": CrossAttention,
    "concat": Concatenation,
    "film": FeatureModulation,
}
