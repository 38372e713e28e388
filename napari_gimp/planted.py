"""Do the maps and gene bars point at what was planted? For synthetic cohorts.

A synthetic slide knows its tissues and its expression knows its modules, so two
questions have numbers for answers: do attention and contribution rank tumour patches
above the others (AUC, 0.5 is chance), and how many of the top genes of the attribution
belong to modules that differ between classes (precision, beside the share of such
genes in the panel, which is chance)?
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_gimp.errors import CohortError
from napari_gimp.geometry import Grid, Rect
from napari_gimp.training.metrics import Score, mean_with_interval

if TYPE_CHECKING:
    from gimp_models.bag import Bag
    from gimp_models.gimp import Gimp

TUMOUR, NO_TISSUE = 2, (0, 6)  # codes of the truth: tumour; glass and pen
TUMOUR_FROM, OTHER_BELOW = 0.5, 0.1
"""Patches from so much tumour on are tumour, below so little other; the rest is
at the border and not asked about."""
TOP = (20, 50)

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Planted:
    """How well explanations find what was planted, over held-out tumour patients.

    Parameters
    ----------
    patients
        How many slides had patches of both kinds.
    tumour_auc
        Map name to the mean AUC over these slides.
    gene_precision
        k to the mean precision among a patient's top k genes by size of attribution.
    cohort_precision
        k to the precision among the top k genes of the cohort: those whose mean
        attribution, over the patients of a class, is largest in size.
    gene_chance
        Share of planted genes in the panel.
    """

    patients: int
    tumour_auc: Mapping[str, Score]
    gene_precision: Mapping[int, Score]
    cohort_precision: Mapping[int, float]
    gene_chance: float

    def as_dict(self) -> dict[str, Any]:
        """Return the numbers as plain values."""
        return asdict(self)

    def to_json(self) -> str:
        """Return the numbers as JSON."""
        return json.dumps(self.as_dict(), indent=1)

    def table(self) -> str:
        """Return the numbers as text."""
        maps = [f"{name}: AUC {auc}" for name, auc in self.tumour_auc.items()]
        genes = [f"of a patient, top {k}: {p}" for k, p in self.gene_precision.items()]
        means = [
            f"of the cohort, top {k}: {p:.3f}" for k, p in self.cohort_precision.items()
        ]
        return "\n".join(
            [
                f"Tumour patches against others, {self.patients} held-out slides "
                "(chance 0.5; [95 % bootstrap interval over slides])",
                *(f"  {line}" for line in maps),
                f"Genes of class modules among the top (chance {self.gene_chance:.3f})",
                *(f"  {line}" for line in (*genes, *means)),
            ]
        )


def measure_planted(run_folder: Path | str) -> Planted:
    """Score the maps and genes of a fine-tuned run on its held-out tumour patients.

    Parameters
    ----------
    run_folder
        Run on a cohort of `napari_gimp.synthetic`.

    Raises
    ------
    CohortError
        If the cohort is not synthetic, or no slide has patches of both kinds.
    RunError
        If the folder holds no fine-tuned run.
    """
    from gimp_models.checkpoint import load_as
    from gimp_models.gimp import Gimp

    from napari_gimp.training.evaluate import held_out_bags, read_run

    run = read_run(Path(run_folder))
    truth = read_modules(run.manifest.parent)
    checkpoint = load_as(run.folder.best, Gimp)
    bags = held_out_bags(run, checkpoint)
    planted = class_genes(truth)
    labelled = [(bag, _class_of(bag, bags.classes)) for bag in bags.test]
    tumours = [bag for bag, name in labelled if name in driven_classes(truth)]
    genes = np.isin(bags.panel.genes, sorted(planted))
    patch_um = checkpoint.card.patch_um
    return _score(checkpoint.model, tumours, genes, run.manifest.parent, patch_um)


def tumour_share(
    codes: NDArray[np.uint8], grid: Grid, coords_um: Floats, patch_um: float
) -> Floats:
    """Return the share of tumour in the tissue of each patch.

    Parameters
    ----------
    codes, grid
        True tissue (rows, cols) and its place.
    coords_um
        (N, 2) patch centres (y, x).
    patch_um
        Side of a patch, um.

    Returns
    -------
    numpy.ndarray
        (N,), NaN where a patch has no tissue at all.
    """
    shares = [_share(codes, grid, _square(y, x, patch_um)) for y, x in coords_um]
    return np.asarray(shares, dtype=np.float64)


def tumour_auc(values: Floats, share: Floats) -> float | None:
    """Return the AUC of a map's values (N,) for tumour patches against others.

    Parameters
    ----------
    values
        (N,), any unit; larger should mean tumour.
    share
        (N,) of `tumour_share`.

    Returns
    -------
    float or None
        None if the slide lacks one of the two kinds.
    """
    from sklearn.metrics import roc_auc_score

    is_tumour, is_other = share >= TUMOUR_FROM, share < OTHER_BELOW
    if not (is_tumour.any() and is_other.any()):
        return None
    asked = is_tumour | is_other
    return float(roc_auc_score(is_tumour[asked], values[asked]))


def precision_at(attribution: Floats, planted: NDArray[np.bool_], k: int) -> float:
    """Return the share of planted genes among the k largest attributions by size.

    Parameters
    ----------
    attribution
        (G,), signed.
    planted
        (G,) bool.
    k
        How many.
    """
    top = np.argsort(-np.abs(attribution), kind="stable")[:k]
    return float(planted[top].mean())


def read_modules(cohort: Path) -> Mapping[str, Any]:
    """Return the planted modules of a synthetic cohort's `truth.json`.

    Raises
    ------
    CohortError
        If there is none: then nothing is known to have been planted.
    """
    path = cohort / "truth.json"
    try:
        modules: Mapping[str, Any] = json.loads(path.read_text("utf-8"))["modules"]
    except (OSError, ValueError, KeyError) as error:
        raise CohortError(
            f"{path} does not say what was planted ({error!r}). Only cohorts made by "
            "`napari-gimp synth` can be scored."
        ) from error
    return modules


def class_genes(modules: Mapping[str, Any]) -> set[str]:
    """Return the genes of modules that differ between classes."""
    return {gene for m in modules.values() if m["classes"] for gene in m["genes"]}


def driven_classes(modules: Mapping[str, Any]) -> set[str]:
    """Return the classes that drive a module: those with a tumour."""
    return {name for m in modules.values() for name in m["classes"]}


def _score(
    model: Gimp,
    tumours: Sequence[Bag],
    planted: NDArray[np.bool_],
    cohort: Path,
    patch_um: float,
) -> Planted:
    from napari_gimp.synthetic.cohort import read_truth

    aucs: dict[str, list[float]] = {"attention": [], "contribution": []}
    attributions: dict[int, list[Floats]] = {}
    for bag in tumours:
        codes, grid = read_truth(cohort, bag.patient)
        share = tumour_share(codes, grid, bag.coords_um.numpy(), patch_um)
        for name, values in _patch_maps(model, bag).items():
            auc = tumour_auc(values, share)
            aucs[name] += [] if auc is None else [auc]
        if bag.genes is not None:
            found = attributions.setdefault(int(bag.label or 0), [])
            found.append(_gene_attribution(model, bag))
    if not aucs["attention"]:
        raise CohortError(
            f"None of {len(tumours)} held-out tumour slides of {cohort} has patches of "
            "tumour and others too. Make larger slides or more patients."
        )
    return Planted(
        patients=len(aucs["attention"]),
        tumour_auc={name: mean_with_interval(found) for name, found in aucs.items()},
        **_gene_scores(attributions, planted),
        gene_chance=float(planted.mean()),
    )


def _gene_scores(
    attributions: Mapping[int, Sequence[Floats]], planted: NDArray[np.bool_]
) -> dict[str, Any]:
    """Score genes patient by patient, and by their mean over a class's patients."""
    patients = [found for each in attributions.values() for found in each]
    means = [np.mean(found, axis=0) for found in attributions.values()]
    whole = np.abs(means).max(axis=0) if means else np.zeros(len(planted))
    each = {k: [precision_at(found, planted, k) for found in patients] for k in TOP}
    return {
        "gene_precision": {k: mean_with_interval(p) for k, p in each.items() if p},
        "cohort_precision": {k: precision_at(whole, planted, k) for k in TOP if means},
    }


