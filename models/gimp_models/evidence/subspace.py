"""Where a prediction of Subspace comes from, exactly and forward only (spec 7).

The head is linear and pooling is a mean, so a logit is a sum over tokens and two
constants per branch, with no approximation. Both branches speak in the unit of the
logit: one symmetric scale fits both maps, and they can be compared and added.

A map says: evidence expressed at this patch in the branch conditioned on tumour
(microenvironment) genes. It is no segmentation of tissue, and since no loss
separates the branches, nothing says that the tumour branch looks at tumour.

Letters: B patients, M patches, N tokens, C classes or time bins, D width, k keys
along a side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from gimp_models.bag import Batch
from gimp_models.errors import BatchError
from gimp_models.evidence.evaluating import evaluating
from gimp_models.subspace import Branch, BranchOutput, Subspace, SubspaceOutput

__all__ = [
    "BranchEvidence",
    "Side",
    "SubspaceEvidence",
    "against_rest",
    "class_evidence",
    "key_map",
    "key_places_um",
    "look",
    "risk_evidence",
]

Side = Literal["tumour", "micro"]


@dataclass(frozen=True, slots=True, eq=False)
class BranchEvidence:
    """What one branch adds to each logit.

    Parameters
    ----------
    tokens
        (B,C,N) c_n, in units of the logit; 0 in empty cells.
    constant
        (B,C) what the branch adds whatever it sees.
    """

    tokens: Tensor
    constant: Tensor

    @property
    def total(self) -> Tensor:
        """(B,C) what the branch adds: its side of the balance of a slide."""
        return self.tokens.sum(-1) + self.constant


@dataclass(frozen=True, slots=True, eq=False)
class SubspaceEvidence:
    """A logit, or a linear form of logits, as the sum of its parts.

    Parameters
    ----------
    tumour, micro
        What each branch adds. Compare `tumour.total` with `micro.total` for the
        balance of a slide.
    bias
        (B,C) the head's own bias b_k.
    """

    tumour: BranchEvidence
    micro: BranchEvidence
    bias: Tensor

    @property
    def total(self) -> Tensor:
        """(B,C) the sum of all parts: the logits for `class_evidence`."""
        return self.tumour.total + self.micro.total + self.bias


def look(model: Subspace, batch: Batch) -> SubspaceOutput:
    """Run the model once, in evaluation mode and with key weights, for all maps."""
    with evaluating(model):
        output: SubspaceOutput = model(batch, attention=True)
    return output


def class_evidence(model: Subspace, output: SubspaceOutput) -> SubspaceEvidence:
    """Split every logit over tokens and branches (spec 7).

    With w the half of W[k] that reads a branch, u = W_p^T w, sigma_j = tanh(z_j)/z_j:
    c_n = (1/N) sum_j u_j sigma_j (W_d t_n)_j and
    const = sum_j u_j sigma_j b_d,j + b_p . w. The mean is over cells with patches.

    Parameters
    ----------
    model
        The model that gave the output.
    output
        Of `look`, or of the model in training, whose dropout is then part of it.

    Returns
    -------
    SubspaceEvidence
        `total` equals the logits. `output.placed.patch_values` turns the tokens'
        values into those of patches.
    """
    with evaluating(model):
        of_tumour, of_micro = model.head.weight.chunk(2, dim=1)
        return SubspaceEvidence(
            tumour=_branch_evidence(model.tumour, of_tumour, output.tumour),
            micro=_branch_evidence(model.micro, of_micro, output.micro),
            bias=model.head.bias.expand_as(output.logits),
        )


def against_rest(evidence: SubspaceEvidence) -> SubspaceEvidence:
    """Evidence for a class against the rest: c(k) - mean_k' c(k') over all classes.

    What speaks for all classes alike moves no probability, and is gone here.
    """
    classes = evidence.bias.shape[1]
    each = torch.eye(classes, device=evidence.bias.device, dtype=evidence.bias.dtype)
    return _combined(evidence, (each - 1 / classes).expand(len(evidence.bias), -1, -1))


@torch.no_grad()
def risk_evidence(
    evidence: SubspaceEvidence, output: SubspaceOutput
) -> SubspaceEvidence:
    """Evidence r_n for a higher risk; to first order, unlike that of a logit.

    r_n = sum_k h_k (sum_{j>=k} S_j) c_n(k): the slope of the risk - sum_k S_k over
    each logit, times what a token adds to that logit. Positive raises the risk.

    Returns
    -------
    SubspaceEvidence
        With C = 1; `total` is the slope of the risk times the logits, not the risk.
    """
    later = output.survival.flip(1).cumsum(1).flip(1)  # sum_{j>=k} S_j
    slope = output.hazards * later
    return _combined(evidence, slope[:, None])


def key_map(output: SubspaceOutput, side: Side) -> Tensor:
    """Where the keys of a branch came from, weighted by the attention they got.

    a_hk = mean_n A_hnk is spread over the four cells that key k was read from. (The
    mean of A over the keys is the constant 1 / number of keys and is never shown.)

    Parameters
    ----------
    output
        Of `look`.
    side
        Branch.

    Returns
    -------
    Tensor
        (B,heads,h,w). A head sums to 1, less what its keys drew from beyond the grid.

    Raises
    ------
    BatchError
        If the output has no key weights.
    """
    branch = branch_output(output, side)
    if branch.key_weights is None:
        raise BatchError(
            "The output has no key weights: run the model with `look`, or with "
            "attention=True."
        )
    weights = branch.key_weights.flatten(0, 1)[:, None, None]  # (B*heads,1,1,k*k)
    grid, positions = output.placed.grid, branch.positions.flatten(1, 2)[:, None]
    # Reading is bilinear sampling; its adjoint puts each key's weight where it read.
    room = weights.new_zeros(len(weights), 1, grid, grid, requires_grad=True)
    with torch.enable_grad():
        read = F.grid_sample(room, positions.to(weights), align_corners=False)
    (spread,) = torch.autograd.grad(read, room, weights)
    return spread.reshape(*branch.key_weights.shape[:2], grid, grid)


def key_places_um(output: SubspaceOutput, side: Side) -> Tensor:
    """Positions of the keys on the slide.

    Returns
    -------
    Tensor
        (B,heads,k,k,2) float64, (y, x) in um.

    Raises
    ------
    BatchError
        If the layout is `list`.
    """
    positions = branch_output(output, side).positions.detach()
    patients = len(output.logits)
    per_patient = positions.reshape(patients, -1, *positions.shape[1:])
    return output.placed.slide_um(per_patient)


def branch_output(output: SubspaceOutput, side: Side) -> BranchOutput:
    """Return the output of one branch."""
    return output.tumour if side == "tumour" else output.micro


def _branch_evidence(
    branch: Branch, head: Tensor, output: BranchOutput
) -> BranchEvidence:
    """One branch's part of C logits, of the head's rows (C,D) that read it."""
    u = head @ branch.project.weight  # (C,D), W_p^T w for each class
    scaled = u * _shrinking(output.pooled)[:, None]  # (B,C,D), u_j sigma_j
    reads = scaled @ branch.pool.weight  # (B,C,D), so that c_n = reads . t_n / N
    real = output.cells[:, None]
    tokens = (reads @ output.tokens.transpose(1, 2)).where(real, 0) / real.sum(
        -1, keepdim=True
    )
    constant = scaled @ branch.pool.bias + head @ branch.project.bias
    return BranchEvidence(tokens, constant)


def _shrinking(z: Tensor) -> Tensor:
    """Return sigma = tanh(z)/z, 1 at 0."""
    small = z.abs() < torch.finfo(z.dtype).eps ** 0.5  # there 1 - z^2/3 rounds to 1
    return torch.where(small, 1, z.tanh() / z.where(~small, 1))


def _combined(evidence: SubspaceEvidence, weights: Tensor) -> SubspaceEvidence:
    """Linear forms of the logits: weights (B,K,C) give evidence with K for C."""

    def branch(one: BranchEvidence) -> BranchEvidence:
        constant = (weights @ one.constant[..., None])[..., 0]
        return BranchEvidence(weights @ one.tokens, constant)

    with torch.autocast(weights.device.type, enabled=False):
        return SubspaceEvidence(
            branch(evidence.tumour),
            branch(evidence.micro),
            (weights @ evidence.bias[..., None])[..., 0],
        )
