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
from gimp_models.evidence.gimp_gradients import gene_attributions, patch_contributions
from gimp_models.evidence.path import PathSum, along_path
from gimp_models.evidence.patients import Neighbours, PatientMap, patient_map

__all__ = [
    "HiddenBlock",
    "ModalityShare",
    "Neighbours",
    "PathSum",
    "PatientMap",
    "Reconstruction",
    "along_path",
    "class_attention",
    "fragment_weights",
    "gene_attributions",
    "masked_reconstruction",
    "measure_reference",
    "modality_share",
    "nearest_patches",
    "patch_contributions",
    "patient_map",
    "plan_blocks",
    "reconstruct_block",
    "reconstruction_target",
]
