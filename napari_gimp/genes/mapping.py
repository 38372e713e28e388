"""From the names a table is written with to gene symbols, and what was changed.

Numbers (Ensembl, Entrez) become symbols where the identifiers know them. Symbols
that a spreadsheet turned into dates are restored if only one gene can have been
meant; a different case is mended. Earlier symbols and aliases stay as written, since
models and gene sets may use them too: `align` finds them. Nothing is averaged.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from napari_gimp.errors import GeneError
from napari_gimp.genes.identifiers import (
    VARIABLE,
    Identifiers,
    identifiers,
    known_symbols,
)
from napari_gimp.genes.layout import ENSEMBL
from napari_gimp.genes.scale import Values
from napari_gimp.genes.wording import counted, some

Why = Literal["ensembl", "entrez", "date", "case", "previous", "alias"]
SYMBOL_AND_ENTREZ = re.compile(r"([^|]+)\|(\d+)$")
CLONE = re.compile(r"[A-Z]{2}\d{6}\.\d+$")
"""What Ensembl calls a gene that has no official symbol, such as AC004086.1."""
MOUSE = re.compile(r"[A-Z][a-z]+\d*[a-z]*\d*(-ps\d*)?$")
MONTHS = {"mar": "03", "sep": "09", "sept": "09", "dec": "12"}
SPOILED = {"03": ("MARCH", "MARC"), "09": ("SEPT", "SEP"), "12": ("DEC",)}
"""Month -> beginnings of the symbols that spreadsheets take for it."""
DATES = re.compile(
    r"(?P<d1>\d{1,2})-(?P<m1>mar|sept?|dec)$|(?P<m2>mar|sept?|dec)-(?P<d2>\d{1,2})$"
    r"|\d{4}-(?P<m3>03|09|12)-(?P<d3>\d{2})( 00:00:00)?$",
    re.IGNORECASE,
)
UNKNOWN_SYMBOL = "?"
"""Level-3 files of TCGA write `?|100130426` where a gene had no symbol."""


@dataclass(frozen=True, slots=True)
class Change:
    """A name that is used differently from how it was written."""

    written: str
    used: str
    why: Why


@dataclass(frozen=True, slots=True)
class MappingReport:
    """What became of the names of a table's genes.

    Parameters
    ----------
    total
        Genes in the file, repeated ones counted each time.
    changes
        Names that are used differently, and why.
    other_names
        Earlier symbols and aliases, kept as written, with the current symbol.
    ambiguous
        Names that may be several genes, with those; kept as written.
    unmapped
        Ensembl and Entrez numbers and dates without a symbol, and, if the
        identifiers are complete, names that are no gene's; kept as written.
    duplicates
        Genes that come more than once; the first of each is used.
    constant, unmeasured
        Genes with one value in all samples (of three or more), or with none.
    missing_values
        Cells without a number, outside the unmeasured genes.
    source
        The identifiers used.
    """

    total: int
    changes: tuple[Change, ...] = ()
    other_names: tuple[Change, ...] = ()
    ambiguous: tuple[tuple[str, tuple[str, ...]], ...] = ()
    unmapped: tuple[str, ...] = ()
    duplicates: tuple[str, ...] = ()
    constant: tuple[str, ...] = ()
    unmeasured: tuple[str, ...] = ()
    missing_values: int = 0
    source: str = ""

    def changed(self, why: Why) -> tuple[Change, ...]:
        """Return the changes made for one reason."""
        return tuple(change for change in self.changes if change.why == why)


@dataclass(frozen=True, slots=True)
class Naming:
    """The names to use, in the table's order, and what was found about them."""

    names: tuple[str, ...]
    report: MappingReport