def _patch_maps(model: Gimp, bag: Bag) -> dict[str, Floats]:
    """Return attention and contribution to the true class, (N,) each."""
    from gimp_models.bag import collate
    from gimp_models.evidence import class_attention

    from napari_gimp.explain.prediction import contributions

    batch, target = collate([bag]), int(bag.label or 0)
    *_, whole = contributions(model, batch, target)
    return {
        "attention": class_attention(model, batch)[0].numpy(),
        "contribution": whole.attribution.detach().numpy().ravel(),
    }


def _gene_attribution(model: Gimp, bag: Bag) -> Floats:
    from gimp_models.bag import collate

    from napari_gimp.explain.prediction import attributions

    *_, whole = attributions(model, collate([bag]), int(bag.label or 0))
    values: Floats = whole.attribution.detach().numpy().ravel()
    return values


def _class_of(bag: Bag, classes: Sequence[str]) -> str:
    return "" if bag.label is None else classes[bag.label]


def _square(y: float, x: float, side: float) -> Rect:
    return Rect(y - side / 2, x - side / 2, y + side / 2, x + side / 2)


def _share(codes: NDArray[np.uint8], grid: Grid, patch: Rect) -> float:
    (oy, ox), (cy, cx) = grid.origin_um, grid.cell_um
    rows = slice(max(round((patch.y0 - oy) / cy), 0), round((patch.y1 - oy) / cy))
    cols = slice(max(round((patch.x0 - ox) / cx), 0), round((patch.x1 - ox) / cx))
    seen = codes[rows, cols]
    tissue = ~np.isin(seen, NO_TISSUE)
    return float((seen == TUMOUR).sum() / tissue.sum()) if tissue.any() else np.nan
