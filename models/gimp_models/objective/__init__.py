"""What each model is trained on: model and batch to named loss parts, per stage."""

from gimp_models.objective.gimp import (
    GimpFinetune,
    GimpPretrain,
    Triplets,
    parameter_groups,
)
from gimp_models.objective.mgi import MgiFinetune, MgiPretrain, mgi_parameter_groups
from gimp_models.objective.parts import LossParts
from gimp_models.objective.subspace import SubspaceFinetune, subspace_parameter_groups

__all__ = [
    "GimpFinetune",
    "GimpPretrain",
    "LossParts",
    "MgiFinetune",
    "MgiPretrain",
    "SubspaceFinetune",
    "Triplets",
    "mgi_parameter_groups",
    "parameter_groups",
    "subspace_parameter_groups",
]
