"""Gene tables: text files with one number per sample and gene."""

from __future__ import annotations

import csv
import gzip
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from io import TextIOWrapper
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from napari_gimp.errors import GeneError
from napari_gimp.genes.layout import (
    DATES,
    SAMPLE_NAMES,
    Layout,
    clean_symbol,
    find_layout,
    is_known,
    may_be_gene,
)
from napari_gimp.genes.scale import Scale, Values, detect_scale

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class Profile:
    """The expression of one sample.

    Parameters
    ----------
    sample
        Its name.
    genes
        G gene symbols, each once.
    values
        (G,) float32; NaN where not measured.
    scale
        What the numbers mean.
    """

    sample: str
    genes: tuple[str, ...]
    values: Values
    scale: Scale


@dataclass(frozen=True, slots=True)
class GeneTable:
    """Expression of some samples.

    Parameters
    ----------
    samples
        S names; one may come several times.
    genes
        G gene symbols, each once.
    values
        (S, G) float32; NaN where not measured.
    scale
        What the numbers mean, judged by the numbers.
    duplicates
        Genes the file holds more than once; their first occurrence is kept.
    notes
        What a user should know about the reading.

    Raises
    ------
    GeneError
        If the shapes do not fit each other.
    """

    samples: tuple[str, ...]
    genes: tuple[str, ...]
    values: Values
    scale: Scale
    duplicates: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.values.shape != (len(self.samples), len(self.genes)):
            raise GeneError(
                f"{len(self.samples)} samples and {len(self.genes)} genes need values "
                f"of that shape, got {self.values.shape}"
            )

    def profile(self, sample: str) -> Profile:
        """Return the profile of a sample; blanks around its name do not count.

        Raises
        ------
        GeneError
            If the sample is absent (near matches are named), or comes several
            times with different values.
        """
        sample = sample.strip()
        rows = [k for k, name in enumerate(self.samples) if name == sample]
        if not rows:
            raise GeneError(_absent(sample, self.samples))
        found = self.values[rows]
        if not np.array_equal(found, found[:1].repeat(len(rows), 0), equal_nan=True):
            raise GeneError(
                f"the sample {sample} has {len(rows)} rows with different values; keep "
                "one, or use the pseudobulk of a table of spots or cells"
            )
        return Profile(sample, self.genes, found[0], self.scale)

    def pseudobulk(self) -> Profile:
        """Return the sum of all rows: spots or cells of one patient.

        Raises
        ------
        GeneError
            If the table does not hold counts.
        """
        if self.scale != "counts":
            raise GeneError(
                f"a pseudobulk is a sum of counts, but the table holds {self.scale} "
                "values; give raw counts per spot or cell, or name a sample"
            )
        total = np.asarray(np.nansum(self.values, axis=0, dtype=np.float64))
        return Profile("pseudobulk", self.genes, total.astype(np.float32), "counts")


def read_table(path: Path) -> GeneTable:
    """Return the gene table of a csv or tsv file, also .gz or .zip.

    Genes may be in columns or rows, beside other columns; the delimiter is a
    tab, comma or semicolon (then the decimal mark is a comma, unless the first row
    shows a point).

    Raises
    ------
    GeneError
        If the file cannot be read or holds no expression.
    """
    header, frame = _read_text(Path(path))
    layout = find_layout(header, frame)
    columns = list(layout.numbers)
    values = _numbers(frame.iloc[:, columns], path)
    named = [clean_symbol(header[k]) for k in columns]
    rows = _row_names(frame, layout)
    if layout.genes_in_rows:
        return _table(named, [clean_symbol(r) for r in rows], values.T, layout)
    return _table(rows, named, values, layout)


def _table(
    samples: Sequence[str], genes: Sequence[str], values: Values, layout: Layout
) -> GeneTable:
    """Keep the first of each gene, and say what was left out."""
    first: dict[str, int] = {}
    for k, gene in enumerate(genes):
        if may_be_gene(gene):
            first.setdefault(gene, k)
    repeated = tuple(
        dict.fromkeys(g for k, g in enumerate(genes) if first.get(g, k) != k)
    )
    kept = values[:, list(first.values())]
    notes = _notes(layout, tuple(first), repeated)
    scale = detect_scale(_of_known(kept, tuple(first)))
    return GeneTable(tuple(samples), tuple(first), kept, scale, repeated, notes)


