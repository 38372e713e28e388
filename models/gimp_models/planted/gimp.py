"""A cohort for GiMP with planted truth: three tissue types, five gene modules.

Tissue lies in vertical stripes, so hidden rows follow from the columns that are
visible, while interpolation along the rows cannot know them. The class sets which
tissue prevails and which modules are raised; patients differ in how much.

Letters: N patches, P patch features, G genes; M = 5 modules, C = 3 classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gimp_models.bag import Bag

__all__ = ["CLASSES", "PlantedStripes"]

CLASSES = ("first tissue", "second tissue", "third tissue")
"""Each class is named after the tissue that prevails in it."""

_RAISED = ((1.0, 0, 0, 1, 0), (0, 1.0, 0, 1, 1), (0, 0, 1.0, 0, 1))  # (C,M)
_LEAST_GAIN, _MOST_GAIN = 1.4, 2.6  # z-scores of a raised module, by patient
_SIDE, _PATCH_UM = 9, 128.0
_PREVAILING, _OTHER = 2.0, 1.0  # odds that a stripe is of the class's own tissue
_PATCH_NOISE = 0.4


@dataclass(frozen=True, slots=True, eq=False)
class PlantedStripes:
    """How tissue and genes look, the same for all cohorts drawn from it.

    Parameters
    ----------
    prototypes
        (3,P) mean feature of each tissue.
    modules
        (M,G) bool, which genes make a module.
    """

    prototypes: Tensor
    modules: Tensor

    @classmethod
    def make(
        cls,
        *,
        patch_features: int = 16,
        genes: int = 500,
        module_genes: int = 20,
        seed: int = 2023,
    ) -> PlantedStripes:
        """Draw how tissue looks and which genes make a module, scattered over G."""
        g = torch.Generator().manual_seed(seed)
        modules = torch.zeros(len(_RAISED[0]), genes, dtype=torch.bool)
        scattered = torch.randperm(genes, generator=g)[: len(modules) * module_genes]
        for module, members in zip(modules, scattered.chunk(len(modules)), strict=True):
            module[members] = True
        return cls(torch.randn(len(CLASSES), patch_features, generator=g), modules)

    def cohort(self, patients: int, *, seed: int) -> list[Bag]:
        """Draw patients, the classes in turn: (81,P) patches, (G,) z-scores each."""
        g = torch.Generator().manual_seed(seed)
        return [self.patient(i % len(CLASSES), g) for i in range(patients)]

    def patient(self, label: int, generator: torch.Generator) -> Bag:
        """Draw one patient of a class."""
        odds = torch.full((len(CLASSES),), _OTHER)
        odds[label] = _PREVAILING
        stripes = odds.multinomial(_SIDE, replacement=True, generator=generator)
        cells = torch.cartesian_prod(torch.arange(_SIDE), torch.arange(_SIDE))
        look = self.prototypes[stripes.repeat(_SIDE)]
        noise = torch.randn(look.shape, generator=generator)
        return Bag(
            features=look + _PATCH_NOISE * noise,
            coords_um=(cells + 0.5) * _PATCH_UM,
            genes=self._profile(label, generator),
            label=label,
        )

    def _profile(self, label: int, generator: torch.Generator) -> Tensor:
        """Draw z-scores (G,): raised modules, centred over the classes, and noise."""
        chance = torch.rand(len(self.modules), generator=generator)
        gain = _LEAST_GAIN + (_MOST_GAIN - _LEAST_GAIN) * chance
        raised = torch.tensor(_RAISED)
        shift = (raised[label] - raised.mean(0)) * gain @ self.modules.float()
        return shift + torch.randn(len(shift), generator=generator)
