"""Where a prediction comes from: every map of the three models, computed exactly.

`gimp` for GiMP, `mgi` for MGI, `subspace` for Subspace. Each map has an identity
that a test holds it to: it sums to 1, to a logit, to a similarity, or reproduces a
scan.
"""

from gimp_models.evidence.gimp import (
    HiddenBlock,
    ModalityShare,
    Reconstruction,
    class_attention,
    fragment_weights,
    masked_reconstruction,
    measure_reference,
    modality_share,
    nearest_patches,
    plan_blocks,
    reconstruct_block,
    reconstruction_target,
)

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
