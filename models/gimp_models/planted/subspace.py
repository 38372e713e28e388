"""Gliomas of tensors for Subspace: two hidden states, each seen in genes and patches.

A patient's tumour is quiet or aggressive, the microenvironment cold or inflamed: two
states of -1 or +1. Each shows in eight genes of its own list and in how the patches of
its own tissue look, a fifth of the slide; either way errs for one patient in twenty.
The four combinations are the classes, and both states shorten life. So a model does
best that reads the genes and looks at the right patches.

Letters: N patches, P patch features, G genes; S = 2 states, tumour first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from gimp_models.bag import Bag
from gimp_models.subspace_config import SubspaceConfig, Task
from gimp_models.survival import quantile_edges

__all__ = [
    "CLASSES",
    "MICRO",
    "NORMAL",
    "TUMOUR",
    "PlantedGlioma",
    "PlantedPatient",
    "best_risk",
    "survival_task",
    "tissue_of",
]

CLASSES = (
    "quiet, cold",
    "quiet, inflamed",
    "aggressive, cold",
    "aggressive, inflamed",
)
NORMAL, TUMOUR, MICRO = range(3)
"""Tissue of a patch: nothing to see, tumour, microenvironment."""

_SIDE, _PATCH_UM = 12, 128.0
_PATCH_NOISE, _SHIFT, _SHOWN_NOISE = 0.5, 1.5, 0.6
_GENES, _TUMOUR_GENES, _MICRO_GENES, _SHARED = 90, 24, 36, 4
_INFORMATIVE, _LOADING = 8, 0.6  # genes of a state; z-scores have noise 1
_MEDIAN_DAYS, _SHORTENS, _SHAPE = 700.0, 0.5, 2.0
_FIRST_CONTACT, _CONTACT = 365.0, 2500.0  # days: follow-up lasts 1 to 8 years


@dataclass(frozen=True, slots=True, eq=False)
class PlantedPatient:
    """A patient with the truth.

    Parameters
    ----------
    bag
        What a model sees, with label, days and event.
    tissue
        (N,) int64 `NORMAL`, `TUMOUR` or `MICRO` of each patch.
    states
        (S,) -1 or +1.
    """

    bag: Bag
    tissue: Tensor
    states: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class PlantedGlioma:
    """How tissue and genes look, the same for all cohorts drawn from it.

    Parameters
    ----------
    prototypes
        (3,P) mean feature of each tissue.
    shifts
        (S,P) what a state of +1 adds to the patches of its tissue.
    loadings
        (S,G) how each state shows in each gene.
    tumour_genes, micro_genes
        The gene lists, as `SubspaceConfig` takes them; some genes are in both.
    """

    prototypes: Tensor
    shifts: Tensor
    loadings: Tensor
    tumour_genes: tuple[int, ...]
    micro_genes: tuple[int, ...]

    @classmethod
    def make(cls, *, patch_features: int = 16, seed: int = 2024) -> PlantedGlioma:
        """Draw how tissue and genes look."""
        g = torch.Generator().manual_seed(seed)
        shifts = torch.randn(2, patch_features, generator=g)
        shifts = _SHIFT * F.normalize(shifts, dim=1)
        order = torch.randperm(_GENES, generator=g)
        tumour = order[:_TUMOUR_GENES]
        start = _TUMOUR_GENES - _SHARED
        micro = order[start : start + _MICRO_GENES]
        loadings = torch.zeros(2, _GENES)
        loadings[0, tumour[:_INFORMATIVE]] = _LOADING
        loadings[1, micro[-_INFORMATIVE:]] = _LOADING
        return cls(
            prototypes=torch.randn(3, patch_features, generator=g),
            shifts=shifts,
            loadings=loadings,
            tumour_genes=tuple(tumour.tolist()),
            micro_genes=tuple(micro.tolist()),
        )

    def config(self) -> SubspaceConfig:
        """Return a tiny model for the classes of these patients."""
        config = SubspaceConfig.preset(
            "tiny",
            patch_features=self.prototypes.shape[1],
            genes=self.loadings.shape[1],
            classes=len(CLASSES),
            tumour_genes=self.tumour_genes,
            micro_genes=self.micro_genes,
        )
        return replace(config, grid=_SIDE)

    def cohort(self, patients: int, *, seed: int) -> list[PlantedPatient]:
        """Draw patients, the four classes in turn."""
        g = torch.Generator().manual_seed(seed)
        return [self.patient(i % len(CLASSES), g) for i in range(patients)]

    def patient(self, label: int, generator: torch.Generator) -> PlantedPatient:
        """Draw one patient of a class."""
        states = 2.0 * torch.tensor([label // 2, label % 2]) - 1
        cells, tissue = _slide(generator)
        shown = states + _SHOWN_NOISE * torch.randn(2, generator=generator)
        look = self.prototypes.clone()
        look[TUMOUR:] += shown[:, None] * self.shifts
        noise = torch.randn(len(cells), look.shape[1], generator=generator)
        genes = torch.randn(self.loadings.shape[1], generator=generator)
        days, event = _follow_up(states, generator)
        bag = Bag(
            features=look[tissue] + _PATCH_NOISE * noise,
            coords_um=(cells + 0.5) * _PATCH_UM,
            genes=genes + states @ self.loadings,
            label=label,
            days=days,
            event=event,
        )
        return PlantedPatient(bag, tissue, states)


def survival_task(patients: Sequence[PlantedPatient]) -> Task:
    """Return survival in four bins between the quartiles of their times of death."""
    days = torch.tensor([patient.bag.days for patient in patients])
    event = torch.tensor([patient.bag.event for patient in patients])
    bins = ("first", "second", "third", "fourth")
    return Task("survival", "survival", bins, quantile_edges(days, event))


def tissue_of(patients: Sequence[PlantedPatient]) -> Tensor:
    """(B,N) tissue of each patch of a batch, -1 where padded."""
    pad = torch.nn.utils.rnn.pad_sequence
    return pad([p.tissue for p in patients], batch_first=True, padding_value=-1)


def best_risk(patients: Sequence[PlantedPatient]) -> Tensor:
    """(B,) the risk that follows from the hidden states: no model can do better."""
    return torch.stack([patient.states.sum() for patient in patients])


def _slide(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Cells (N,2) of a ragged slide and their tissue (N,): two round spots."""
    cells = torch.cartesian_prod(torch.arange(_SIDE), torch.arange(_SIDE))
    left = torch.rand(2, generator=generator) * (_SIDE / 2 - 4) + 2
    right = left + torch.tensor([_SIDE / 2, _SIDE / 2 - 1])
    if torch.rand(1, generator=generator) < 0.5:
        left, right = right, left
    tissue = torch.full((len(cells),), NORMAL)
    tissue[(cells - left).norm(dim=1) < 3] = TUMOUR
    tissue[(cells - right).norm(dim=1) < 3] = MICRO
    kept = torch.rand(len(cells), generator=generator) < 0.85
    return cells[kept], tissue[kept]


def _follow_up(states: Tensor, generator: torch.Generator) -> tuple[float, bool]:
    """Days until death (Weibull, hazard rising with time) or last contact."""
    death, contact = torch.rand(2, generator=generator).tolist()
    median = _MEDIAN_DAYS * math.exp(-_SHORTENS * float(states.sum()))
    dies = median * (math.log(1 - death) / math.log(0.5)) ** (1 / _SHAPE)
    last = _FIRST_CONTACT + contact * _CONTACT
    return round(min(dies, last), 1), dies <= last
