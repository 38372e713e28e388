"""Signature scores: one number per sample and gene set.

Two ways. The *mean z* says how many standard deviations a set's genes are above the
training samples of a panel, so it needs that panel. *Single-sample GSEA* (Barbie et
al., Nature 462, 108-112, 2009) ranks the genes of a sample among themselves, so it
needs no other sample, and any transformation that keeps the order leaves it as it is.

Shapes: S samples, G genes, K sets.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from napari_gimp.errors import GeneError
from napari_gimp.genes.identifiers import identifiers
from napari_gimp.genes.panel import Panel, align_table
from napari_gimp.genes.table import GeneTable, Profile

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Method = Literal["mean z", "ssGSEA"]
Scores = NDArray[np.float64]

RANK_WEIGHT = 0.25
"""Power of the rank by which a gene counts, alpha of Barbie et al."""
LEAST_GENES = 5
"""A set of which a sample has fewer genes gets no score: one gene would decide."""
MOSTLY_TIED = 0.5
"""Part of a sample's genes that share their value, above which ranks say little."""
BLOCK_NUMBERS = 4_000_000
"""Numbers ranked at a time: 32 MB of each intermediate result."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """The genes of a set that a table or panel has.

    Parameters
    ----------
    found, missing
        Symbols in the set's order.
    """

    found: tuple[str, ...]
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Signatures:
    """Scores of gene sets in samples.

    Parameters
    ----------
    method
        How they were made.
    samples
        S names.
    sets
        K names.
    scores
        (S, K) float64; NaN where a sample has too few of the set's genes.
        "mean z" is in standard deviations of the panel's training samples;
        "ssGSEA" is within -0.5 (the set's genes are the lowest) and 0.5 (the highest);
        a set spread evenly has 0.056, not 0, since its higher ranks count more.
    coverage
        K, what was found of each set.
    notes
        What a user should know, as sentences.
    """

    method: Method
    samples: tuple[str, ...]
    sets: tuple[str, ...]
    scores: Scores
    coverage: tuple[Coverage, ...]
    notes: tuple[str, ...] = ()


def mean_z(
    table: GeneTable | Profile, panel: Panel, sets: Mapping[str, Sequence[str]]
) -> Signatures:
    """Return the mean z-score of each set's genes in each sample.

    Genes are z-scored as a model of the panel sees them (clipped, log2 where the
    panel is); a gene that a sample lacks is left out, not taken as 0.

    Parameters
    ----------
    table
        Samples, or the profile of one.
    panel
        Whose means and standard deviations to use: a checkpoint's, or
        `Panel.fit` of a cohort to compare its own samples.
    sets
        Name -> symbols, as of `read_gmt` or `hallmarks`.

    Raises
    ------
    GeneError
        If no set can be scored, or the table does not fit the panel (`align`).
    """
    table = _as_table(table)
    z, present = align_table(table, panel)
    members, coverage = _members(sets, panel.genes, np.any(present, axis=0))
    count = present.astype(np.float64) @ members
    total = z.astype(np.float64) @ members  # z is 0 where not present
    scores = _divide(total, count, count >= LEAST_GENES)
    notes = _unscored(sets, scores)
    return Signatures("mean z", table.samples, tuple(sets), scores, coverage, notes)


def ssgsea(table: GeneTable | Profile, sets: Mapping[str, Sequence[str]]) -> Signatures:
    """Return the single-sample enrichment of each set in each sample.

    The published score sums, down a sample's genes from the highest, the part of the
    set that was met (a gene counts by its ascending rank to the power `RANK_WEIGHT`)
    less the part of all other genes that was met. Summed by parts, it is the
    weighted mean rank of the set less the mean rank of the others, and so it is
    computed. Genes of equal value share their mean rank: their order in the file
    does not matter. It is divided by the number of ranked genes, so that tables of
    different length compare; times that number it is the published score.

    Parameters
    ----------
    table
        Samples, or the profile of one, on any scale; NaN is not ranked.
    sets
        Name -> symbols, as of `read_gmt` or `hallmarks`.

    Raises
    ------
    GeneError
        If no set can be scored.
    """
    table = _as_table(table)
    measured = np.any(np.isfinite(table.values), axis=0)
    members, coverage = _members(sets, table.genes, measured)
    blocks = [_enrichment(*ranked, members) for ranked in _ranks(table.values)]
    scores = np.concatenate(blocks)
    notes = (*_unscored(sets, scores), *_cautions(table))
    return Signatures("ssGSEA", table.samples, tuple(sets), scores, coverage, notes)


def _as_table(table: GeneTable | Profile) -> GeneTable:
    if isinstance(table, GeneTable):
        return table
    return GeneTable(
        samples=(table.sample,),
        genes=table.genes,
        values=table.values[None],
        scale=table.scale,
    )


def _members(
    sets: Mapping[str, Sequence[str]],
    genes: Sequence[str],
    measured: NDArray[np.bool_],
) -> tuple[csr_array, tuple[Coverage, ...]]:
    """Return which gene is in which set (G, K), 0 or 1, and what was found."""
    from scipy.sparse import csr_array

    place = _places(sets, genes, measured)
    coverage = tuple(_coverage(tuple(dict.fromkeys(s)), place) for s in sets.values())
    if not any(len(c.found) >= LEAST_GENES for c in coverage):
        raise GeneError(_none_found(sets, coverage, genes))
    rows = [place[gene] for c in coverage for gene in c.found]
    columns = np.repeat(np.arange(len(coverage)), [len(c.found) for c in coverage])
    shape = (len(genes), len(coverage))
    return csr_array((np.ones(len(rows)), (rows, columns)), shape=shape), coverage


def _places(
    sets: Mapping[str, Sequence[str]],
    genes: Sequence[str],
    measured: NDArray[np.bool_],
) -> dict[str, int]:
    """Return where the sets' genes are, also those under an earlier symbol."""
    exact = {gene: k for k, gene in enumerate(genes)}
    current = identifiers().current
    other: dict[str, list[int]] = {}
    for k, gene in enumerate(genes):
        other.setdefault(current(gene), []).append(k)
    wanted = dict.fromkeys(gene for symbols in sets.values() for gene in symbols)
    found = (
        (g, [exact[g]] if g in exact else other.get(current(g), ())) for g in wanted
    )
    return {g: at[0] for g, at in found if len(at) == 1 and measured[at[0]]}


def _coverage(symbols: tuple[str, ...], place: Mapping[str, int]) -> Coverage:
    """Return what was found; a set that has both names of a gene has it once."""
    first: dict[int, str] = {}
    for gene in symbols:
        if gene in place:
            first.setdefault(place[gene], gene)
    found = tuple(first.values())
    return Coverage(found, tuple(gene for gene in symbols if gene not in place))


def _ranks(
    values: NDArray[np.float32],
) -> Iterator[tuple[Scores, NDArray[np.bool_]]]:
    """Yield ranks (B, G) of some samples at a time, 1 the lowest, and what counts.

    What is not a number is put above all others, where it moves no other rank.
    """
    from scipy.stats import rankdata

    step = max(1, BLOCK_NUMBERS // max(1, values.shape[1]))
    for start in range(0, len(values), step):
        block = values[start : start + step]
        known = np.isfinite(block)
        yield rankdata(np.where(known, block, np.inf), axis=1), known


def _enrichment(ranks: Scores, known: NDArray[np.bool_], members: csr_array) -> Scores:
    """Return the scores (B, K) of ranks (B, G)."""
    ranked = known.sum(axis=1, dtype=np.float64)[:, None]
    ranks = np.where(known, ranks, 0.0)
    weights = ranks**RANK_WEIGHT  # 0 where not ranked
    inside, sums = known.astype(np.float64) @ members, ranks @ members
    enough = (inside >= LEAST_GENES) & (inside < ranked)
    high = _divide((weights * ranks) @ members, weights @ members, enough)
    rest = _divide(ranks.sum(axis=1)[:, None] - sums, ranked - inside, enough)
    scores: Scores = (high - rest) / np.maximum(ranked, 1)
    return scores


def _divide(over: Scores, under: Scores, where: NDArray[np.bool_]) -> Scores:
    out = np.full(over.shape, np.nan)
    np.divide(over, under, out=out, where=where)
    return out


def _unscored(sets: Mapping[str, Sequence[str]], scores: Scores) -> tuple[str, ...]:
    """Name the sets that some samples have too few genes of."""
    lacking = np.flatnonzero(np.isnan(scores).any(axis=0)).tolist()
    names = [tuple(sets)[k] for k in lacking]
    if not names:
        return ()
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return (
        f"{len(names)} of {len(sets)} gene sets have no score in some samples, which "
        f"have fewer than {LEAST_GENES} of their genes or no other genes: "
        f"{', '.join(names[:5])}{more}",
    )


def _cautions(table: GeneTable) -> tuple[str, ...]:
    """Say where ranks within a sample mean less than they seem to."""
    sparse = int((_at_bottom(table.values) > MOSTLY_TIED).sum())
    notes = {
        "the table holds z-scores of a cohort: ranks are of how unusual a gene is in "
        "that cohort, not of how much it is expressed": table.scale == "zscore",
        "counts rank long genes high; give TPM or FPKM, unless the reads were of "
        "3' ends": table.scale == "counts",
        f"in {sparse} of {len(table.samples)} samples more than half of the genes "
        "share the lowest value (most often 0), so their ranks say little; a "
        "pseudobulk of spots or cells has fewer zeros": sparse > 0,
    }
    return tuple(text for text, applies in notes.items() if applies)


def _at_bottom(values: NDArray[np.float32]) -> Scores:
    """Return which part (S,) of a sample's genes has the sample's lowest value."""
    known = np.isfinite(values)
    lowest = np.where(known, values, np.inf).min(axis=1, initial=np.inf)
    tied = (known & (values == lowest[:, None])).sum(axis=1)
    part: Scores = tied / np.maximum(known.sum(axis=1), 1)
    return part


def _none_found(
    sets: Mapping[str, Sequence[str]],
    coverage: Sequence[Coverage],
    genes: Sequence[str],
) -> str:
    wanted = [gene for symbols in sets.values() for gene in symbols]
    best = max((len(c.found) for c in coverage), default=0)
    return (
        f"none of {len(sets)} gene sets ({', '.join(wanted[:3])}, ...) has "
        f"{LEAST_GENES} genes with numbers in the table, the best has {best}; its "
        f"genes are {', '.join(genes[:3])}, ...: give sets of the same kind of gene "
        "names, or a larger table"
    )
