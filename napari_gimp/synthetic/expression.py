"""Bulk expression of a synthetic patient, with planted modules.

A module is a hallmark gene set whose genes move together. Its activity in a patient
is the composition of the tissue (from the slide's own truth mask) times the module's
weight in each tissue, plus tumour purity times its weight in the patient's class,
plus the patient's own variation. Small tumours therefore dilute the class signal.
Values are log2(CPM + 1)-like.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_gimp.synthetic.layout import Tissue
from napari_gimp.synthetic.noise import F32, stream
from napari_gimp.synthetic.patient import Patient

PANEL = 2000
GENES_PER_MODULE = 60
MODULE_SD = 0.42
GENE_SD = 1.0

TISSUE_WEIGHTS: Mapping[str, Mapping[Tissue, float]] = {
    "HALLMARK_EPITHELIAL_MESENCHYMAL_TRANSITION": {Tissue.STROMA: 2.8},
    "HALLMARK_ADIPOGENESIS": {Tissue.STROMA: 1.5},
    "HALLMARK_MYOGENESIS": {Tissue.STROMA: 1.3},
    "HALLMARK_ALLOGRAFT_REJECTION": {Tissue.LYMPHOCYTES: 9.0},
    "HALLMARK_INTERFERON_GAMMA_RESPONSE": {Tissue.LYMPHOCYTES: 6.5},
    "HALLMARK_HYPOXIA": {Tissue.NECROSIS: 12.0, Tissue.TUMOUR: 0.6},
    "HALLMARK_GLYCOLYSIS": {Tissue.NECROSIS: 5.0, Tissue.TUMOUR: 1.3},
    "HALLMARK_APICAL_SURFACE": {Tissue.GLAND: 4.0},
    "HALLMARK_XENOBIOTIC_METABOLISM": {Tissue.GLAND: 3.2},
    "HALLMARK_E2F_TARGETS": {Tissue.TUMOUR: 1.0, Tissue.LYMPHOCYTES: 2.5},
    "HALLMARK_G2M_CHECKPOINT": {Tissue.TUMOUR: 1.0, Tissue.LYMPHOCYTES: 2.5},
    "HALLMARK_ESTROGEN_RESPONSE_EARLY": {Tissue.GLAND: 2.6},
    "HALLMARK_ESTROGEN_RESPONSE_LATE": {Tissue.GLAND: 2.6},
}
CLASS_WEIGHTS: Mapping[str, Mapping[str, float]] = {
    "HALLMARK_ESTROGEN_RESPONSE_EARLY": {"luminal-like": 2.2, "basal-like": -1.1},
    "HALLMARK_ESTROGEN_RESPONSE_LATE": {"luminal-like": 1.8, "basal-like": -0.9},
    "HALLMARK_E2F_TARGETS": {"luminal-like": 0.4, "basal-like": 2.0},
    "HALLMARK_G2M_CHECKPOINT": {"luminal-like": 0.4, "basal-like": 1.8},
}
# Modules that vary between patients and say nothing: what attribution must not pick.
DECOYS = (
    "HALLMARK_HEME_METABOLISM",
    "HALLMARK_COAGULATION",
    "HALLMARK_UV_RESPONSE_DN",
    "HALLMARK_BILE_ACID_METABOLISM",
    "HALLMARK_PROTEIN_SECRETION",
    "HALLMARK_SPERMATOGENESIS",
)


@dataclass(frozen=True, slots=True)
class Expression:
    """The genes of a cohort and the modules planted in them.

    Parameters
    ----------
    genes
        Symbols, G.
    base, sd
        Level and spread of each gene (G,), log2.
    loading
        How each module moves each gene (M, G), in sds.
    modules
        Names of the modules, M.
    """

    genes: tuple[str, ...]
    base: F32
    sd: F32
    loading: F32
    modules: tuple[str, ...]

    def genes_of(self, module: str) -> dict[str, float]:
        """Return the planted genes of a module and their loadings."""
        row = self.loading[self.modules.index(module)]
        return {self.genes[k]: round(float(row[k]), 4) for k in np.flatnonzero(row)}

    def profile(self, patient: Patient, share: Mapping[Tissue, float]) -> F32:
        """Return a patient's values (G,), log2, given the shares of their tissues."""
        rng = np.random.default_rng([patient.seed, stream("expression")])
        activity = self.activity(patient, share)
        activity = activity + MODULE_SD * rng.standard_normal(len(self.modules))
        z = activity @ self.loading + GENE_SD * rng.standard_normal(len(self.genes))
        return np.asarray((self.base + self.sd * z).clip(0), np.float32)

    def activity(
        self, patient: Patient, share: Mapping[Tissue, float]
    ) -> NDArray[np.float64]:
        """Return the expected activity of each module (M,), before any noise."""
        purity = share.get(Tissue.TUMOUR, 0.0)
        return np.array(
            [
                sum(w * share.get(t, 0.0) for t, w in TISSUE_WEIGHTS.get(m, {}).items())
                + purity * CLASS_WEIGHTS.get(m, {}).get(patient.label, 0.0)
                for m in self.modules
            ]
        )


def plant() -> Expression:
    """Return the genes: levels, spreads and module loadings.

    They are the biology, so they are the same in every cohort and in the sample; a
    model trained on one cohort can be tried on another.
    """
    from napari_gimp.genes.sets import hallmarks

    sets = hallmarks()
    rng = np.random.default_rng(stream("genes"))
    modules = tuple(dict.fromkeys([*TISSUE_WEIGHTS, *CLASS_WEIGHTS, *DECOYS]))
    planted = {m: _draw(rng, sets[m], GENES_PER_MODULE) for m in modules}
    genes = _panel(rng, [g for m in modules for g in planted[m]], sets)
    place = {gene: k for k, gene in enumerate(genes)}
    loading = np.zeros((len(modules), len(genes)), np.float32)
    for row, module in enumerate(modules):
        columns = [place[gene] for gene in planted[module]]
        loading[row, columns] = np.exp(rng.normal(-0.25, 0.45, len(columns)))
    base = np.clip(rng.normal(6.0, 2.2, len(genes)), 0.8, 13)
    sd = 0.25 + 0.55 * rng.gamma(3.0, 0.33, len(genes))
    return Expression(
        genes, base.astype(np.float32), sd.astype(np.float32), loading, modules
    )


def _draw(
    rng: np.random.Generator, genes: tuple[str, ...], count: int
) -> tuple[str, ...]:
    count = min(count, len(genes))
    return tuple(str(g) for g in rng.choice(sorted(genes), count, replace=False))


def _panel(
    rng: np.random.Generator, planted: list[str], sets: Mapping[str, tuple[str, ...]]
) -> tuple[str, ...]:
    """Return `PANEL` symbols: all planted ones, the rest drawn from all hallmarks."""
    chosen = set(planted)
    others = sorted({gene for genes in sets.values() for gene in genes} - chosen)
    rest = rng.choice(others, PANEL - len(chosen), replace=False)
    return tuple(sorted(chosen | {str(gene) for gene in rest}))
