"""A panel: the genes a model knows, with the means and spreads of its training.

A profile is aligned by name, never by position. A gene that the profile lacks
becomes z = 0, the training mean, and is reported as not present.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from napari_gimp.errors import GeneError
from napari_gimp.genes.identifiers import identifiers
from napari_gimp.genes.scale import Scale, Values, to_log2
from napari_gimp.genes.table import GeneTable, Profile
from napari_gimp.genes.wording import counted, some

PanelScale = Literal["log2", "zscore"]
CLIP = 5.0
"""z-scores beyond are clipped, as in training."""
LEAST_MATCHED = 0.8
"""A profile with less of a panel is mostly the training mean: the user is asked."""
FEW_COUNTED = 2000
"""The sum over fewer genes is not the sample's depth of sequencing."""
SHIFTED = 1.5
"""A profile whose median z is beyond is on another scale than the training samples:
each of 817 samples of three TCGA cohorts lies within 0.45 of the rest of its own."""
CALLED: dict[Scale, str] = {
    "counts": "counts",
    "linear": "TPM, FPKM or the like",
    "log2": "log2 expression",
    "zscore": "z-scores",
}
CONVERTED: dict[Scale, str] = {"counts": "log2(CPM + 1)", "linear": "log2(x + 1)"}
LEAST_SD = 1e-3
"""Genes that vary less than this (log2 units) in training carry nothing."""


@dataclass(frozen=True, slots=True)
class Panel:
    """The genes of a model.

    Parameters
    ----------
    genes
        G symbols in the model's order.
    mean, sd
        (G,) float32, of the training samples; sd is above 0.
    scale
        "log2", or "zscore" for a model trained on a cohort's own z-scores.

    Raises
    ------
    GeneError
        If the shapes do not fit, a gene comes twice, or an sd is not above 0.
    """

    genes: tuple[str, ...]
    mean: Values
    sd: Values
    scale: PanelScale = "log2"

    def __post_init__(self) -> None:
        count = len(self.genes)
        if self.mean.shape != (count,) or self.sd.shape != (count,):
            raise GeneError(
                f"a panel of {count} genes needs as many means and sds, got "
                f"{self.mean.shape} and {self.sd.shape}"
            )
        if len(set(self.genes)) != count:
            raise GeneError(f"a panel names each gene once; {count} names repeat some")
        if not (self.sd > 0).all():
            raise GeneError("a panel's sds must be above 0; drop constant genes")

    @classmethod
    def fit(
        cls,
        values: Values,
        genes: Sequence[str],
        *,
        top: int | None = None,
        scale: PanelScale = "log2",
    ) -> Panel:
        """Return the panel of training samples.

        Parameters
        ----------
        values
            (S, G) float32 on the panel's scale (`to_log2`); NaN is left out.
        genes
            G symbols, each once.
        top
            Keep only so many, those that vary most; None keeps all that vary.
        scale
            What the values are.

        Raises
        ------
        GeneError
            If shapes do not fit or no gene varies.
        """
        _check_training(values, genes)
        kept = _varying(values, top)
        chosen = values[:, kept].astype(np.float64)
        mean, sd = np.nanmean(chosen, axis=0), np.nanstd(chosen, axis=0)
        names = tuple(genes[k] for k in kept)
        return cls(names, mean.astype(np.float32), sd.astype(np.float32), scale)


@dataclass(frozen=True, slots=True)
class AlignReport:
    """What aligning found.

    Parameters
    ----------
    matched
        Genes of the panel the profile has.
    missing
        Genes of the panel it lacks; taken as the training mean.
    out_of_range
        Genes more than `CLIP` standard deviations from the training mean; clipped.
    notes
        What a user should know, as sentences.
    renamed
        Genes of the panel that the profile has under another symbol, and that.
    of_scale
        Those of the notes that are on the scale: what was converted, and whether the
        numbers seem to be something else.
    """

    matched: tuple[str, ...]
    missing: tuple[str, ...]
    out_of_range: tuple[str, ...]
    notes: tuple[str, ...]
    renamed: tuple[tuple[str, str], ...] = ()
    of_scale: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PanelQuestion:
    """What a user must agree to where a profile lacks much of the panel.

    Parameters
    ----------
    matched, total
        Genes of the panel the profile has, and all of them.
    missing
        Those it lacks.
    """

    matched: int
    total: int
    missing: tuple[str, ...]

    @property
    def text(self) -> str:
        """What is the matter, and what would mend it."""
        return (
            f"only {self.matched:,} of the model's {self.total:,} genes "
            f"({self._part}) have a number in the table, {100 * LEAST_MATCHED:.0f} % "
            f"should; the others ({some(self.missing)}) would count as the training "
            "mean. Give a table with more of the model's genes"
        )

    @property
    def answer(self) -> str:
        """What the user says to go on all the same."""
        return f"Run with {self._part} of the panel"

    def refusal(self, way: str) -> GeneError:
        """Return the error for a user who was not asked; `way` says how to agree."""
        return GeneError(f"{self.text}, or {way} to go on all the same")

    @property
    def _part(self) -> str:
        return f"{100 * self.matched // self.total} %"  # 79.9 must not read 80


