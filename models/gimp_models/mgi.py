"""MGI: multimodal contrastive pre-training of genes and images (Zhou et al., 2024).

Re-implemented from the abstract of arXiv 2406.00631; what it leaves open is our
choice and is listed by `choices`. Read from the top: output, whole. The image encoder
is in `vit.py`, the gene encoder in `mamba.py` (its rivals in `gene_encoders.py`), the
rest in `fusion.py` and `mask_decoder.py`, losses in `objective/mgi.py`.

Letters: B regions, N patches, D width, T gene tokens, Dg gene width, E embedding,
K classes of a mask, G genes, H W pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gimp_models.errors import BatchError
from gimp_models.fusion import Fusion
from gimp_models.gene_encoders import gene_encoder
from gimp_models.mamba import GeneSequence
from gimp_models.mask_decoder import MaskDecoder
from gimp_models.mgi_config import MgiConfig
from gimp_models.precision import at_least_float32
from gimp_models.region import RegionBatch
from gimp_models.vit import ImageGrid, ViT

__all__ = ["Mgi", "MgiConfig", "MgiOutput", "choices"]

_FIRST_TEMPERATURE = 0.07  # theta begins at log(1 / 0.07) (spec C)
_LARGEST_SCALE = 100.0  # exp(theta) is held at or below (spec C)


@dataclass(frozen=True, slots=True)
class MgiOutput:
    """Everything one forward pass of MGI yields.

    Parameters
    ----------
    logits
        (B,K,H,W) of the mask; they mean nothing where the batch has no real pixel.
    image
        The image encoder's tokens.
    genes
        The gene encoder's tokens; those of the mean profile for regions without genes.
    image_embedding, gene_embedding
        (B,E) unit vectors u and g of the contrastive space.
    cross_attention
        (B,N,T) attention of image tokens to gene tokens in the last fusion layer,
        mean over heads, each row sums to 1; None if not asked for, or if the fusion
        is not by cross-attention.
    """

    logits: Tensor
    image: ImageGrid
    genes: GeneSequence
    image_embedding: Tensor
    gene_embedding: Tensor
    cross_attention: Tensor | None = None


class Mgi(nn.Module):
    """The whole model: two encoders, contrastive space, fusion, decoder.

    Parameters
    ----------
    config
        Sizes and options.

    Attributes
    ----------
    log_scale
        theta, the learned logarithm of the contrastive loss's inverse temperature.
    """

    def __init__(self, config: MgiConfig) -> None:
        super().__init__()
        self.config = config
        self.vit = ViT(config)  # spec A
        self.genes = gene_encoder(config)  # spec B
        # Linear and free of bias, so that the similarity map is exact (spec C).
        self.image_projection = nn.Linear(config.width, config.embedding, bias=False)
        self.gene_projection = nn.Linear(
            config.gene_width, config.embedding, bias=False
        )
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / _FIRST_TEMPERATURE)))
        self.fusion = Fusion(config)  # spec D
        self.decoder = MaskDecoder(config)

    def forward(self, batch: RegionBatch, *, attention: bool = False) -> MgiOutput:
        """Segment regions and place them in the contrastive space.

        Parameters
        ----------
        batch
            Regions (B,3,H,W) with profiles (B,G), genes may be absent.
        attention
            Also return the cross-attention.

        Returns
        -------
        MgiOutput

        Raises
        ------
        BatchError
            If an image is too large or too small, or the number of genes is not the
            model's.
        """
        image, genes = self.encode_images(batch), self.encode_genes(batch)
        height, width = batch.images.shape[-2:]
        logits, weights = self.segment(
            image, genes, (height, width), attention=attention
        )
        return MgiOutput(
            logits=logits,
            image=image,
            genes=genes,
            image_embedding=self.embed_images(image),
            gene_embedding=self.embed_genes(genes),
            cross_attention=weights,
        )

    def encode_images(self, batch: RegionBatch) -> ImageGrid:
        """Run the image encoder on (B,3,H,W); raises as `forward`."""
        image: ImageGrid = self.vit(batch.images, batch.pixels)
        return image

    def encode_genes(self, batch: RegionBatch) -> GeneSequence:
        """Run the gene encoder; a region without genes has the mean profile, z = 0."""
        genes: GeneSequence = self.genes(self._profiles(batch))
        return genes

    def embed_images(self, image: ImageGrid) -> Tensor:
        """Return u = norm(P_I pool(Z_I)) (B,E); the pool is the mean of real tokens."""
        real = torch.where(image.mask[..., None], image.patches, 0)
        pooled = real.sum(1) / image.mask.sum(1, keepdim=True)
        return F.normalize(at_least_float32(self.image_projection(pooled)), dim=-1)

    def embed_genes(self, genes: GeneSequence) -> Tensor:
        """Return g = norm(P_G pool(Z_G)) (B,E)."""
        return F.normalize(at_least_float32(self.gene_projection(genes.pooled)), dim=-1)

    def segment(
        self,
        image: ImageGrid,
        genes: GeneSequence,
        size: tuple[int, int],
        *,
        attention: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Fuse and decode (spec D).

        Parameters
        ----------
        image, genes
            From `encode_images` and `encode_genes`.
        size
            (H,W) of the images, before they were padded to whole patches.
        attention
            Also return the cross-attention.

        Returns
        -------
        tuple
            Logits (B,K,H,W), and the cross-attention (B,N,T) or None.
        """
        weights = None
        if attention:
            tokens, weights = self.fusion.with_attention(image.patches, genes)
        else:
            tokens = self.fusion(image.patches, genes)
        logits = self.decoder(tokens, image)
        return logits[..., : size[0], : size[1]], weights

    def scale(self) -> Tensor:
        """exp(theta), at most 100 (spec C).

        The gradient passes the bound as if it were not there, so that theta can come
        back from it.
        """
        theta = self.log_scale
        bounded = theta.clamp(max=math.log(_LARGEST_SCALE))
        return (theta + (bounded - theta).detach()).exp()

    @torch.no_grad()
    def hold_scale(self) -> None:
        """Put a theta that a step has carried beyond the bound back on it.

        Else it would wander off while pairs are easy, and come back too late.
        """
        self.log_scale.clamp_(max=math.log(_LARGEST_SCALE))

    def _profiles(self, batch: RegionBatch) -> Tensor:
        """Profiles (B,G), zero, the training mean, where a region has none."""
        if batch.genes is None:
            return batch.images.new_zeros(len(batch), self.config.genes)
        found = batch.genes.shape[-1]
        if found != self.config.genes:
            raise BatchError(
                f"The batch has {found} genes G, the model needs {self.config.genes}: "
                "use the gene panel of the model's card."
            )
        return torch.where(batch.has_genes[:, None], batch.genes, 0)


