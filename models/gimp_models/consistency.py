"""Gene-guided consistency: alike genes, alike sampled places (subspace spec 4).

Every patient is described by its relations to the other patients of the batch, once
by the encoded genes and once by where the branch took its keys from; the loss is the
difference of the two relations.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from gimp_models.errors import BatchError, ConfigError
from gimp_models.precision import at_least_float32

__all__ = ["ConsistencyKind", "check_kind", "consistency_loss", "relations"]

ConsistencyKind = Literal["vgrid", "offsets", "compat"]


def consistency_loss(
    gene_vectors: Tensor,
    vgrid: Tensor,
    *,
    heads: int = 8,
    kind: ConsistencyKind = "vgrid",
) -> Tensor:
    """L_cons = (1/B) sum_ij (S^g_ij - S^v_ij)^2 (spec 4).

    S^g = R(genes), S^v = mean over the heads of R(vgrid of that head).

    Parameters
    ----------
    gene_vectors
        (B,D) encoded genes of a branch.
    vgrid
        (B heads,2,h,w) positions of its keys in cells of the key grid, row
        b heads + head, channel 0 = x.
    heads
        Number of groups of the attention.
    kind
        "vgrid": the rows of one head are compared with each other.
        "offsets": likewise, without the regular grid that all patients share and that
        keeps the loss nearly constant (ours).
        "compat": the rows in the wrong grouping of the public code, for parity.

    Returns
    -------
    Tensor
        Scalar; 0 for a single patient, who has no relations.

    Raises
    ------
    ConfigError
        If `kind` is unknown.
    BatchError
        If `vgrid` does not hold `heads` rows for each patient.
    """
    check_kind(kind)
    patients = len(gene_vectors)
    if len(vgrid) != patients * heads:
        raise BatchError(
            f"{patients} gene vectors need {patients * heads} rows of vgrid, "
            f"{heads} per patient, got {len(vgrid)}."
        )
    sampled = relations(_by_head(vgrid, heads, kind)).mean(0)
    difference = relations(gene_vectors) - sampled
    alone = patients < 2  # with silent genes even the relation to oneself differs
    return difference.square().sum() * (not alone) / max(patients, 1)


def check_kind(kind: ConsistencyKind) -> None:
    """Refuse a kind that does not exist.

    Raises
    ------
    ConfigError
        If `kind` is none of vgrid, offsets and compat.
    """
    if kind not in get_args(ConsistencyKind):
        raise ConfigError(
            f"There is no consistency {kind!r}: choose vgrid, offsets or compat."
        )


def relations(vectors: Tensor) -> Tensor:
    """R(X) = X X^T, each row divided by its norm (spec 4).

    Parameters
    ----------
    vectors
        (...,B,D). A zero vector is related to nobody: its row is 0.

    Returns
    -------
    Tensor
        (...,B,B), at least float32 also under autocast: the relations of grids that
        hardly differ would be lost in bfloat16.
    """
    with torch.autocast(vectors.device.type, enabled=False):
        x = at_least_float32(vectors)
        return F.normalize(x @ x.mT, dim=-1)


def _by_head(vgrid: Tensor, heads: int, kind: ConsistencyKind) -> Tensor:
    """Group the flattened rows: (heads,B,2hw)."""
    if kind == "offsets":
        vgrid = vgrid - _regular(vgrid)
    rows = vgrid.flatten(1)
    patients, size = len(rows) // heads, rows.shape[1]
    if kind == "compat":
        # Rows are batch-major, so this mixes patients and heads. [code]
        return rows.reshape(heads, patients, size)
    return rows.reshape(patients, heads, size).transpose(0, 1)


def _regular(vgrid: Tensor) -> Tensor:
    """Regular grid (2,h,w) in cells, channel 0 = x (spec 3.4)."""
    height, width = vgrid.shape[-2:]
    y = torch.arange(height, device=vgrid.device, dtype=vgrid.dtype)
    x = torch.arange(width, device=vgrid.device, dtype=vgrid.dtype)
    return torch.stack(torch.meshgrid(x, y, indexing="xy"))