def _of_known(values: Values, genes: Sequence[str]) -> Values:
    """Return the columns of known genes: one column of days would look like TPM."""
    known = [k for k, gene in enumerate(genes) if is_known(gene)]
    return values[:, known] if known else values


def _notes(
    layout: Layout, genes: Sequence[str], repeated: Sequence[str]
) -> tuple[str, ...]:
    dates = [gene for gene in genes if DATES.match(gene)]
    notes = {
        f"{len(repeated)} genes come more than once ({_some(repeated)}); the first of "
        "each is used, nothing is averaged": repeated,
        f"columns not used as genes: {_some(layout.ignored)}": layout.ignored,
        f"{len(dates)} gene names were turned into dates by a spreadsheet "
        f"({_some(dates)}); they match no gene": dates,
    }
    return tuple(text for text, reason in notes.items() if reason)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more


def _absent(sample: str, samples: Sequence[str]) -> str:
    near = [s for s in samples if s and (s.startswith(sample) or sample.startswith(s))]
    near += get_close_matches(sample, samples, n=5, cutoff=0.6)
    near = list(dict.fromkeys(near))[:5]
    hint = f"near: {', '.join(near)}" if near else f"it holds {_some(samples)}"
    return (
        f"the gene table has no sample {sample!r} among {len(samples)}; {hint}. "
        "Choose one of its samples"
    )


def _read_text(path: Path) -> tuple[list[str], pd.DataFrame]:
    """Return the names of the columns as written, and the rows below them."""
    try:
        header, frame = _parse(path)
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
        raise GeneError(
            f"{path} cannot be read as a gene table ({error}); give a csv or tsv file "
            "(also .gz or .zip) with a header line"
        ) from error
    if frame.shape[1] == len(header) + 1:  # as R writes it: no name above row names
        header = ["", *header]
    if frame.shape[1] != len(header):
        raise GeneError(
            f"{path} has {len(header)} column names but {frame.shape[1]} columns; "
            "export the table again"
        )
    return header, frame


def _parse(path: Path) -> tuple[list[str], pd.DataFrame]:
    """Read the first line by hand: pandas would rename columns that come twice.

    Columns that name samples are read as text, or 007 would become 7.
    """
    import pandas as pd

    with _open(path) as file:
        mark, header = _header(file.readline())
        rows = file.tell()
        has_points = re.search(r";-?\d+\.\d", file.readline())
        file.seek(rows)
        named = {k for k, name in enumerate(header) if name.lower() in SAMPLE_NAMES}
        frame = pd.read_csv(
            file,
            sep=mark,
            header=None,
            low_memory=False,
            decimal="," if mark == ";" and not has_points else ".",
            dtype=dict.fromkeys(named, str),
        )
    return header, frame


def _header(line: str) -> tuple[str, list[str]]:
    """Return the delimiter and the names of the columns."""
    mark = max("\t,;", key=line.count)
    cells = next(csv.reader([line.rstrip("\r\n")], delimiter=mark), [])
    return mark, [cell.strip() for cell in cells]


def _open(path: Path) -> IO[str]:
    """Open a text file, plain, .gz, or the only member of a .zip."""
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig")
    if path.suffix != ".zip":
        return path.open(encoding="utf-8-sig")
    archive = zipfile.ZipFile(path)
    members = [n for n in archive.namelist() if not n.endswith("/")]
    if len(members) != 1:
        raise ValueError(f"the archive has {len(members)} files instead of one")
    return TextIOWrapper(archive.open(members[0]), encoding="utf-8-sig")


def _numbers(frame: pd.DataFrame, path: Path) -> Values:
    try:
        return np.ascontiguousarray(frame.to_numpy(dtype=np.float32, na_value=np.nan))
    except (TypeError, ValueError) as error:
        raise GeneError(f"{path} has cells that are no numbers: {error}") from error


def _row_names(frame: pd.DataFrame, layout: Layout) -> list[str]:
    if layout.names is None:
        return [str(k) for k in range(len(frame))]
    return [str(name).strip() for name in frame.iloc[:, layout.names]]
