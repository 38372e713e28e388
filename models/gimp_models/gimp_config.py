"""Sizes and options of GiMP: one frozen value, saved in every checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, get_args

from gimp_models.config import Config
from gimp_models.grouping import contiguous
from gimp_models.order import Order

__all__ = ["GimpConfig"]

MaskMode = Literal["block", "random"]
Grouping = Literal["contiguous", "pathway", "correlation"]
AttentionKind = Literal["exact", "nystrom"]

_CHOICES = {
    "order": get_args(Order),
    "attention": get_args(AttentionKind),
    "mask_mode": get_args(MaskMode),
    "grouping": get_args(Grouping),
}

_SIZES: Mapping[str, Mapping[str, Any]] = {
    "tiny": {
        "width": 128,
        "heads": 4,
        "gene_width": 64,
        "gene_heads": 4,
        "fragment": 32,
        "fragments_per_group": 8,
        "per_fragment": True,  # few fragments: cheap, and names single genes better
    },
    "small": {"width": 256, "gene_width": 128},
    "base": {},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class GimpConfig(Config):
    """Sizes and options of GiMP; the defaults are the `base` size.

    Parameters
    ----------
    patch_features
        P, width of the patch encoder.
    genes
        G, number of genes of the panel.
    classes
        C, number of classes.
    width, depth, heads
        D, layers and heads of the image branch.
    gene_width, gene_heads
        Dg and heads of the gene branch.
    fragment, fragments_per_group
        F genes per fragment, K fragments per group (contiguous grouping).
    intra_depth, inter_depth
        Layers inside groups and between groups.
    per_fragment
        One embedding matrix per gene fragment instead of a shared one.
    feedforward
        Hidden width of feed-forward parts in multiples of the model width. 2 gives
        the gene branch about 1.7 M parameters at 20,530 genes.
    dropout
        Residual dropout of both branches.
    projection
        Dimensions of the triplet embedding v.
    order
        Reading order of patches, so what "contiguous" means.
    attention, landmarks
        "exact", or "nystrom" with that many landmarks for very long bags.
    window
        L, consecutive patches seen at once in pre-training.
    mask_ratio, mask_mode
        rho, and whether one contiguous block or single patches are masked.
    standardise_target
        Predict features standardised per vector, not raw ones.
    grouping, groups, group_names
        How genes are grouped. `groups` holds gene indices, empty for contiguous
        grouping; `group_names` names them where they have names.

    Raises
    ------
    ConfigError
        If sizes or options contradict each other.
    """

    MODEL: ClassVar[str] = "GiMP"
    SIZES: ClassVar[Mapping[str, Mapping[str, Any]]] = _SIZES

    patch_features: int
    genes: int
    classes: int
    width: int = 512
    depth: int = 2
    heads: int = 8
    gene_width: int = 256
    gene_heads: int = 8
    fragment: int = 64
    fragments_per_group: int = 16
    intra_depth: int = 2
    inter_depth: int = 1
    per_fragment: bool = False
    feedforward: int = 2
    dropout: float = 0.1
    projection: int = 128
    order: Order = "raster"
    attention: AttentionKind = "exact"
    landmarks: int = 256
    window: int = 2048
    mask_ratio: float = 0.5
    mask_mode: MaskMode = "block"
    standardise_target: bool = True
    grouping: Grouping = "contiguous"
    groups: tuple[tuple[int, ...], ...] = ()
    group_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_sizes(self)
        self.require_choices(_CHOICES)
        _check_groups(self)

    @classmethod
    def preset(
        cls, size: str, *, patch_features: int, genes: int, classes: int
    ) -> GimpConfig:
        """Return a named size: "tiny" (the demo), "small" or "base" (the spec's).

        Change single options with `dataclasses.replace`.

        Raises
        ------
        ConfigError
            If the size is unknown.
        """
        config = cls(patch_features=patch_features, genes=genes, classes=classes)
        return replace(config, **cls.size(size))

    @property
    def gene_groups(self) -> tuple[tuple[int, ...], ...]:
        """R groups of gene indices, also for contiguous grouping."""
        size = self.fragment * self.fragments_per_group
        return self.groups or contiguous(self.genes, size)

    def with_groups(
        self,
        grouping: Grouping,
        groups: Sequence[Sequence[int]],
        names: Sequence[str] = (),
    ) -> GimpConfig:
        """Return the config with explicit gene groups (see `grouping.py`)."""
        held = tuple(tuple(group) for group in groups)
        return replace(self, grouping=grouping, groups=held, group_names=tuple(names))


def _check_sizes(config: GimpConfig) -> None:
    config.require_positive("patch_features", "genes", "classes", "width", "depth")
    config.require_positive("heads", "gene_width", "gene_heads", "fragment")
    config.require_positive("fragments_per_group", "intra_depth", "inter_depth")
    config.require_positive("feedforward", "projection", "landmarks", "window")
    fits = config.width % (4 * config.heads) == 0
    config.require(fits, "width", "a multiple of 4 H")
    fits = config.gene_width % config.gene_heads == 0
    config.require(fits, "gene_width", "a multiple of gene_heads")
    config.require(0 < config.mask_ratio < 1, "mask_ratio", "between 0 and 1")
    config.require(0 <= config.dropout < 1, "dropout", "from 0 to below 1")


def _check_groups(config: GimpConfig) -> None:
    explicit = bool(config.groups)
    right = "contiguous without groups, or pathway or correlation with groups"
    config.require(explicit == (config.grouping != "contiguous"), "grouping", right)
    inside = all(0 <= gene < config.genes for group in config.groups for gene in group)
    config.require(inside, "genes", "more than the largest gene index of the groups")
    config.require(all(config.groups), "grouping", "without an empty group")
    named = len(config.group_names) in (0, len(config.groups))
    config.require(named, "group_names", f"{len(config.groups)} names, or none")
