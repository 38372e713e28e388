"""Named sets of genes, read from GMT files.

A GMT line is `name <tab> description <tab> gene <tab> gene ...`. The hallmark
collection is shipped (MSigDB, CC BY 4.0; see NOTICE.md in this folder).
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from napari_gimp.errors import GeneError

GeneSets = dict[str, tuple[str, ...]]
HALLMARKS = Path(__file__).with_name("hallmarks.gmt")


def hallmarks() -> GeneSets:
    """Return the 50 MSigDB hallmark sets, name -> gene symbols, as published."""
    return dict(_shipped())


def read_gmt(path: Path) -> GeneSets:
    """Return the sets of a GMT file, name -> gene symbols, in the file's order.

    A gene that is repeated within a set is kept once.

    Raises
    ------
    GeneError
        If the file is missing, holds no set, names a set twice, or a line has
        fewer than three columns.
    """
    sets: GeneSets = {}
    for number, line in enumerate(_lines(Path(path)), start=1):
        if line.strip():
            name, genes = _parse(line, f"{path}, line {number}")
            if name in sets:
                raise GeneError(f"{path} names the gene set {name} twice; rename one")
            sets[name] = genes
    if not sets:
        raise GeneError(f"{path} holds no gene set; a GMT file has one set per line")
    return sets


@cache
def _shipped() -> GeneSets:
    return read_gmt(HALLMARKS)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise GeneError(
            f"{path} cannot be read as a gene set file ({error}); "
            "give a GMT text file: name, description, genes, separated by tabs"
        ) from error


def _parse(line: str, where: str) -> tuple[str, tuple[str, ...]]:
    name, *rest = (cell.strip() for cell in line.split("\t"))
    genes = tuple(dict.fromkeys(gene for gene in rest[1:] if gene))
    if not name or not genes:
        raise GeneError(
            f"{where} has {1 + len(rest)} tab-separated columns and no gene; "
            "a GMT line is a name, a description, then at least one gene"
        )
    return name, genes