def map_names(written: Sequence[str], known: Identifiers | None = None) -> Naming:
    """Return the symbols of genes called `written`.

    Raises
    ------
    GeneError
        If the names are those of another species, or the identifiers the user
        gave cannot be read.
    """
    known = known or identifiers()
    _check_species(written)
    numbers = bool(written) and all(name.isdigit() for name in written)
    found = [_change(name, numbers, known) for name in written]
    names = tuple(
        change.used if change else name
        for name, change in zip(written, found, strict=True)
    )
    several = {name: _candidates(name, known) for name in dict.fromkeys(names)}
    report = MappingReport(
        total=len(names),
        changes=tuple(filter(None, found)),
        other_names=_other_names(several, known),
        ambiguous=tuple((n, genes) for n, genes in several.items() if len(genes) > 1),
        unmapped=tuple(n for n in several if _is_unmapped(n, several[n], known)),
        source=known.source,
    )
    return Naming(names, report)


def with_values(
    report: MappingReport, genes: Iterable[str], values: Values
) -> MappingReport:
    """Return a report with what the values (S, G) of the genes kept say."""
    names = tuple(genes)
    blank = ~np.isfinite(values)
    unmeasured: NDArray[np.bool_] = blank.sum(axis=0) == len(values)
    repeats = np.isfinite(values) & (values == values[:1])
    same: NDArray[np.bool_] = repeats.sum(axis=0) == max(len(values), 3)
    return replace(
        report,
        constant=_where(names, same),
        unmeasured=_where(names, unmeasured),
        missing_values=int(blank[:, ~unmeasured].sum()),
    )


def sentences(report: MappingReport) -> tuple[str, ...]:
    """Return what a user should know of a report, one sentence each."""
    return (*_of_repeats(report), *_of_names(report), *_of_values(report))


def _of_repeats(report: MappingReport) -> tuple[str, ...]:
    repeated = report.duplicates
    note = (
        f"{counted(repeated, 'gene comes', 'genes come')} more than once "
        f"({some(repeated)}); the first of each is used, nothing is averaged"
    )
    return (note,) if repeated else ()


def _of_names(report: MappingReport) -> tuple[str, ...]:
    numbers = (*report.changed("ensembl"), *report.changed("entrez"))
    numbered = "Ensembl or Entrez number"
    read = (f"{numbered} was read as a symbol", f"{numbered}s were read as symbols")
    case, cases = report.changed("case"), ("gene name was", "gene names were")
    unmapped, nobody = report.unmapped, ("name is no gene's", "names are no gene's")
    several = [f"{n} ({' or '.join(g)})" for n, g in report.ambiguous]
    may_be = ("gene name is that of several genes", "gene names are each of several")
    told = {
        f"{counted(numbers, *read)} ({_some_changes(numbers)})": numbers,
        f"{counted(unmapped, *nobody)} in {report.source} ({some(unmapped)}), left as "
        "written; HGNC's complete set knows more: save it and set "
        f"{VARIABLE} to its path": unmapped,
        f"{counted(case, *cases)} written in another case "
        f"({_some_changes(case)})": case,
        f"{counted(several, *may_be)}, left as written ({some(several)})": several,
    }
    return (*_of_dates(report), *(text for text, names in told.items() if names))


def _of_dates(report: MappingReport) -> tuple[str, ...]:
    restored = report.changed("date")
    spoiled = [name for name, _ in report.ambiguous if date_of(name)]
    spoiled += [name for name in report.unmapped if date_of(name)]
    dates = (*restored, *spoiled)
    turned = ("gene name was turned into a date", "gene names were turned into dates")
    note = (
        f"{counted(dates, *turned)} by a spreadsheet; "
        f"restored: {_some_changes(restored) or 'none'}; not: {some(spoiled) or 'none'}"
    )
    return (note,) if dates else ()


def _of_values(report: MappingReport) -> tuple[str, ...]:
    unmeasured, constant = report.unmeasured, report.constant
    blank, gene = range(report.missing_values), ("gene has", "genes have")
    cell = ("cell holds no number and counts", "cells hold no number and count")
    told = {
        f"{counted(unmeasured, *gene)} no value in any sample, which is taken as "
        f"missing ({some(unmeasured)})": unmeasured,
        f"{counted(blank, *cell)} as missing; nothing is filled in": blank,
        f"{counted(constant, *gene)} the same value in all samples "
        f"({some(constant)})": constant,
    }
    return tuple(text for text, found in told.items() if found)