@dataclass(frozen=True, slots=True)
class Aligned:
    """A profile as a model takes it.

    Parameters
    ----------
    z
        (G,) float32 in the panel's order, within +-`CLIP`; 0 where missing.
    present
        (G,) bool, whether the profile has the gene.
    report
        What was matched, missing and out of range.
    """

    z: Values
    present: NDArray[np.bool_]
    report: AlignReport

    @property
    def question(self) -> PanelQuestion | None:
        """What to ask before this profile is used; None if enough is there."""
        report, total = self.report, len(self.present)
        if len(report.matched) >= LEAST_MATCHED * total:
            return None
        return PanelQuestion(len(report.matched), total, report.missing)


def align(profile: Profile, panel: Panel) -> Aligned:
    """Return a profile as z-scores in the panel's order.

    Raises
    ------
    GeneError
        If no gene matches, or the profile's scale is not one the panel can take.
    """
    _check_scale(profile, panel)
    values = profile.values[None]
    raw, present = _standardise(values, profile.genes, profile.scale, panel)
    outside = np.abs(raw[0]) > CLIP
    renamed = _renamed(panel.genes, profile.genes)
    of_scale = _of_scale(profile, raw[0][present[0]])
    report = AlignReport(
        matched=_where(panel.genes, present[0]),
        missing=_where(panel.genes, ~present[0]),
        out_of_range=_where(panel.genes, outside),
        notes=(*_of_presence(present[0], outside), *_told(renamed), *of_scale),
        renamed=renamed,
        of_scale=of_scale,
    )
    return Aligned(raw[0].clip(-CLIP, CLIP), present[0], report)


def align_table(table: GeneTable, panel: Panel) -> tuple[Values, NDArray[np.bool_]]:
    """Return z (S, G) and present (S, G) of all samples at once; see `align`."""
    _check_scale(table, panel)
    raw, present = _standardise(table.values, table.genes, table.scale, panel)
    return raw.clip(-CLIP, CLIP), present


def columns_of(wanted: Sequence[str], genes: Sequence[str]) -> list[int]:
    """Return where each wanted gene is among `genes`, -1 where it is not.

    A gene is found by its name, else by another name of the same gene (SEPT7 for
    SEPTIN7), if just one of the genes that are not wanted themselves has such.
    """
    known = identifiers()
    position = {gene: k for k, gene in enumerate(genes)}
    named = frozenset(wanted)
    spare = [gene for gene in genes if gene not in named]
    current = [known.current(gene) for gene in spare]
    count = Counter(current)
    other = {
        now: position[gene]
        for now, gene in zip(current, spare, strict=True)
        if count[now] == 1
    }
    return [position.get(g, other.get(known.current(g), -1)) for g in wanted]


def _renamed(
    wanted: Sequence[str], genes: Sequence[str]
) -> tuple[tuple[str, str], ...]:
    found = zip(wanted, columns_of(wanted, genes), strict=True)
    return tuple((gene, genes[k]) for gene, k in found if k >= 0 and genes[k] != gene)