def choices(config: MgiConfig) -> tuple[str, ...]:
    """List what the paper leaves open and how this model settles it.

    Returns
    -------
    tuple of str
        One sentence each, for the checkpoint's card.
    """
    return (
        f"Images: {config.mpp:g} um per pixel, at most {config.image_px} pixels a "
        "side, RGB.",
        f"Image encoder: ViT, patches of {config.patch_px} pixels, width "
        f"{config.width}, {config.depth} pre-norm layers, {config.heads} heads, "
        "learned positions counted from the top left.",
        _gene_choice(config),
        f"Profile vector: {_pool_choice(config)}.",
        f"Contrastive space: {config.embedding} dimensions, linear projections without "
        f"bias, inverse temperature learned from 1/{_FIRST_TEMPERATURE:g}, at most "
        f"{_LARGEST_SCALE:g}.",
        _fusion_choice(config),
        f"Decoder: {int(math.log2(config.patch_px))} doublings from "
        f"{config.decoder_width} channels, "
        f"{'with' if config.skips else 'without'} skips from the image encoder.",
        f"Mask: {_mask_choice(config.classes)}.",
        f"Dropout {config.dropout:g}.",
        "Absent genes: the training cohort's mean profile.",
    )


_FUSED = {
    "cross_attention": "image tokens attend to gene tokens",
    "concat": "the profile vector is concatenated to each image token",
    "film": "the profile vector scales and shifts each image token (FiLM)",
}


def _gene_choice(config: MgiConfig) -> str:
    kind = config.gene_encoder
    if kind in ("mlp", "snn"):
        return f"Gene encoder: {kind} of the whole profile, width {config.gene_width}."
    token = "one gene" if config.gene_tokens == "gene" else f"{config.fragment} genes"
    directions = "forward and backward" if config.bidirectional else "forward"
    scan = f", {config.states} states, scan {directions}" if kind == "mamba" else ""
    return (
        f"Gene encoder: {kind}, {config.gene_length} tokens ({token} each) in stored "
        f"order, width {config.gene_width}, {config.gene_layers} layers{scan}."
    )


def _pool_choice(config: MgiConfig) -> str:
    if config.gene_length == 1:
        return "the only gene token"
    if config.pool == "mean":
        return "mean over the gene tokens"
    both = config.gene_encoder == "mamba" and config.bidirectional
    return "mean of the first and last gene token" if both else "the last gene token"


def _fusion_choice(config: MgiConfig) -> str:
    if config.fusion == "none":
        return "Fusion: none, the mask is made from the image only."
    return f"Fusion: {_FUSED[config.fusion]} (layers: {config.fusion_layers})."


def _mask_choice(classes: int) -> str:
    return "tumour against the rest" if classes == 1 else f"{classes} tissue classes"