def _some_changes(changes: Sequence[Change]) -> str:
    return some([f"{change.written} as {change.used}" for change in changes])


def _where(genes: Sequence[str], mask: NDArray[np.bool_]) -> tuple[str, ...]:
    return tuple(genes[k] for k in np.flatnonzero(mask).tolist())


def date_of(name: str) -> str | None:
    """Return the month and day a name is a date of, as "09-2"; None if of none."""
    found = DATES.match(name)
    if found is None:
        return None
    parts = [part for part in found.groups()[:6] if part]
    day, month = sorted(parts, key=lambda part: part.lower() in MONTHS)
    if found["m3"]:
        month, day = found["m3"], found["d3"]
    return f"{MONTHS.get(month.lower(), month)}-{int(day)}"


def _change(name: str, numbers: bool, known: Identifiers) -> Change | None:
    """Return how a name is used differently, None if as it is written."""
    if name in known.ensembl:
        return Change(name, known.ensembl[name], "ensembl")
    if numbers:
        used = known.entrez.get(name)
        return Change(name, used, "entrez") if used else None
    if both := SYMBOL_AND_ENTREZ.match(name):
        used = known.entrez.get(both[2], both[1])
        return None if used == UNKNOWN_SYMBOL else Change(name, used, "entrez")
    if date_of(name):
        meant = _candidates(name, known)
        return Change(name, meant[0], "date") if len(meant) == 1 else None
    upper = name.upper()
    if upper != name and _is_symbol(upper, known) and not _is_symbol(name, known):
        return Change(name, upper, "case")
    return None


def _is_symbol(name: str, known: Identifiers) -> bool:
    return name in known.symbols or name in known_symbols()


def _candidates(name: str, known: Identifiers) -> tuple[str, ...]:
    date = date_of(name)
    if date is None:
        return known.candidates(name)
    month, day = date.split("-")
    spoiled = (f"{start}{day}" for start in SPOILED[month])
    return tuple(sorted({s for n in spoiled for s in known.candidates(n)}))


def _other_names(
    several: dict[str, tuple[str, ...]], known: Identifiers
) -> tuple[Change, ...]:
    """Return the earlier symbols and aliases that stand for one gene."""
    one = [(name, genes[0]) for name, genes in several.items() if len(genes) == 1]
    return tuple(
        Change(name, gene, "previous" if name in known.previous else "alias")
        for name, gene in one
        if name != gene
    )


def _is_unmapped(name: str, genes: tuple[str, ...], known: Identifiers) -> bool:
    if genes or name in known_symbols():
        return False
    is_number = name.isdigit() or bool(ENSEMBL.match(name) or date_of(name))
    return is_number or (known.complete and not CLONE.match(name))


def _check_species(written: Iterable[str]) -> None:
    """Refuse a table of another species: its symbols differ by more than case."""
    names = tuple(written)
    foreign = [n for n in names if ENSEMBL.match(n) and not n.startswith("ENSG")]
    if 2 * len(foreign) > len(names):
        raise GeneError(_of_another_species(foreign, "Ensembl numbers start with ENSG"))
    like_mouse = [n for n in names if MOUSE.match(n) and n.upper() in known_symbols()]
    human = sum(n in known_symbols() for n in names)
    if len(like_mouse) >= 3 and len(like_mouse) > human:
        raise GeneError(_of_another_species(like_mouse, "symbols are in capitals"))


def _of_another_species(names: Sequence[str], rule: str) -> str:
    return (
        f"the gene table is of a mouse or another species: {len(names)} of its genes "
        f"are written like {', '.join(names[:3])}, while human {rule}. The models know "
        "human genes; give a human table, or replace the names by those of the human "
        "orthologs first"
    )
