"""What was found in a gene table, and how much of a model's panel it has. No Qt.

One line is always on display; the rest is opened on demand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_gimp._qt.wording import capital, count, sentence
from napari_gimp.errors import GeneError
from napari_gimp.genes.relevance import mapping_for
from napari_gimp.genes.wording import some
from napari_gimp.session import looks_like_spots

if TYPE_CHECKING:
    from napari_gimp.genes.mapping import Change, MappingReport
    from napari_gimp.genes.panel import AlignReport, Panel
    from napari_gimp.genes.table import GeneTable, Profile

SCALES = {
    "counts": "counts",
    "linear": "TPM, FPKM or CPM, not logged",
    "log2": "log2 expression",
    "zscore": "z-scores",
}
CONVERTED = "converted to"
"""Of what is said of a scale, what is no doubt but was done."""
TIP_NAMES = 80
"""Names that a tooltip lists at most."""


@dataclass(frozen=True, slots=True)
class Fact:
    """One line of the report: a name, a text, and all of it as tooltip."""

    name: str
    text: str
    tip: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """What comparing a table, a sample of it and a model's panel showed.

    Parameters
    ----------
    line
        All of it in a sentence or two.
    facts
        The report.
    profile
        The sample's expression, None while none is chosen.
    panel
        The model's genes, None for a model without.
    share
        Part of the panel that the sample has, None where there is nothing to compare.
    doubts
        What looks wrong with the numbers, as sentences.
    question, consent
        What must be answered before a run, and with what; "" where nothing.
    refusal
        Why the table cannot go with the model, "" if it can.
    """

    line: str
    facts: tuple[Fact, ...]
    profile: Profile | None = None
    panel: Panel | None = None
    share: float | None = None
    doubts: tuple[str, ...] = ()
    question: str = ""
    consent: str = ""
    refusal: str = ""


def find(
    table: GeneTable, sample: str | None, *, summed: bool, card: Mapping[str, Any]
) -> Found:
    """Return what a table, a sample of it and a model's card have in common.

    Parameters
    ----------
    table
        The table.
    sample
        The chosen sample, None for none.
    summed
        Take the sum of all rows instead.
    card
        The model's card; empty for no model.
    """
    found = Found(table_line(table), facts_of_table(table, table.mapping))
    try:
        profile, panel = _profile(table, sample, summed), panel_in(card)
        found = replace(found, profile=profile, panel=panel)
        if panel is None:
            return found
        concerned = facts_of_table(table, mapping_for(table, panel))
        return _compare(replace(found, facts=concerned))
    except GeneError as error:
        return replace(found, refusal=str(error))


def panel_in(card: Mapping[str, Any]) -> Panel | None:
    """Return the panel of a model's card, None where it has none.

    Raises
    ------
    GeneError
        If the card contradicts itself.
    """
    from napari_gimp.genes.panel import Panel

    if not card.get("genes"):
        return None
    mean, sd = (np.asarray(card[k], dtype=np.float32) for k in ("gene_mean", "gene_sd"))
    scale = "zscore" if card.get("gene_scale") == "zscore" else "log2"
    return Panel(tuple(card["genes"]), mean, sd, scale)  # type: ignore[arg-type] # a Literal


def table_line(table: GeneTable) -> str:
    """Return how large a table is and what its numbers are."""
    rows, genes = len(table.samples), len(table.genes)
    what = "spot" if looks_like_spots(table.samples) else "sample"
    return f"{count(rows, what)} × {count(genes, 'gene')}, {SCALES[table.scale]}."


def facts_of_table(table: GeneTable, report: MappingReport) -> tuple[Fact, ...]:
    """Return what the names and numbers of a table told, most important first."""
    facts = (
        Fact("Scale", _scale(table)),
        *_facts_of_names(report),
        _names("Constant", report.constant, "gene", "one value in all samples"),
        _names("No value", report.unmeasured, "gene", "counts as missing"),
        Fact("Cells empty", _cells(report.missing_values)),
        *(Fact("Read so", sentence(note)) for note in table.reading),
    )
    return tuple(fact for fact in facts if fact.text)


def _facts_of_names(report: MappingReport) -> tuple[Fact, ...]:
    numbers = (*report.changed("ensembl"), *report.changed("entrez"))
    several = [f"{name} ({' or '.join(genes)})" for name, genes in report.ambiguous]
    return (
        _names("Duplicated", report.duplicates, "gene", "only the first is used"),
        _changes("From numbers", numbers, "Ensembl or Entrez number"),
        _changes("From dates", report.changed("date"), "name"),
        _changes("Other case", report.changed("case"), "name"),
        _names("Ambiguous", several, "name", "left as written"),
        _names("Unknown", report.unmapped, "name", "left as written"),
    )


def _compare(found: Found) -> Found:
    """Add how much of the panel the sample has."""
    from napari_gimp.genes.panel import align

    profile, panel = found.profile, found.panel
    if profile is None or panel is None:
        return found
    aligned, total = align(profile, panel), len(panel.genes)
    share = len(aligned.report.matched) / total
    line = f"{found.line} {percent(share)} of the model's {count(total, 'gene')} found."
    facts = (*_facts_of_panel(aligned.report, total), *found.facts)
    told = aligned.report.of_scale
    doubts = tuple(sentence(note) for note in told if CONVERTED not in note)
    found = replace(found, line=line, facts=facts, share=share, doubts=doubts)
    if (question := aligned.question) is None:
        return found
    text = sentence(question.text)
    return replace(found, question=text, consent=question.answer)


def _facts_of_panel(report: AlignReport, total: int) -> tuple[Fact, ...]:
    matched = len(report.matched)
    other = [f"{gene} as {written}" for gene, written in report.renamed]
    facts = (
        Fact("Matched", f"{matched:,} of {total:,} ({percent(matched / total)})"),
        _names("Missing", report.missing, "gene", "taken as the training mean"),
        _names("Renamed", other, "gene", ""),
        _names("Out of range", report.out_of_range, "gene", "clipped to 5 sd"),
        *(Fact("Numbers", sentence(note)) for note in report.of_scale),
    )
    return tuple(fact for fact in facts if fact.text)


def _profile(table: GeneTable, sample: str | None, summed: bool) -> Profile | None:
    if summed:
        return table.pseudobulk()
    return None if sample is None else table.profile(sample)


def _scale(table: GeneTable) -> str:
    seen = f", judged from {table.judged_from}" if table.judged_from else ""
    return f"{capital(SCALES[table.scale])}{seen}."


def _cells(number: int) -> str:
    return f"{number:,}: counted as missing, nothing is filled in" if number else ""


def _names(name: str, names: Sequence[str], what: str, then: str) -> Fact:
    """Return a fact that counts some names and shows the first."""
    if not names:
        return Fact(name, "")
    tail = f"; {then}" if then else ""
    return Fact(name, f"{count(len(names), what)}: {some(names)}{tail}", _all(names))


def _changes(name: str, changes: Sequence[Change], what: str) -> Fact:
    return _names(name, [f"{c.written} → {c.used}" for c in changes], what, "")


def _all(names: Sequence[str]) -> str:
    """Return names for a tooltip, which nobody could read if there were thousands."""
    more = len(names) - TIP_NAMES
    tail = f"\nand {more:,} more" if more > 0 else ""
    return ", ".join(names[:TIP_NAMES]) + tail


def percent(share: float | None) -> str:
    """Return a part in whole percent, rounded down: 79.9 must not read 80."""
    return "none" if share is None else f"{int(100 * share + 1e-9)}\u00a0%"
