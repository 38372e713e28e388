"""Where a prediction comes from: every map of the three models, computed exactly.

`gimp`, `gimp_gradients` and `patients` for GiMP, `mgi` and `hidden` for MGI,
`subspace` and `subspace_genes` for Subspace, `path` (integrated gradients) for all.
Each map has an identity that a test holds it to: it sums to 1, to a logit, to a
similarity, or reproduces a scan.
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
from gimp_models.evidence.subspace import (
    BranchEvidence,
    SubspaceEvidence,
    against_rest,
    class_evidence,
    key_map,
    key_places_um,
    look,
    risk_evidence,
)
from gimp_models.evidence.subspace_genes import (
    GeneImportance,
    branch_gene_attributions,
    cohort_attribution,
    permutation_importance,
)

__all__ = [
    "BranchEvidence",
    "GeneImportance",
    "HiddenBlock",
    "ModalityShare",
    "Neighbours",
    "PathSum",
    "PatientMap",
    "Reconstruction",
    "SubspaceEvidence",
    "against_rest",
    "along_path",
    "branch_gene_attributions",
    "class_attention",
    "class_evidence",
    "cohort_attribution",
    "fragment_weights",
    "gene_attributions",
    "key_map",
    "key_places_um",
    "look",
    "masked_reconstruction",
    "measure_reference",
    "modality_share",
    "nearest_patches",
    "patch_contributions",
    "patient_map",
    "permutation_importance",
    "plan_blocks",
    "reconstruct_block",
    "reconstruction_target",
    "risk_evidence",
]
