"""Subspace: two gene-conditioned branches over one slide (Zhang et al., MICCAI 2024).

Re-implemented from the specification, sections 3.1 to 3.6, whose numbers stand
beside the equations; nothing is copied. Read from the top: what comes out, a branch,
the whole. Patches are laid on the grid in `layout.py`, genes are encoded in
`snn.py`, the attention is in `deformable.py`.

What makes subspaces is only the split gene list and two branches over the same
patches: no loss separates them.

Letters: B patients, M patches, N = grid x grid tokens, P patch features, D width,
G genes of the panel, g of a branch, C classes or time bins, k keys along a side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gimp_models.bag import Batch, check_width
from gimp_models.deformable import DeformableAttention
from gimp_models.layout import Placement, place
from gimp_models.snn import SNN
from gimp_models.subspace_config import TASKS, SubspaceConfig, Task
from gimp_models.survival import hazards, risk, survival_curve

__all__ = [
    "TASKS",
    "Branch",
    "BranchOutput",
    "Subspace",
    "SubspaceConfig",
    "SubspaceOutput",
    "Task",
    "choices",
]


@dataclass(frozen=True, slots=True, eq=False)
class BranchOutput:
    """What one branch says about a batch.

    Parameters
    ----------
    feature
        (B,D) f.
    genes
        (B,D) g, the encoded genes.
    tokens
        (B,N,D) t = LN2(H'); those of empty cells mean nothing.
    cells
        (B,N) bool, True for cells that hold a patch.
    pooled
        (B,D) z before its tanh, W_d mean_n t_n + b_d (as in spec 7).
    vgrid
        (B*heads,2,k,k) key positions in cells of the key grid, row b*heads + h,
        channel 0 = x.
    positions
        (B*heads,k,k,2) the same in [-1,1] over the grid of tokens, (x, y).
    key_weights
        (B,heads,k*k) mean attention to each key; None if not asked for.
    """

    feature: Tensor
    genes: Tensor
    tokens: Tensor
    cells: Tensor
    pooled: Tensor
    vgrid: Tensor
    positions: Tensor
    key_weights: Tensor | None = None


@dataclass(frozen=True, slots=True, eq=False)
class SubspaceOutput:
    """Everything one forward pass of Subspace yields.

    Parameters
    ----------
    logits
        (B,C), of classes or of the hazards of time bins.
    tumour, micro
        The branch of the tumour and of the microenvironment genes.
    placed
        How the patches lie on the grid.
    """

    logits: Tensor
    tumour: BranchOutput
    micro: BranchOutput
    placed: Placement

    @property
    def hazards(self) -> Tensor:
        """(B,C) h_k, probability to die in bin k if alive at its start (spec 3.6)."""
        return hazards(self.logits)

    @property
    def survival(self) -> Tensor:
        """(B,C) S_k = prod_{j<=k} (1 - h_j), probability to outlive bin k."""
        return survival_curve(self.logits)

    @property
    def risk(self) -> Tensor:
        """(B,) -sum_k S_k; higher is worse."""
        return risk(self.logits)


class Branch(nn.Module):
    """Patches seen in the light of one list of genes (spec 3.1 to 3.5).

    Parameters
    ----------
    config
        Sizes and options.
    genes
        Indices into the panel of this branch's genes.

    Attributes
    ----------
    listed
        (g,) int64, the same.
    """

    def __init__(self, config: SubspaceConfig, genes: Sequence[int]) -> None:
        super().__init__()
        width = config.width
        self.layout = config.layout
        self.listed: Tensor
        self.register_buffer("listed", torch.tensor(genes), persistent=False)
        self.genes = SNN(len(genes), width, dropout=config.gene_dropout)
        self.patch = nn.Linear(config.patch_features, width)  # W1
        self.fuse = nn.Linear(2 * width, width)  # W2, patch features first
        self.norm_in = nn.LayerNorm(width)  # one for query and context
        self.attention = DeformableAttention(
            width,
            heads=config.heads,
            head_width=config.head_width,
            stride=config.stride,
            kernel=config.kernel,
            dropout=config.dropout,
        )
        self.norm_out = nn.LayerNorm(width)  # LN2
        self.pool = nn.Linear(width, width)  # W_d
        self.project = nn.Linear(width, width)  # W_p

    def forward(
        self, placed: Placement, genes: Tensor, *, attention: bool = False
    ) -> BranchOutput:
        """Encode patients.

        Parameters
        ----------
        placed
            Features (B,N,P) on the grid.
        genes
            (B,g) z-scores of this branch's genes, in the order of `listed`.
        attention
            Also return the mean attention to each key.

        Returns
        -------
        BranchOutput
        """
        encoded = self.genes(genes)  # 3.1
        patches = self.patch(placed.features).relu()  # 3.2
        fused = self.condition(patches, encoded)  # 3.3
        attended = self.attention(  # 3.4: query = fused, key and value = histology
            _grid(self.norm_in(fused), placed.grid),
            _grid(self.norm_in(patches), placed.grid),
            self.cells(placed),
            key_weights=attention,
        )
        tokens = self.norm_out(fused + attended.output.flatten(2).transpose(1, 2))
        pooled = self.pool(_mean(tokens, placed.mask))  # 3.5
        return BranchOutput(
            feature=self.project(pooled.tanh()),
            genes=encoded,
            tokens=tokens,
            cells=placed.mask,
            pooled=pooled,
            vgrid=attended.vgrid,
            positions=attended.positions,
            key_weights=attended.key_weights,
        )

    def cells(self, placed: Placement) -> Tensor | None:
        """Return which cells attention may read (B,h,w); None for the list layout.

        A list has no empty cells. Keys may move beyond its grid and read zeros, as in
        the public code; on a slide a key counts by the share of real cells it reads.
        """
        if self.layout == "list":
            return None
        return placed.mask.reshape(-1, placed.grid, placed.grid)

    def condition(self, patches: Tensor, genes: Tensor) -> Tensor:
        """H = [P ; 1 g^T] W2 + b2 (B,N,D) of patches (B,N,D) and g (B,D), spec 3.3.

        The gene half is the same for all tokens, so it is computed once.
        """
        of_patches, of_genes = self.fuse.weight.chunk(2, dim=1)
        shared = F.linear(genes, of_genes, self.fuse.bias)
        return F.linear(patches, of_patches) + shared[:, None]


class Subspace(nn.Module):
    """The whole model: two branches of equal shape, no shared weights, one head.

    Parameters
    ----------
    config
        Sizes and options.
    """

    def __init__(self, config: SubspaceConfig) -> None:
        super().__init__()
        self.config = config
        self.tumour = Branch(config, config.tumour_genes)
        self.micro = Branch(config, config.micro_genes)
        self.head = nn.Linear(2 * config.width, config.classes)  # W, b of 3.6

    def forward(self, batch: Batch, *, attention: bool = False) -> SubspaceOutput:
        """Classify patients, or tell the hazards of their time bins.

        Parameters
        ----------
        batch
            Bags of patches (B,M,P) with profiles (B,G); a patient without genes
            counts as the training mean, z = 0.
        attention
            Also return the mean attention to each key.

        Returns
        -------
        SubspaceOutput

        Raises
        ------
        BatchError
            If feature size or number of genes are not those of the model, or a
            patient has no patch.
        """
        placed, genes = self.place(batch), self.profiles(batch)
        tumour, micro = (
            branch(placed, genes[:, branch.listed], attention=attention)
            for branch in (self.tumour, self.micro)
        )
        logits = self.classify(tumour.feature, micro.feature)
        return SubspaceOutput(logits, tumour, micro, placed)

    def place(self, batch: Batch) -> Placement:
        """Lay the patches on the grid (spec 3, layout); see `layout.place`."""
        check_width("patch features P", batch.features, self.config.patch_features)
        return place(batch, self.config)

    def profiles(self, batch: Batch) -> Tensor:
        """Return the profiles (B,G), z = 0 for patients without genes."""
        if batch.genes is None:
            return batch.features.new_zeros(len(batch), self.config.genes)
        check_width("genes G", batch.genes, self.config.genes)
        return batch.genes.where(batch.has_genes[:, None], 0)

    def classify(self, tumour: Tensor, micro: Tensor) -> Tensor:
        """Return logits (B,C) = W [f_t ; f_m] + b of features (B,D), spec 3.6."""
        logits: Tensor = self.head(torch.cat([tumour, micro], dim=1))
        return logits


def choices(config: SubspaceConfig) -> tuple[str, ...]:
    """List what the paper leaves open and how this model settles it.

    Returns
    -------
    tuple of str
        One sentence each, for the checkpoint's card.
    """
    return (
        "The paper's tables were not at hand and its code has no licence: written "
        "from a specification, compared with recorded outputs.",
        "No loss separates the two subspaces: they differ by their gene lists and "
        "weights alone.",
        f"Genes: {len(config.tumour_genes)} of the tumour, "
        f"{len(config.micro_genes)} of the microenvironment; the paper's lists are "
        "unpublished; genes of both lists go to both branches.",
        f"Layout: {config.layout} on {config.grid} x {config.grid} cells; "
        + _LAYOUTS[config.layout],
        f"Width {config.width}, {config.heads} heads of {config.head_width}, keys "
        f"from a {config.kernel} x {config.kernel} convolution of stride "
        f"{config.stride}; dropout {config.dropout:g} on attention, "
        f"{config.gene_dropout:g} on genes.",
        f"Task: {config.task} ({config.endpoint}), {config.classes} "
        + ("classes." if config.task == "classification" else "time bins."),
        "Absent genes: z = 0, the training cohort's mean profile.",
        *_CAUTIONS.get(config.endpoint, ()),
    )


_DETERMINED = (
    "Caution: diagnosis and grade of glioma follow from IDH, 1p/19q, CDKN2A and grade, "
    "which RNA nearly determines; judge this model beside RNA alone and clinical "
    "variables alone.",
)
_CAUTIONS = {"diagnosis": _DETERMINED, "grade": _DETERMINED}  # spec 1

_LAYOUTS = {
    "spatial": "patches on their true rows and columns, larger slides averaged, "
    "empty cells masked.",
    "list": "the bag repeated or thinned in list order, not the slide's geometry.",
}


def _grid(tokens: Tensor, side: int) -> Tensor:
    """(B,N,D) row by row to (B,D,h,w)."""
    return tokens.transpose(1, 2).reshape(len(tokens), -1, side, side)


def _mean(tokens: Tensor, mask: Tensor) -> Tensor:
    """Mean (B,D) over the cells that hold a patch."""
    real = mask[..., None]
    return tokens.where(real, 0).sum(1) / real.sum(1)