def _told(renamed: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    names = some([f"{gene} as {written}" for gene, written in renamed])
    count = counted(renamed, "gene is", "genes are")
    return (f"{count} in the table under another name ({names})",) if renamed else ()


def _standardise(
    values: Values, genes: Sequence[str], scale: Scale, panel: Panel
) -> tuple[Values, NDArray[np.bool_]]:
    """Return z (S, G) before clipping, 0 where missing, and present (S, G)."""
    expression = values if scale == "zscore" else to_log2(values, scale)
    column = np.array(columns_of(panel.genes, genes))
    found = expression[:, column]
    present = (column >= 0) & np.isfinite(found)
    if not present.any():
        raise GeneError(_nothing_matches(genes, panel, bool((column >= 0).any())))
    z = (found - panel.mean) / panel.sd
    return np.where(present, z, 0).astype(np.float32), present


def _check_scale(given: Profile | GeneTable, panel: Panel) -> None:
    """Refuse z-scores where expression is needed, and the reverse."""
    if (given.scale == "zscore") == (panel.scale == "zscore"):
        return
    seen = f" ({given.judged_from})" if given.judged_from else ""
    if given.scale == "zscore":
        raise GeneError(
            f"the gene table holds z-scores of its own cohort{seen}, which mean "
            "nothing to a model trained on log2 expression; give counts, TPM/FPKM or "
            "log2 values"
        )
    raise GeneError(
        f"the gene table holds {CALLED[given.scale]}{seen}, but the model was trained "
        "on z-scores of its cohort; give the same kind of z-scores"
    )


def _nothing_matches(genes: Sequence[str], panel: Panel, known: bool) -> str:
    if known:
        return (
            "the sample has no number for any of the model's genes, though the table "
            "names them; export the table again, with this sample's values"
        )
    return (
        f"none of the model's {len(panel.genes)} genes ({', '.join(panel.genes[:3])}, "
        f"...) is in the table, whose genes are {', '.join(genes[:3])}, ...; give a "
        "table with the same kind of gene names"
    )


def _of_presence(
    present: NDArray[np.bool_], outside: NDArray[np.bool_]
) -> tuple[str, ...]:
    total, missing = len(present), int((~present).sum())
    lacks = "genes is missing; it is" if missing == 1 else "genes are missing; they are"
    beyond = counted(np.flatnonzero(outside), "gene is", "genes are")
    notes = {
        f"{missing:,} of {total:,} {lacks} taken as the training mean": missing > 0,
        f"{beyond} more than {CLIP:g} sd from the training mean, where values are "
        "clipped": bool(outside.any()),
    }
    return tuple(text for text, applies in notes.items() if applies)


def _of_scale(profile: Profile, z: Values) -> tuple[str, ...]:
    """Say how the numbers were converted, and where they seem to be something else."""
    seen = f" ({profile.judged_from})" if profile.judged_from else ""
    counts, few = profile.scale == "counts", len(profile.genes) < FEW_COUNTED
    shift = float(np.median(z))
    side = "above" if shift > 0 else "below"
    notes = {
        f"the table holds {CALLED[profile.scale]}{seen}, converted to "
        f"{CONVERTED.get(profile.scale)} as the model was trained": profile.scale
        in CONVERTED,
        "counts were normalised by the sum over only "
        f"{counted(profile.genes, 'gene', 'genes')}": counts and few,
        f"half of the genes lie more than {abs(shift):.1f} sd {side} the training "
        f"mean: the table, read as {CALLED[profile.scale]}{seen}, may be on another "
        "scale, such as a logarithm of another base or of raw counts": abs(shift)
        > SHIFTED,
    }
    return tuple(text for text, applies in notes.items() if applies)


def _where(genes: Sequence[str], mask: NDArray[np.bool_]) -> tuple[str, ...]:
    return tuple(genes[k] for k in np.flatnonzero(mask).tolist())


def _check_training(values: Values, genes: Sequence[str]) -> None:
    if values.ndim != 2 or values.shape[1] != len(genes) or len(values) < 2:
        raise GeneError(
            f"a panel is fitted on (S, {len(genes)}) values of at least 2 samples, got "
            f"{values.shape}"
        )


def _varying(values: Values, top: int | None) -> list[int]:
    """Return the columns that vary, the `top` most varying, in their order."""
    measured = np.isfinite(values).sum(axis=0) >= 2
    sd = np.zeros(values.shape[1])
    sd[measured] = np.nanstd(values[:, measured].astype(np.float64), axis=0)
    kept = np.flatnonzero(sd >= LEAST_SD)
    if not len(kept):
        raise GeneError(
            f"none of {values.shape[1]} genes varies over {len(values)} samples; give "
            "expression of different patients"
        )
    ranked = kept[np.argsort(-sd[kept], kind="stable")][:top]
    return [int(k) for k in np.sort(ranked)]
