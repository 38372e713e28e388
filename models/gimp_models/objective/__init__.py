"""What each model is trained on: model and batch to named loss parts, per stage."""

from gimp_models.objective.gimp import (
    GimpFinetune,
    GimpPretrain,
    Triplets,
    parameter_groups,
)
from gimp_models.objective.parts import LossParts

__all__ = [
    "GimpFinetune",
    "GimpPretrain",
    "LossParts",
    "Triplets",
    "parameter_groups",
]
