"""What MGI sees, exactly: mask, similarity, cross-attention, retrieval.

Attention is not attribution: it says which gene fragments an image token looked at,
not what moved the mask; for that see `mgi_genes.py`. Everything here runs the model
in evaluation mode without gradients and leaves it as it was. Spec mgi, "What the
viewer shows": mask, similarity map, cross-attention, retrieval.

Letters: B regions, N = h w patches, T gene tokens, K classes of a mask, H W pixels,
M patients.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from gimp_models.contrast import (
    Retrieval,
    rank_profiles,
    retrieval_of,
    similarities,
)
from gimp_models.errors import BatchError, ConfigError
from gimp_models.evidence.evaluating import evaluating
from gimp_models.mgi import Mgi
from gimp_models.overlap import probabilities
from gimp_models.precision import at_least_float32
from gimp_models.region import Region, RegionBatch, collate_regions

__all__ = [
    "CrossAttentionMap",
    "SimilarityMap",
    "SimilarityTable",
    "area_mm2",
    "cross_attention",
    "entropy_map",
    "fragment_relevance",
    "mask_probabilities",
    "similarity_map",
    "similarity_table",
]


@dataclass(frozen=True, slots=True, eq=False)
class SimilarityMap:
    """The image-gene similarity, split among the patches.

    Parameters
    ----------
    patches
        (B,h,w) what each patch adds; 0 for patches that are not wholly real. Their
        sum is the similarity.
    similarity
        (B,) cosine of the region and the profile, in [-1, 1].
    """

    patches: Tensor
    similarity: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class CrossAttentionMap:
    """Attention of image tokens to gene tokens, mean over heads, last fusion layer.

    Parameters
    ----------
    weights
        (B,N,T), each row of a real patch sums to 1; 0 for patches that are not
        wholly real.
    real
        (B,N) bool, True for patches that are wholly real.
    grid
        (h,w) patches down and across.
    patch_px
        Side of a patch in pixels.
    """

    weights: Tensor
    real: Tensor
    grid: tuple[int, int]
    patch_px: int

    def profile(self, region: int, y_px: int, x_px: int) -> Tensor:
        """Weights (T,) of the gene tokens for the patch that holds a pixel.

        Raises
        ------
        BatchError
            If the pixel lies outside the regions' grid.
        """
        row, column = y_px // self.patch_px, x_px // self.patch_px
        height, width = self.grid
        if not (0 <= row < height and 0 <= column < width):
            raise BatchError(
                f"Pixel ({y_px}, {x_px}) lies outside the region of "
                f"{height * self.patch_px} x {width * self.patch_px} pixels: click "
                "inside it."
            )
        return self.weights[region, row * width + column]

    def fragment(self, token: int) -> Tensor:
        """Map (B,h,w) of how much each patch looks at one gene token."""
        return self.weights[..., token].reshape(-1, *self.grid)


@dataclass(frozen=True, slots=True, eq=False)
class SimilarityTable:
    """Similarity of regions and patients.

    Parameters
    ----------
    patients
        Names of the M patients with a profile, in order of appearance.
    matrix
        (R,M) cosine of each region with each patient's profile.
    own
        (R,M) bool, True where the profile is of the region's patient.
    rank
        (R,) rank of the own profile among all M; 1 is best, ties share their mean.
    """

    patients: tuple[str, ...]
    matrix: Tensor
    own: Tensor
    rank: Tensor

    @property
    def retrieval(self) -> Retrieval:
        """Recall@1, Recall@5 and median rank both ways, with chance beside them."""
        return retrieval_of(self.matrix, self.own)


def mask_probabilities(model: Mgi, batch: RegionBatch) -> Tensor:
    """Probability (B,K,H,W) of each tissue, 0 where no pixel is real."""
    with evaluating(model):
        logits = model(batch).logits
    return probabilities(logits) * batch.pixels[:, None]


def entropy_map(probability: Tensor) -> Tensor:
    """How undecided each pixel is.

    Parameters
    ----------
    probability
        (B,K,H,W), of one tissue (K = 1) or of K classes that sum to 1.

    Returns
    -------
    Tensor
        (B,H,W) entropy as a fraction of the largest possible: 0 certain, 1 all
        classes equally likely.
    """
    if probability.shape[1] == 1:
        probability = torch.cat([probability, 1 - probability], dim=1)
    nats: Tensor = torch.special.entr(probability).sum(1)
    return nats / math.log(probability.shape[1])


def area_mm2(mask: Tensor, *, mpp: float) -> float:
    """Area in mm2 of the True pixels of a mask, at `mpp` um per pixel."""
    return int(mask.sum()) * (mpp / 1000) ** 2


def similarity_map(model: Mgi, batch: RegionBatch) -> SimilarityMap:
    """Split the contrastive similarity exactly among the patches.

    With a mean pool and a linear projection W free of bias, u.g is the sum over
    patches of s_i = (W z_i).g / (N ||W z_mean||).

    Parameters
    ----------
    model
        A pre-trained model.
    batch
        Regions; the profile of a region without genes is the training mean.

    Returns
    -------
    SimilarityMap
    """
    with evaluating(model):
        image = model.encode_images(batch)
        g = model.embed_genes(model.encode_genes(batch))  # (B,E)
        # Several thousand terms are added up: not in half precision.
        weight = model.image_projection.weight.to(g.dtype)
        projected = at_least_float32(image.patches) @ weight.T  # W z_i (B,N,E)
        projected = projected * image.mask[..., None]
        total = projected.sum(1)  # N W z_mean
        towards = (projected * g[:, None]).sum(-1)
        each = towards / total.norm(dim=-1, keepdim=True)
        similarity = (F.normalize(total, dim=-1) * g).sum(-1)
    return SimilarityMap(each.reshape(-1, *image.grid), similarity)


def cross_attention(model: Mgi, batch: RegionBatch) -> CrossAttentionMap:
    """Read which gene tokens each patch looks at.

    Raises
    ------
    ConfigError
        If the model does not fuse by cross-attention.
    """
    with evaluating(model):
        out = model(batch, attention=True)
    if out.cross_attention is None:
        raise ConfigError(
            f"This model fuses genes by {model.config.fusion!r}, so there is no "
            "cross-attention: train one with fusion='cross_attention'."
        )
    real = out.image.mask
    weights = at_least_float32(out.cross_attention) * real[..., None]
    return CrossAttentionMap(weights, real, out.image.grid, model.config.patch_px)


def fragment_relevance(attention: CrossAttentionMap, probability: Tensor) -> Tensor:
    """Tumour-weighted relevance r_t = sum_i p_i A_it / sum_i p_i of gene tokens.

    Parameters
    ----------
    attention
        Of the same batch.
    probability
        (B,H,W) of one tissue; p_i is its mean over patch i.

    Returns
    -------
    Tensor
        (B,T), sums to 1 for each region in which the tissue has any probability,
        else 0.
    """
    p = _patch_means(probability, attention) * attention.real
    weighted = (p[..., None] * attention.weights).sum(1)
    return weighted / p.sum(1, keepdim=True).clamp_min(torch.finfo(p.dtype).tiny)


def similarity_table(
    model: Mgi, regions: Sequence[Region], *, at_once: int = 16
) -> SimilarityTable:
    """Compare every region with every patient's profile.

    Parameters
    ----------
    model
        A pre-trained model.
    regions
        Of several patients; regions of one name share the profile of the first with
        genes. Regions without a name are patients of their own; regions of patients
        without any profile are left out.
    at_once
        Regions in one pass.

    Returns
    -------
    SimilarityTable

    Raises
    ------
    BatchError
        If no region has genes.
    """
    named = [(r.patient or f"region {i}", r) for i, r in enumerate(regions)]
    profiles: dict[str, Region] = {}
    for name, region in named:
        if region.genes is not None:
            profiles.setdefault(name, region)
    if not profiles:
        raise BatchError(
            f"None of the {len(regions)} regions has genes: a similarity needs both."
        )
    seen = [(name, region) for name, region in named if name in profiles]
    with evaluating(model):
        images = _batches(model, [region for _, region in seen], at_once)
        u = torch.cat([model.embed_images(model.encode_images(b)) for b in images])
        genes = _batches(model, list(profiles.values()), at_once)
        g = torch.cat([model.embed_genes(model.encode_genes(b)) for b in genes])
    matrix, patients = similarities(u, g), tuple(profiles)
    rows = [[name == patient for patient in patients] for name, _ in seen]
    own = torch.tensor(rows, device=matrix.device)
    return SimilarityTable(patients, matrix, own, rank_profiles(matrix, own))


def _batches(
    model: Mgi, regions: Sequence[Region], at_once: int
) -> Iterator[RegionBatch]:
    """Batches on the model's device."""
    device = model.log_scale.device
    for start in range(0, len(regions), at_once):
        yield collate_regions(regions[start : start + at_once]).to(device)


def _patch_means(probability: Tensor, attention: CrossAttentionMap) -> Tensor:
    """Mean (B,N) of (B,H,W) over each patch."""
    patch_px, (height, width) = attention.patch_px, attention.grid
    below = height * patch_px - probability.shape[1]
    right = width * patch_px - probability.shape[2]
    whole = F.pad(at_least_float32(probability), (0, right, 0, below))
    return F.avg_pool2d(whole[:, None], patch_px).flatten(1)
