"""Sizes and options of MGI: one frozen value, saved in every checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, get_args

from gimp_models.config import Config

__all__ = ["FusionKind", "GeneEncoderKind", "MgiConfig", "Pool", "TokenKind"]

GeneEncoderKind = Literal["mamba", "transformer", "mlp", "snn"]
TokenKind = Literal["chunk", "gene"]
Pool = Literal["mean", "last"]
FusionKind = Literal["cross_attention", "concat", "film", "none"]

_CHOICES = {
    "gene_encoder": get_args(GeneEncoderKind),
    "gene_tokens": get_args(TokenKind),
    "pool": get_args(Pool),
    "fusion": get_args(FusionKind),
}

MOST_GENE_TOKENS = 4_096
"""Above this many genes, one token per gene is refused (spec B)."""

_WHOLE_PROFILE = ("mlp", "snn")  # gene encoders that see all genes at once

_SIZES: Mapping[str, Mapping[str, Any]] = {
    "tiny": {
        "image_px": 128,
        "width": 128,
        "depth": 4,
        "heads": 4,
        "gene_width": 128,
        "gene_layers": 2,
        "decoder_width": 64,
    },
    "small": {},
    "base": {
        "width": 768,
        "heads": 12,
        "gene_width": 384,
        "gene_layers": 8,
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class MgiConfig(Config):
    """Sizes and options of MGI; the defaults are the `small` size (spec A and B).

    Parameters
    ----------
    genes
        G, number of genes of the panel, in the order the scan reads them.
    classes
        K, channels of the mask: 1 for tumour against the rest (a sigmoid), else the
        number of tissue classes (a softmax).
    image_px
        Longest side of a region in pixels, a multiple of `patch_px`.
    patch_px
        Side of a ViT patch, a power of two: the decoder doubles back to pixels.
    width, depth, heads
        D, layers and heads of the ViT.
    mpp
        um per pixel of the images the model is trained on.
    gene_encoder
        "mamba", or what it is compared with: "transformer", "mlp", "snn" (spec F).
    gene_tokens, fragment
        "chunk" cuts the profile into fragments of F genes, "gene" makes each gene a
        token (at most 4,096 genes).
    gene_width, gene_layers
        Dg and layers of the gene encoder.
    states, conv, bidirectional
        N states, k taps of the causal convolution, and whether a backward scan is
        added; Mamba only.
    pool
        Profile vector: the mean over tokens or the last token (with a backward scan,
        the mean of the last and the first, where that one ends).
    embedding
        Dimensions E of the contrastive space.
    fusion, fusion_layers
        How genes reach the image tokens, and how often; "none" is the image-only
        ablation (spec D).
    skips
        Feed the ViT's taps to the decoder.
    decoder_width
        Channels of the decoder's first step, halved by each further one.
    dropout
        Residual dropout of all parts.

    Raises
    ------
    ConfigError
        If sizes or options contradict each other.
    """

    MODEL: ClassVar[str] = "MGI"
    SIZES: ClassVar[Mapping[str, Mapping[str, Any]]] = _SIZES

    genes: int
    classes: int
    image_px: int = 256
    patch_px: int = 16
    width: int = 384
    depth: int = 12
    heads: int = 6
    mpp: float = 1.0
    gene_encoder: GeneEncoderKind = "mamba"
    gene_tokens: TokenKind = "chunk"
    fragment: int = 64
    gene_width: int = 256
    gene_layers: int = 4
    states: int = 16
    conv: int = 4
    bidirectional: bool = False
    pool: Pool = "mean"
    embedding: int = 256
    fusion: FusionKind = "cross_attention"
    fusion_layers: int = 1
    skips: bool = True
    decoder_width: int = 128
    dropout: float = 0.0

    def __post_init__(self) -> None:
        self.require_choices(_CHOICES)
        _check_image(self)
        _check_genes(self)
        _check_decoder(self)

    @classmethod
    def preset(cls, size: str, *, genes: int, classes: int) -> MgiConfig:
        """Return a named size: "tiny" (the demo), "small" or "base" (spec A and B).

        Change single options with `dataclasses.replace`.

        Raises
        ------
        ConfigError
            If the size is unknown.
        """
        return replace(cls(genes=genes, classes=classes), **cls.size(size))

    @property
    def side(self) -> int:
        """Patches along the longest side of a region."""
        return self.image_px // self.patch_px

    @property
    def gene_length(self) -> int:
        """Return T, the number of gene tokens."""
        if self.gene_encoder in _WHOLE_PROFILE:
            return 1
        return self.genes if self.gene_tokens == "gene" else self._fragments

    @property
    def _fragments(self) -> int:
        return -(-self.genes // self.fragment)


def _check_image(config: MgiConfig) -> None:
    config.require_positive("width", "depth", "heads")
    config.require(config.width % config.heads == 0, "width", "a multiple of heads")
    power = config.patch_px >= 2 and config.patch_px & (config.patch_px - 1) == 0
    config.require(power, "patch_px", "a power of two, 2 or more")
    fits = config.image_px >= 1 and config.image_px % config.patch_px == 0
    config.require(fits, "image_px", f"a multiple of patch_px ({config.patch_px})")
    config.require(config.mpp > 0, "mpp", "above 0 um per pixel")


def _check_genes(config: MgiConfig) -> None:
    config.require_positive("genes", "fragment", "gene_width", "gene_layers")
    config.require_positive("states", "conv", "embedding")
    sequence = config.gene_encoder in _WHOLE_PROFILE or config.gene_length > 1
    right = f"below genes ({config.genes}): a sequence has two tokens or more"
    config.require(sequence, "fragment", right)  # else decays or queries never learn
    few = config.gene_tokens != "gene" or config.genes <= MOST_GENE_TOKENS
    right = f"at most {MOST_GENE_TOKENS} with one token per gene, or use gene_tokens "
    config.require(few, "genes", right + "'chunk'")


def _check_decoder(config: MgiConfig) -> None:
    config.require_positive("classes", "fusion_layers")
    fits = config.decoder_width >= 8 and config.decoder_width % 8 == 0
    config.require(fits, "decoder_width", "a multiple of 8")
    config.require(0 <= config.dropout < 1, "dropout", "from 0 to below 1")
    # A softmax over one key is 1: query and key would never learn.
    attends = config.fusion != "cross_attention" or config.gene_length > 1
    right = "concat, film or none where the gene encoder yields a single token"
    config.require(attends, "fusion", right)
