"""Names of one gene: current symbol, earlier symbols, aliases, Ensembl, Entrez.

What is shipped, `identifiers.tsv.gz`, holds every human gene that HGNC had named in
2022 (see NOTICE.md). A newer set of HGNC's, which anyone may use (CC0), is read as it
is downloaded; the environment variable `NAPARI_GIMP_HGNC` names its file.
"""

from __future__ import annotations

import csv
import gzip
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO

from napari_gimp.errors import GeneError
from napari_gimp.genes.sets import hallmarks

SHIPPED = Path(__file__).with_name("identifiers.tsv.gz")
VARIABLE = "NAPARI_GIMP_HGNC"
COMPLETE_FROM = 15_000
"""A table of fewer symbols is a part: what it lacks may still be a gene."""
COLUMNS = ("symbol", "prev_symbol", "alias_symbol", "entrez_id", "ensembl_gene_id")
Names = dict[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Identifiers:
    """What genes are called.

    Parameters
    ----------
    symbols
        Current symbols.
    previous, aliases
        Another name -> the current symbols it stood for.
    entrez, ensembl
        Number (Ensembl without version) -> current symbol.
    source
        The file's name, for reports.
    """

    symbols: frozenset[str]
    previous: Names
    aliases: Names
    entrez: dict[str, str]
    ensembl: dict[str, str]
    source: str

    @property
    def complete(self) -> bool:
        """Whether a symbol that is absent is certainly no current one."""
        return len(self.symbols) >= COMPLETE_FROM

    def candidates(self, name: str) -> tuple[str, ...]:
        """Return the current symbols a name may stand for, sorted; () if unknown.

        A current symbol stands for itself, whatever else it once was. Previous
        symbols and aliases count alike, so SEPT2 is SEPTIN2 or SEPTIN6, MLL2 is KMT2B
        or KMT2D: a wrong gene is worse than one that is told to be missing.
        """
        if name in self.symbols:
            return (name,)
        if name in self.ensembl:
            return (self.ensembl[name],)
        both = {*self.previous.get(name, ()), *self.aliases.get(name, ())}
        return tuple(sorted(both))

    def current(self, name: str) -> str:
        """Return the one current symbol of a name, or the name itself."""
        found = self.candidates(name)
        return found[0] if len(found) == 1 else name


def identifiers() -> Identifiers:
    """Return the identifiers in use: HGNC's set if it was given, else the shipped.

    Raises
    ------
    GeneError
        If the file that `NAPARI_GIMP_HGNC` names cannot be read.
    """
    given = os.environ.get(VARIABLE)
    return _read_once(Path(given) if given else SHIPPED)


def read_identifiers(path: Path) -> Identifiers:
    """Return the identifiers of a table with HGNC's columns, separated by tabs.

    Several names in one cell are separated by "|". Columns other than `symbol` may
    be absent.

    Raises
    ------
    GeneError
        If the file cannot be read or has no column `symbol`.
    """
    path = Path(path)
    rows = _rows(path)
    return Identifiers(
        symbols=frozenset(row["symbol"] for row in rows),
        previous=_inverted(rows, "prev_symbol"),
        aliases=_inverted(rows, "alias_symbol"),
        entrez=_numbers(rows, "entrez_id"),
        ensembl=_numbers(rows, "ensembl_gene_id"),
        source=path.name,
    )


@cache
def known_symbols() -> frozenset[str]:
    """Return the shipped symbols that are certainly genes, earlier ones too."""
    sets = {gene for genes in hallmarks().values() for gene in genes}
    return frozenset(sets | _read_once(SHIPPED).symbols)


@cache
def _read_once(path: Path) -> Identifiers:
    return read_identifiers(path)


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with _opened(path) as file:
            table = csv.DictReader(file, delimiter="\t")
            rows = [{k: row.get(k) or "" for k in COLUMNS} for row in table]
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise GeneError(
            f"{path} cannot be read as a table of gene identifiers ({error}); give "
            f"HGNC's complete set as text, or unset {VARIABLE}"
        ) from error
    rows = [row for row in rows if row["symbol"]]
    if not rows:
        raise GeneError(
            f"{path} has no column 'symbol' with gene symbols; give HGNC's complete "
            f"set as text (tab-separated, columns {', '.join(COLUMNS)}), or unset "
            f"{VARIABLE}"
        )
    return rows


def _opened(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _inverted(rows: Iterable[dict[str, str]], column: str) -> Names:
    """Return each other name with the symbols it stands for."""
    found: dict[str, list[str]] = {}
    for row in rows:
        for name in filter(None, row[column].split("|")):
            found.setdefault(name.strip(), []).append(row["symbol"])
    return {name: tuple(symbols) for name, symbols in found.items()}


def _numbers(rows: Iterable[dict[str, str]], column: str) -> dict[str, str]:
    return {row[column]: row["symbol"] for row in rows if row[column]}
