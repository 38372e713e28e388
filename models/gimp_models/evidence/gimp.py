"""Where a prediction comes from, exactly: attention, reconstruction, modality share.

Attention is not attribution: it says what the class token looked at, not what moved
the logit. Everything here runs the model in evaluation mode without gradients and
leaves it as it was. Spec gimp, "What the viewer shows": patch attention, masked
reconstruction, gene groups, modality share.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from gimp_models.bag import Bag, Batch, collate
from gimp_models.errors import BatchError
from gimp_models.evidence.evaluating import evaluating
from gimp_models.gimp import Gimp
from gimp_models.gimp_config import GimpConfig
from gimp_models.losses import standardise
from gimp_models.masking import hidden_count
from gimp_models.order import reading_order

__all__ = [
    "HiddenBlock",
    "ModalityShare",
    "Reconstruction",
    "class_attention",
    "fragment_weights",
    "masked_reconstruction",
    "measure_reference",
    "modality_share",
    "nearest_patches",
    "plan_blocks",
    "reconstruct_block",
    "reconstruction_target",
]


@dataclass(frozen=True, slots=True)
class HiddenBlock:
    """One step of a masked reconstruction.

    Parameters
    ----------
    window
        (n,) int64, patches the model sees at once, in reading order.
    hidden
        (m,) int64, those of them that are masked in this step.
    """

    window: Tensor
    hidden: Tensor


@dataclass(frozen=True, slots=True)
class Reconstruction:
    """Every patch as predicted from the others.

    Parameters
    ----------
    predicted, target
        (N,P) f_hat and the true feature on the same scale.
    error
        (N,) e_i = 1 - cos(f_hat_i, f_i) in [0, 2]: how unexpected a patch is, given
        the patches that were visible.
    block
        (N,) int64, in which step each patch was hidden.
    """

    predicted: Tensor
    target: Tensor
    error: Tensor
    block: Tensor


@dataclass(frozen=True, slots=True)
class ModalityShare:
    """Two-player Shapley values of a logit; baseline + image + genes = logit.

    Parameters
    ----------
    image, genes
        (B,) what each modality adds to the logit.
    baseline
        (B,) logit of the training-mean tokens.
    logit
        (B,) logit of the patient.
    """

    image: Tensor
    genes: Tensor
    baseline: Tensor
    logit: Tensor


def class_attention(model: Gimp, batch: Batch) -> Tensor:
    """Attention (B,N) of the class token to the patches in the last layer.

    softmax(q_c K^T / sqrt(d)), class token dropped, mean over heads, scaled to sum 1;
    0 on padding.
    """
    with evaluating(model):
        attention = model.encode_image(batch, attention=True).attention
    assert attention is not None
    return attention


def fragment_weights(model: Gimp, batch: Batch) -> Tensor:
    """Weight of each gene fragment: inter-group times intra-group attention.

    Returns
    -------
    Tensor
        (B,R,K), sums to 1 for patients with genes; the sum over K is the weight of a
        group. 0 for patients without genes and for fragments without a gene.

    Raises
    ------
    BatchError
        If no patient of the batch has genes.
    """
    with evaluating(model):
        weights = model(batch, attention=True).group_attention
    if weights is None:
        raise BatchError(
            f"None of the {len(batch)} patients has genes, so there are no gene "
            "weights: add a gene table."
        )
    held: Tensor = weights
    return held


def modality_share(model: Gimp, batch: Batch, target: Tensor) -> ModalityShare:
    """Split the logit of a class between image and genes by Shapley values.

    An absent modality is the training-mean class token, so a patient without genes
    gets a gene share of exactly 0.

    Parameters
    ----------
    model
        With measured reference (`measure_reference`).
    batch
        B patients.
    target
        (B,) int64, the class whose logit is split.

    Returns
    -------
    ModalityShare
    """
    with evaluating(model):
        image, (genes, _) = model.encode_image(batch).cls, model.encode_genes(batch)
        no_image = model.image_token_mean.expand_as(image)
        no_genes = model.gene_token_mean.expand_as(genes)
        tokens = (no_image, no_genes), (image, no_genes), (no_image, genes)
        logits = [model.classify(*pair) for pair in (*tokens, (image, genes))]
    rows = [row.gather(1, target[:, None])[:, 0] for row in logits]
    none, only_image, only_genes, both = rows
    return ModalityShare(
        image=((only_image - none) + (both - only_genes)) / 2,
        genes=((only_genes - none) + (both - only_image)) / 2,
        baseline=none,
        logit=both,
    )


def plan_blocks(coords_um: Tensor, config: GimpConfig) -> list[HiddenBlock]:
    """Cover a bag with disjoint blocks so that every patch is hidden exactly once.

    Parameters
    ----------
    coords_um
        (N,2) patch centres in um.
    config
        Window, share, mode and order of masking. A bag longer than the window is cut
        into windows of nearly equal length; each is hidden in as many steps as the
        share of masking in training asks for. A bag of one patch is hidden whole.

    Returns
    -------
    list of HiddenBlock
    """
    sequence = reading_order(coords_um, config.order)
    windows = sequence.tensor_split(-(-len(sequence) // config.window))
    return [
        HiddenBlock(window, hidden)
        for window in windows
        for hidden in _cut(window, config)
    ]


def reconstruct_block(model: Gimp, bag: Bag, block: HiddenBlock) -> Tensor:
    """Predict the hidden patches (m,P) of one step from the rest of its window."""
    seen = Bag(bag.features[block.window], bag.coords_um[block.window])
    masked = torch.isin(block.window, block.hidden)
    with evaluating(model):
        batch = collate([seen]).to(bag.features.device)  # its mask is made on the CPU
        predicted = model.reconstruct(batch, masked[None])[0]
    place = torch.empty(len(bag.features), dtype=torch.long, device=predicted.device)
    place[block.window] = torch.arange(len(block.window), device=predicted.device)
    return predicted[place[block.hidden]]


def masked_reconstruction(model: Gimp, bag: Bag) -> Reconstruction:
    """Predict every patch of one bag from the others.

    Runs `reconstruct_block` over `plan_blocks`; use these two for partial results.

    Parameters
    ----------
    model
        A pre-trained model.
    bag
        (N,P) features on the model's device.

    Returns
    -------
    Reconstruction
    """
    target = reconstruction_target(model, bag.features)
    predicted = torch.empty_like(target)
    step = torch.empty(len(target), dtype=torch.long, device=target.device)
    for index, block in enumerate(plan_blocks(bag.coords_um, model.config)):
        predicted[block.hidden] = reconstruct_block(model, bag, block)
        step[block.hidden] = index
    error = 1 - F.cosine_similarity(predicted, target, dim=-1)
    return Reconstruction(predicted, target, error, step)


def reconstruction_target(model: Gimp, features: Tensor) -> Tensor:
    """Features (...,P) on the scale of the model's predictions."""
    return standardise(features) if model.config.standardise_target else features


