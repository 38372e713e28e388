"""What MGI's Mamba gene encoder is compared with: transformer, MLP, SNN (spec F).

All yield a `GeneSequence`, so that the rest of the model does not know which it has.
The transformer reads the same tokens as Mamba; MLP and SNN see the whole profile at
once and yield a single token.

Letters: B profiles, G genes, T tokens, Dg width.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from gimp_models.gene_tokens import GeneTokeniser
from gimp_models.mamba import GeneSequence, MambaGenes
from gimp_models.mgi_config import MgiConfig
from gimp_models.mixing import Mixer
from gimp_models.snn import SNN

__all__ = ["GeneEncoder", "MlpGenes", "SnnGenes", "TransformerGenes", "gene_encoder"]

_HEAD_WIDTH = 32  # of the transformer's attention heads, where the width allows it
_FEEDFORWARD = 4


def gene_encoder(config: MgiConfig) -> GeneEncoder:
    """Build the gene encoder a config names.

    Returns
    -------
    GeneEncoder
        From profiles (B,G) and, where it reads several tokens, their mask (B,T) to a
        `GeneSequence`; `tokens_of_genes()` (G,) tells each gene's token.
    """
    return _KINDS[config.gene_encoder](config)


class TransformerGenes(nn.Module):
    """Pre-norm transformer over the same gene tokens as Mamba.

    Parameters
    ----------
    config
        `genes`, `gene_tokens`, `fragment`, `gene_width`, `gene_layers`, `pool`,
        `dropout`.
    """

    def __init__(self, config: MgiConfig) -> None:
        super().__init__()
        width = config.gene_width
        self.embed = GeneTokeniser(
            config.genes,
            tokenise=config.gene_tokens,
            fragment=config.fragment,
            width=width,
        )
        heads = width // _HEAD_WIDTH if width % _HEAD_WIDTH == 0 else 1
        self.mixer = Mixer(
            width,
            depth=config.gene_layers,
            heads=heads,
            feedforward=_FEEDFORWARD,
            dropout=config.dropout,
        )
        self.norm = nn.LayerNorm(width)
        self.pool = _POOLS[config.pool]

    def forward(self, x: Tensor, mask: Tensor | None = None) -> GeneSequence:
        """Encode profiles (B,G); `mask` (B,T) is True for real tokens, None if all."""
        tokens = self.norm(self.mixer(self.embed(x), mask))
        if mask is None:
            mask = torch.ones(tokens.shape[:2], dtype=torch.bool, device=x.device)
        tokens = torch.where(mask[..., None], tokens, 0)
        return GeneSequence(tokens, mask, self.pool(tokens, mask))

    def tokens_of_genes(self) -> Tensor:
        """Token (G,) int64 of each gene."""
        return self.embed.tokens_of_genes()


class WholeProfile(nn.Module):
    """A gene encoder that sees the whole profile at once: a sequence of one token."""

    def __init__(self, genes: int, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.token: Tensor
        only = torch.zeros(genes, dtype=torch.int64)
        self.register_buffer("token", only, persistent=False)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> GeneSequence:
        """Encode profiles (B,G) as one token each; there is nothing to mask."""
        profile = self.network(x)
        real = torch.ones(len(x), 1, dtype=torch.bool, device=x.device)
        return GeneSequence(profile[:, None], real, profile)

    def tokens_of_genes(self) -> Tensor:
        """Zeros (G,): all genes are in the only token."""
        return self.token


class MlpGenes(WholeProfile):
    """`gene_layers` times Linear, GELU, dropout; then Linear and LayerNorm."""

    def __init__(self, config: MgiConfig) -> None:
        width = config.gene_width
        layers: list[nn.Module] = []
        for inside in (config.genes, *[width] * (config.gene_layers - 1)):
            layers += [nn.Linear(inside, width), nn.GELU(), nn.Dropout(config.dropout)]
        layers += [nn.Linear(width, width), nn.LayerNorm(width)]
        super().__init__(config.genes, nn.Sequential(*layers))


class SnnGenes(WholeProfile):
    """The self-normalising network of Subspace (its spec, 3.1), then Linear.

    The network's values are never negative, and all 0 for the mean profile before
    training, where a unit vector has no direction; the linear layer mends both.
    """

    def __init__(self, config: MgiConfig) -> None:
        width = config.gene_width
        network = SNN(config.genes, width, dropout=config.dropout)
        super().__init__(config.genes, nn.Sequential(network, nn.Linear(width, width)))


GeneEncoder = MambaGenes | TransformerGenes | WholeProfile


def _mean(tokens: Tensor, mask: Tensor) -> Tensor:
    return tokens.sum(1) / mask.sum(1, keepdim=True)


def _last(tokens: Tensor, mask: Tensor) -> Tensor:
    last = mask.sum(1) - 1  # real tokens come first
    return tokens[torch.arange(len(tokens), device=tokens.device), last]


def _mamba(config: MgiConfig) -> MambaGenes:
    return MambaGenes(
        config.genes,
        tokenise=config.gene_tokens,
        fragment=config.fragment,
        width=config.gene_width,
        layers=config.gene_layers,
        states=config.states,
        conv=config.conv,
        bidirectional=config.bidirectional,
        pool=config.pool,
        dropout=config.dropout,
    )


_POOLS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"mean": _mean, "last": _last}
_KINDS: dict[str, Callable[[MgiConfig], GeneEncoder]] = {
    "mamba": _mamba,
    "transformer": TransformerGenes,
    "mlp": MlpGenes,
    "snn": SnnGenes,
}
