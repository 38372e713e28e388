"""Gene lists of the two branches of Subspace, by name (spec subspace 2).

A list is a text file of `symbol,subspace` with subspace in {tumour,
microenvironment, both}; comment lines begin with #, the first names its version. A
panel's genes are looked up by name, so their order may differ between cohorts.

The list of the public code is unpublished. The one shipped here is a substitute made
from MSigDB's hallmarks: see the head of `gene_lists.csv`.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gimp_models.errors import ConfigError

__all__ = ["GeneLists", "default_gene_lists", "read_gene_lists"]

_SHIPPED = Path(__file__).with_name("gene_lists.csv")
_HEAD = ("symbol", "subspace")
_TUMOUR, _MICRO, _BOTH = _SUBSPACES = ("tumour", "microenvironment", "both")


@dataclass(frozen=True, slots=True)
class GeneLists:
    """Which genes go to which branch.

    Parameters
    ----------
    version
        Names the list, for the model's card.
    tumour, micro
        Symbols of each branch; those of both subspaces are in both.

    Raises
    ------
    ConfigError
        If a branch has no gene or names one twice.
    """

    version: str
    tumour: tuple[str, ...]
    micro: tuple[str, ...]

    def __post_init__(self) -> None:
        for name, genes in (("tumour", self.tumour), ("micro", self.micro)):
            if not genes or len(set(genes)) < len(genes):
                raise ConfigError(
                    f"The gene list {self.version!r} has {len(genes)} {name} genes, "
                    f"{len(set(genes))} of them distinct: each branch needs at least "
                    "one gene, each named once."
                )

    def indices(self, panel: Sequence[str]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Find both lists in a panel, by name.

        Parameters
        ----------
        panel
            (G) symbols in the order of the model's genes.

        Returns
        -------
        tuple
            `tumour_genes` and `micro_genes` of a `SubspaceConfig`, in the order of
            the lists; genes that the panel lacks are left out.

        Raises
        ------
        ConfigError
            If the panel has none of a branch's genes.
        """
        place = {symbol: index for index, symbol in enumerate(panel)}
        found = tuple(
            tuple(place[symbol] for symbol in genes if symbol in place)
            for genes in (self.tumour, self.micro)
        )
        for genes, rows in zip((self.tumour, self.micro), found, strict=True):
            if not rows:
                raise ConfigError(
                    f"None of the {len(genes)} genes {', '.join(genes[:3])}, ... of "
                    f"the list {self.version!r} is among the panel's {len(panel)}: "
                    "both must name genes alike, by symbol."
                )
        return found[0], found[1]


def default_gene_lists() -> GeneLists:
    """Return the list that is shipped, a substitute for the unpublished one."""
    return read_gene_lists(_SHIPPED)


def read_gene_lists(path: Path) -> GeneLists:
    """Read a file of `symbol,subspace`.

    Parameters
    ----------
    path
        Text file; the first comment line, or else the file's name, is its version.

    Raises
    ------
    ConfigError
        If the file cannot be read, or a line is none of a list.
    """
    lines = _lines(Path(path))
    told = [line.lstrip("# ").strip() for line in lines if line.startswith("#")]
    rows = list(csv.reader(line for line in lines if line and line[0] != "#"))
    if not rows or tuple(rows[0]) != _HEAD:
        raise ConfigError(
            f"{path} is no gene list: its first line must be {','.join(_HEAD)}."
        )
    for row in rows[1:]:
        _check_row(row, path)
    version = told[0] if told else Path(path).name
    return GeneLists(version, _of(_TUMOUR, rows[1:]), _of(_MICRO, rows[1:]))


def _of(subspace: str, rows: Iterable[Sequence[str]]) -> tuple[str, ...]:
    return tuple(symbol for symbol, where in rows if where in (subspace, _BOTH))


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"The gene list {path} cannot be read ({error}): give a text file of "
            f"{','.join(_HEAD)}."
        ) from error


def _check_row(row: Sequence[str], path: Path) -> None:
    if len(row) != 2 or not row[0] or row[1] not in _SUBSPACES:
        raise ConfigError(
            f"{path} has the line {','.join(row)!r}: it must be a symbol, a comma and "
            f"one of {', '.join(_SUBSPACES)}."
        )
