"""GiMP: gene-induced multimodal pre-training (Jin et al., MICCAI 2023).

Re-implemented from the abstract; what the paper leaves open is our choice and is
listed by `choices`. Read from the top: sizes, image branch, whole. The gene branch
is in `genes.py`, attention in `mixing.py`, what is learnt in `objective/gimp.py`.

Letters: B patients, N patches, P patch features, D model width, G genes, Dg gene
width, R groups, K fragments per group, C classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gimp_models.bag import Batch, check_width
from gimp_models.genes import GeneTokens, GroupMSA
from gimp_models.gimp_config import GimpConfig
from gimp_models.mixing import Mixer, landmark_pooling
from gimp_models.order import reading_rank
from gimp_models.precision import at_least_float32

__all__ = ["Gimp", "GimpConfig", "GimpOutput", "ImageBranch", "ImageTokens", "choices"]

# Shortest and longest wavelength of the position code: two patches of 128 um, and
# more than the 75 mm of a glass slide, so that no two places look alike.
_SHORTEST_UM, _LONGEST_UM = 256.0, 131_072.0


@dataclass(frozen=True, slots=True)
class ImageTokens:
    """What the image branch says about a batch.

    Parameters
    ----------
    cls
        (B,D) class token c_I.
    patches
        (B,N,D) patch tokens Z.
    attention
        (B,N) class attention of the last layer, sums to 1, 0 on padding; None if
        not asked for.
    """

    cls: Tensor
    patches: Tensor
    attention: Tensor | None = None


@dataclass(frozen=True, slots=True)
class GimpOutput:
    """Everything one forward pass of GiMP yields.

    Parameters
    ----------
    logits
        (B,C) of both modalities together.
    image_logits, gene_logits
        (B,C) of one modality alone.
    image_token
        (B,D) c_I.
    gene_token
        (B,Dg) c_G; the training mean for patients without genes.
    patch_tokens
        (B,N,D) Z.
    embedding
        (B,128) unit vectors v of the triplet loss.
    patch_attention
        (B,N), sums to 1, 0 on padding; None if not asked for.
    group_attention
        (B,R,K) weight of each gene fragment, sums to 1 over R and K, 0 for patients
        without genes; None if not asked for or if nobody has genes.
    """

    logits: Tensor
    image_logits: Tensor
    gene_logits: Tensor
    image_token: Tensor
    gene_token: Tensor
    patch_tokens: Tensor
    embedding: Tensor
    patch_attention: Tensor | None = None
    group_attention: Tensor | None = None


class ImageBranch(nn.Module):
    """Patch features to a class token and contextual patch tokens (spec A)."""

    def __init__(self, config: GimpConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Sequential(  # A, "embed"
            nn.Linear(config.patch_features, config.width), nn.GELU()
        )
        self.mask_token = nn.Parameter(torch.empty(config.width))
        self.class_token = nn.Parameter(torch.empty(config.width))
        self.mixer = Mixer(  # A, "mixing"
            config.width,
            depth=config.depth,
            heads=config.heads,
            feedforward=config.feedforward,
            dropout=config.dropout,
        )
        self.norm = nn.LayerNorm(config.width)
        for token in (self.mask_token, self.class_token):
            nn.init.trunc_normal_(token, std=0.02)

    def forward(
        self, batch: Batch, masked: Tensor | None = None, *, attention: bool = False
    ) -> ImageTokens:
        """Encode the bags.

        Parameters
        ----------
        batch
            Features (B,N,P), coordinates in um, mask.
        masked
            (B,N) bool, patches to hide behind the mask token.
        attention
            Also return the class attention.

        Returns
        -------
        ImageTokens
        """
        x, keys = self.tokens(batch, masked), _with_class(batch.mask)
        pooling = self._pooling(batch, keys) if self._approximate() else None
        needed = None if bool(keys.all()) else keys  # without a mask attention is fast
        row = None
        if attention:
            x, row = self.mixer.with_class_row(x, needed, pooling)
        else:
            x = self.mixer(x, needed, pooling)
        x = self.norm(x)  # A, "out"
        return ImageTokens(x[:, 0], x[:, 1:], row)

    def tokens(self, batch: Batch, masked: Tensor | None) -> Tensor:
        """Class token and embedded patches (B,1+N,D), before any mixing.

        A hidden patch keeps its place: the mask token replaces what was seen, the
        position is added afterwards.
        """
        x = self.embed(batch.features)
        if masked is not None:
            x = torch.where(masked[..., None], self.mask_token.to(x.dtype), x)
        x = x + place_code(batch.coords_um, self.config.width).to(x.dtype)
        first = self.class_token.expand(len(x), 1, -1).to(x.dtype)
        return torch.cat([first, x], dim=1)

    def _approximate(self) -> bool:
        return self.config.attention == "nystrom"

    def _pooling(self, batch: Batch, keys: Tensor) -> Tensor:
        """Landmarks over the class token and the patches in reading order."""
        rank = reading_rank(batch.coords_um, batch.mask, self.config.order)
        rank = F.pad(rank + 1, (1, 0))
        return landmark_pooling(rank, keys, self.config.landmarks)


class Gimp(nn.Module):
    """The whole model: two branches, fusion, heads (spec D and E).

    The reference values below are zero until they are measured on the training
    cohort (`evidence.measure_reference`); they are saved with the weights.

    Parameters
    ----------
    config
        Sizes and options.

    Attributes
    ----------
    feature_mean
        (P,) mean patch feature, the baseline of patch contributions.
    image_token_mean, gene_token_mean
        (D,) and (Dg,) mean class tokens, which stand for an absent modality.
    """

    def __init__(self, config: GimpConfig) -> None:
        super().__init__()
        self.config = config
        pair, classes = config.width + config.gene_width, config.classes
        self.image = ImageBranch(config)  # spec A
        self.genes = GroupMSA(  # spec C
            config.gene_groups,
            config.genes,
            fragment=config.fragment,
            width=config.gene_width,
            heads=config.gene_heads,
            intra_depth=config.intra_depth,
            inter_depth=config.inter_depth,
            feedforward=config.feedforward,
            dropout=config.dropout,
            per_fragment=config.per_fragment,
        )
        self.patch_head = nn.Sequential(  # spec B, the head of masked patch modelling
            nn.LayerNorm(config.width),
            nn.Linear(config.width, config.width),
            nn.GELU(),
            nn.Linear(config.width, config.patch_features),
        )
        self.projection = nn.Sequential(  # spec D, v before normalisation
            nn.Linear(pair, pair), nn.GELU(), nn.Linear(pair, config.projection)
        )
        self.pair_head = _head(pair, classes)  # spec E
        self.image_head = _head(config.width, classes)
        self.gene_head = _head(config.gene_width, classes)
        self.feature_mean: Tensor
        self.image_token_mean: Tensor
        self.gene_token_mean: Tensor
        self.register_buffer("feature_mean", torch.zeros(config.patch_features))
        self.register_buffer("image_token_mean", torch.zeros(config.width))
        self.register_buffer("gene_token_mean", torch.zeros(config.gene_width))

    def forward(self, batch: Batch, *, attention: bool = False) -> GimpOutput:
        """Classify patients.

        Parameters
        ----------
        batch
            Bags of patches (B,N,P) with profiles (B,G), genes may be absent.
        attention
            Also return the attention of both branches.

        Returns
        -------
        GimpOutput

        Raises
        ------
        BatchError
            If feature size or number of genes are not those of the model.
        """
        image = self.encode_image(batch, attention=attention)
        gene_token, genes = self.encode_genes(batch, attention=attention)
        return GimpOutput(
            logits=self.classify(image.cls, gene_token),
            image_logits=self.image_head(image.cls),
            gene_logits=self.gene_head(gene_token),
            image_token=image.cls,
            gene_token=gene_token,
            patch_tokens=image.patches,
            embedding=self.project(image.cls, gene_token),
            patch_attention=image.attention,
            group_attention=_fragment_weights(genes, batch.has_genes),
        )

    def reconstruct(self, batch: Batch, masked: Tensor) -> Tensor:
        """Predict patch features from the patches that are not masked (spec B).

        Parameters
        ----------
        batch
            (B,N,P) features; those of masked patches are never looked at.
        masked
            (B,N) bool, patches to hide.

        Returns
        -------
        Tensor
            (B,N,P) predictions f_hat, on the scale of the standardised feature
            (or the raw one, if the model was trained so).
        """
        return self.predict_patches(self.encode_image(batch, masked).patches)

    def encode_image(
        self, batch: Batch, masked: Tensor | None = None, *, attention: bool = False
    ) -> ImageTokens:
        """Run the image branch; parameters as in `ImageBranch.forward`."""
        check_width("patch features P", batch.features, self.config.patch_features)
        tokens: ImageTokens = self.image(batch, masked, attention=attention)
        return tokens

    def encode_genes(
        self, batch: Batch, *, attention: bool = False
    ) -> tuple[Tensor, GeneTokens | None]:
        """Run the gene branch.

        Returns
        -------
        tuple
            c_G (B,Dg), with the training mean where a patient has no genes, and
            the branch's tokens (None if nobody has genes).
        """
        absent = self.gene_token_mean.expand(len(batch), -1)
        if batch.genes is None:
            return absent, None
        check_width("genes G", batch.genes, self.config.genes)
        tokens: GeneTokens = self.genes(batch.genes, attention=attention)
        mean = absent.to(tokens.cls.dtype)
        return torch.where(batch.has_genes[:, None], tokens.cls, mean), tokens

    def classify(self, image_token: Tensor, gene_token: Tensor) -> Tensor:
        """Return logits (B,C) of c_I (B,D) and c_G (B,Dg): Linear(LN([c_I; c_G]))."""
        logits: Tensor = self.pair_head(_join(image_token, gene_token))
        return logits

    def project(self, image_token: Tensor, gene_token: Tensor) -> Tensor:
        """Return unit vectors v (B,128) of c_I (B,D) and c_G (B,Dg), spec D."""
        v = self.projection(_join(image_token, gene_token))
        return F.normalize(at_least_float32(v), dim=-1)

    def predict_patches(self, patch_tokens: Tensor) -> Tensor:
        """Predict patch features f_hat (B,N,P) from patch tokens Z (B,N,D), spec B."""
        predicted: Tensor = self.patch_head(patch_tokens)
        return predicted


def place_code(coords_um: Tensor, width: int) -> Tensor:
    """Two-dimensional sinusoidal position code of (y, x) in um.

    Parameters
    ----------
    coords_um
        (...,2) um.
    width
        D, a multiple of 4: a quarter each for sin y, cos y, sin x, cos x.

    Returns
    -------
    Tensor
        (...,D) in [-1, 1], float32, or float64 for float64 coordinates.
    """
    coords_um = at_least_float32(coords_um)
    steps = torch.linspace(
        0, 1, width // 4, device=coords_um.device, dtype=coords_um.dtype
    )
    wavelength_um = _SHORTEST_UM * (_LONGEST_UM / _SHORTEST_UM) ** steps
    angle = coords_um[..., None] * (2 * math.pi / wavelength_um)
    return torch.cat([angle.sin(), angle.cos()], dim=-1).flatten(-2)


def choices(config: GimpConfig) -> tuple[str, ...]:
    """List what the paper leaves open and how this model settles it.

    Returns
    -------
    tuple of str
        One sentence each, for the checkpoint's card.
    """
    target = "standardised per vector" if config.standardise_target else "raw"
    matrix = "one per fragment" if config.per_fragment else "shared by all fragments"
    return (
        "Patches: no overlap, frozen encoder, "
        f"P = {config.patch_features} features per patch.",
        f"Reading order of patches: {config.order}.",
        "Patch embedding: Linear + GELU plus a sinusoidal code of (y, x) in um.",
        f"Image branch: {config.depth} pre-norm layers, width {config.width}, "
        f"{config.heads} heads, {config.attention} attention.",
        "Mask token: one learnable vector, placed before padding.",
        f"Window of {config.window} consecutive patches, "
        f"{config.mask_ratio:g} of them masked ({config.mask_mode}).",
        f"Masked patch target: {target}; mean squared error on masked patches.",
        "The masked pass also yields the class token of the triplet loss.",
        f"Gene branch: {len(config.gene_groups)} groups ({config.grouping}), fragments "
        f"of {config.fragment} genes, embedding matrix {matrix}, "
        f"width {config.gene_width}, {config.gene_heads} heads, "
        f"{config.intra_depth} layers inside and {config.inter_depth} between groups, "
        "fragment positions drawn as large as the embedded genes.",
        f"Feed-forward width {config.feedforward} times the model's, "
        f"dropout {config.dropout:g}.",
        f"Fusion: concatenated class tokens; triplets on {config.projection} unit "
        "dimensions.",
        "Absent genes: the training cohort's mean gene token.",
        "Heads of one modality alone are trained beside the pair's, detached.",
    )


def _head(width: int, classes: int) -> nn.Sequential:
    return nn.Sequential(nn.LayerNorm(width), nn.Linear(width, classes))


def _join(image_token: Tensor, gene_token: Tensor) -> Tensor:
    return torch.cat([image_token, gene_token.to(image_token.dtype)], dim=-1)


def _with_class(mask: Tensor) -> Tensor:
    """(B,N) to (B,1+N): the class token is always real."""
    return F.pad(mask, (1, 0), value=True)


def _fragment_weights(genes: GeneTokens | None, has_genes: Tensor) -> Tensor | None:
    """Inter-group class row times intra-group rows (B,R,K)."""
    if genes is None or genes.within is None or genes.between is None:
        return None
    return genes.between[..., None] * genes.within * has_genes[:, None, None]
