"""Make the shipped table of gene identifiers from public ones.

    python -m napari_gimp.genes.identifier_table GENE_INFO HGNC

GENE_INFO is NCBI's `Homo_sapiens.gene_info.gz`, which gives today's names and
numbers; HGNC is a `hgnc_complete_set.txt`, which gives earlier symbols and aliases,
and may be older: a symbol it had then and that has changed since is an earlier one.
Genes are those that HGNC has named. See NOTICE.md for dates and licences.
"""

from __future__ import annotations

import argparse
import csv
import gzip
from collections.abc import Iterator
from pathlib import Path

from napari_gimp.genes.identifiers import COLUMNS, SHIPPED

Row = dict[str, str]


def build_rows(gene_info: Path, hgnc: Path) -> list[Row]:
    """Join both tables by HGNC number.

    Parameters
    ----------
    gene_info
        NCBI's table, gzipped.
    hgnc
        HGNC's complete set, plain text.

    Returns
    -------
    list of dict
        One per gene with the columns of `identifiers.COLUMNS`, sorted by symbol.
    """
    with hgnc.open(encoding="utf-8", newline="") as file:
        earlier = {row["hgnc_id"]: row for row in csv.DictReader(file, delimiter="\t")}
    rows = [_joined(now, earlier) for now in _named(gene_info)]
    return sorted(rows, key=lambda row: row["symbol"])


def write_rows(rows: list[Row], path: Path) -> None:
    """Write the table, gzipped without a date so that equal rows give equal bytes."""
    lines = ["\t".join(COLUMNS), *("\t".join(row[k] for k in COLUMNS) for row in rows)]
    text = "\n".join(lines) + "\n"
    path.write_bytes(gzip.compress(text.encode(), compresslevel=9, mtime=0))


def _named(gene_info: Path) -> Iterator[Row]:
    """Yield NCBI's rows of genes that HGNC has named, which come once."""
    with gzip.open(gene_info, "rt", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            row["hgnc"] = _reference(row, "HGNC:")
            if row["hgnc"] and row["Symbol_from_nomenclature_authority"] != "-":
                yield row


def _joined(now: Row, earlier: dict[str, Row]) -> Row:
    symbol, then = now["Symbol_from_nomenclature_authority"], earlier.get(now["hgnc"])
    previous = [then["symbol"], *then["prev_symbol"].split("|")] if then else []
    aliases = then["alias_symbol"].split("|") if then else []
    return {
        "symbol": symbol,
        "prev_symbol": _names(previous, symbol),
        "alias_symbol": _names(aliases, symbol),
        "entrez_id": now["GeneID"],
        "ensembl_gene_id": _reference(now, "Ensembl:"),
    }


def _names(names: list[str], symbol: str) -> str:
    """Join other names, each once, without the symbol itself."""
    return "|".join(n for n in dict.fromkeys(names) if n and n != symbol)


def _reference(row: Row, source: str) -> str:
    """Return the first cross reference to a database, without its name."""
    found = (x for x in row["dbXrefs"].split("|") if x.startswith(source))
    return next(found, "").removeprefix(source)


def main() -> None:
    """Write the shipped table anew."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("gene_info", type=Path)
    parser.add_argument("hgnc", type=Path)
    given = parser.parse_args()
    write_rows(build_rows(given.gene_info, given.hgnc), SHIPPED)


if __name__ == "__main__":
    main()