def nearest_patches(predicted: Tensor, target: Tensor, *, rows: int = 1024) -> Tensor:
    """Retrieve for each prediction the real patch of most similar feature.

    Parameters
    ----------
    predicted, target
        (M,P) and (N,P) on the same scale.
    rows
        Predictions compared at once; bounds the memory to rows x N.

    Returns
    -------
    Tensor
        (M,) int64 indices into `target`.
    """
    known = F.normalize(target)
    parts = torch.split(F.normalize(predicted), rows)
    return torch.cat([(part @ known.T).argmax(1) for part in parts])


def measure_reference(model: Gimp, batches: Iterable[Batch]) -> None:
    """Measure the training means that stand for "nothing known" and store them.

    Parameters
    ----------
    model
        Its buffers `feature_mean`, `image_token_mean` and `gene_token_mean` are set;
        the latter stays as it is if no patient has genes.
    batches
        The training patients, whole bags, on the model's device.

    Raises
    ------
    BatchError
        If there is no batch.
    """
    patches, images, genes = _Mean(), _Mean(), _Mean()
    with evaluating(model):
        for batch in batches:
            patches.add(batch.features[batch.mask])
            images.add(model.encode_image(batch).cls)
            genes.add(model.encode_genes(batch)[0][batch.has_genes])
    if not images.count:
        raise BatchError("The reference needs training patients, got no batch.")
    model.feature_mean.copy_(patches.value)
    model.image_token_mean.copy_(images.value)
    if genes.count:
        model.gene_token_mean.copy_(genes.value)


class _Mean:
    """Running mean of rows, in double precision."""

    def __init__(self) -> None:
        self.count = 0
        self.total: Tensor | float = 0.0

    def add(self, rows: Tensor) -> None:
        self.count += len(rows)
        self.total = self.total + rows.double().sum(0)

    @property
    def value(self) -> Tensor:
        return torch.as_tensor(self.total / self.count)


def _cut(window: Tensor, config: GimpConfig) -> tuple[Tensor, ...]:
    """Disjoint parts of a window: runs, or every k-th patch if masks were random."""
    hidden = int(hidden_count(torch.tensor(len(window)), config.mask_ratio))
    steps = -(-len(window) // max(hidden, 1))
    if config.mask_mode == "block":
        return window.tensor_split(steps)
    return tuple(window[start::steps] for start in range(steps))
