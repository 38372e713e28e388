"""Where a prediction comes from: every map of the three models, computed exactly.

GiMP: `gimp`, `gimp_gradients`, `patients`. MGI: `mgi`, `mgi_genes`, `mgi_scores`,
`hidden`. Subspace: `subspace`, `subspace_genes`. All three: `path`, integrated
gradients.
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
from gimp_models.evidence.hidden import (
    HIDDEN_ATTENTION_NOTE,
    gene_hidden_attention,
    hidden_attention,
    mean_hidden_attention,
)
from gimp_models.evidence.mgi import (
    CrossAttentionMap,
    SimilarityMap,
    SimilarityTable,
    area_mm2,
    cross_attention,
    entropy_map,
    fragment_relevance,
    mask_probabilities,
    similarity_map,
    similarity_table,
)
from gimp_models.evidence.mgi_genes import (
    Counterfactual,
    counterfactual,
    genes_at_mean,
    genes_of,
    mask_attributions,
    mean_genes,
    similarity_attributions,
)
from gimp_models.evidence.mgi_scores import PatientScore, patient_scores
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
    "HIDDEN_ATTENTION_NOTE",
    "BranchEvidence",
    "Counterfactual",
    "CrossAttentionMap",
    "GeneImportance",
    "HiddenBlock",
    "ModalityShare",
    "Neighbours",
    "PathSum",
    "PatientMap",
    "PatientScore",
    "Reconstruction",
    "SimilarityMap",
    "SimilarityTable",
    "SubspaceEvidence",
    "against_rest",
    "along_path",
    "area_mm2",
    "branch_gene_attributions",
    "class_attention",
    "class_evidence",
    "cohort_attribution",
    "counterfactual",
    "cross_attention",
    "entropy_map",
    "fragment_relevance",
    "fragment_weights",
    "gene_attributions",
    "gene_hidden_attention",
    "genes_at_mean",
    "genes_of",
    "hidden_attention",
    "key_map",
    "key_places_um",
    "look",
    "mask_attributions",
    "mask_probabilities",
    "masked_reconstruction",
    "mean_genes",
    "mean_hidden_attention",
    "measure_reference",
    "modality_share",
    "nearest_patches",
    "patch_contributions",
    "patient_map",
    "patient_scores",
    "permutation_importance",
    "plan_blocks",
    "reconstruct_block",
    "reconstruction_target",
    "risk_evidence",
    "similarity_attributions",
    "similarity_map",
    "similarity_table",
]
