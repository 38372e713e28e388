"""Gene tables: files with one number per sample and gene."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_gimp.errors import GeneError
from napari_gimp.genes.formats import Sheet, read_sheet
from napari_gimp.genes.gdc import read_star_files, read_star_folder
from napari_gimp.genes.h5ad import read_h5ad
from napari_gimp.genes.layout import (
    Layout,
    clean_symbol,
    find_layout,
    is_known,
    may_be_gene,
)
from napari_gimp.genes.mapping import (
    MappingReport,
    map_names,
    sentences,
    with_values,
)
from napari_gimp.genes.scale import Scale, Values, detect_scale
from napari_gimp.genes.wording import some

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
    judged_from
        What that was judged from; "" if nobody judged.
    """

    sample: str
    genes: tuple[str, ...]
    values: Values
    scale: Scale
    judged_from: str = ""


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
    judged_from
        What was seen of the numbers; "" if nobody judged.
    reading
        What a user should know of the reading, apart from the names of genes.
    mapping
        What became of the genes' names.

    Raises
    ------
    GeneError
        If the shapes do not fit each other.
    """

    samples: tuple[str, ...]
    genes: tuple[str, ...]
    values: Values
    scale: Scale
    judged_from: str = ""
    reading: tuple[str, ...] = ()
    mapping: MappingReport = field(default_factory=lambda: MappingReport(0))

    def __post_init__(self) -> None:
        if self.values.shape != (len(self.samples), len(self.genes)):
            raise GeneError(
                f"{len(self.samples)} samples and {len(self.genes)} genes need values "
                f"of that shape, got {self.values.shape}"
            )

    @property
    def duplicates(self) -> tuple[str, ...]:
        """Genes the file holds more than once; their first occurrence is kept."""
        return self.mapping.duplicates

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know, as sentences; see `relevance.notes_for`."""
        return (*sentences(self.mapping), *self.reading)

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
        return Profile(sample, self.genes, found[0], self.scale, self.judged_from)

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
        summed = total.astype(np.float32)
        return Profile("pseudobulk", self.genes, summed, "counts", self.judged_from)


def read_table(given: Path | Sequence[Path]) -> GeneTable:
    """Return the gene table of a text (also .gz or .zip), parquet or h5ad file.

    Text is csv or tsv, also GCT, UCSC Xena's and GDC's STAR files; genes may be in
    columns or rows, beside other columns; the delimiter is a tab, comma or semicolon
    (then the decimal mark is a comma, unless the first row shows a point). Ensembl
    and Entrez numbers become symbols where they are known; what was changed is in
    the table's `mapping`. A folder, or several files, of GDC's STAR files become one
    table.

    Raises
    ------
    GeneError
        If the file cannot be read, holds no expression, or is of another species.
    """
    if isinstance(given, str | Path):
        return _read_one(Path(given))
    paths = [_there(path) for path in given]
    return _of_sheet(read_star_files(paths), paths[0])


def _read_one(path: Path) -> GeneTable:
    _there(path)
    if path.is_dir():
        return _of_sheet(read_star_folder(path), path)
    if path.suffix.lower() == ".h5ad":
        matrix = read_h5ad(path)
        return _table(matrix.samples, matrix.genes, matrix.values, matrix.notes)
    return _of_sheet(read_sheet(path), path)


def _there(path: Path) -> Path:
    if path.exists():
        return path
    raise GeneError(
        f"there is no file {path}: check the spelling and whether its drive is "
        "connected"
    )


def _of_sheet(sheet: Sheet, path: Path) -> GeneTable:
    header, frame = sheet.header, sheet.frame
    layout = find_layout(header, frame)
    values = _numbers(_of_columns(frame, layout.numbers), path)
    named = [header[k] for k in layout.numbers]
    rows = _row_names(frame, layout)
    notes = (*sheet.notes, *layout.notes)
    if layout.genes_in_rows:
        return _table([clean_symbol(name) for name in named], rows, values.T, notes)
    return _table(rows, named, values, notes)


def _table(
    samples: Sequence[str], genes: Sequence[str], values: Values, notes: Sequence[str]
) -> GeneTable:
    """Keep the first of each gene, and say what was left out."""
    cleaned = [clean_symbol(gene) for gene in genes]
    columns = [k for k, gene in enumerate(cleaned) if may_be_gene(gene)]
    naming = map_names([cleaned[k] for k in columns])
    first: dict[str, int] = {}
    for k, gene in zip(columns, naming.names, strict=True):
        first.setdefault(gene, k)
    repeated = tuple(g for g, count in Counter(naming.names).items() if count > 1)
    kept = _columns(values, list(first.values()))
    report = with_values(replace(naming.report, duplicates=repeated), first, kept)
    judged = detect_scale(_of_known(kept, tuple(first)))
    return GeneTable(
        samples=tuple(samples),
        genes=tuple(first),
        values=kept,
        scale=judged.scale,
        judged_from=judged.judged_from,
        reading=(*notes, *_unknown(samples, tuple(first))),
        mapping=report,
    )


def _unknown(samples: Sequence[str], genes: Sequence[str]) -> tuple[str, ...]:
    """Ask whether the table is turned, where no name tells."""
    if any(map(is_known, genes)):
        return ()
    return (
        "no name in the table is that of a known gene, so its columns were taken for "
        f"genes ({some(genes)}) and its rows for samples ({some(samples)}); if it is "
        "the other way round, turn the table",
    )


def _columns(values: Values, columns: list[int]) -> Values:
    """Return some columns, with NaN for what is infinite: a sum would be too."""
    every = columns == list(range(values.shape[1]))  # then without a copy
    kept = np.ascontiguousarray(values if every else values[:, columns])
    infinite = np.isinf(kept)
    return np.where(infinite, np.float32(np.nan), kept) if infinite.any() else kept


def _of_known(values: Values, genes: Sequence[str]) -> Values:
    """Return the columns of known genes: one column of days would look like TPM."""
    known = [k for k, gene in enumerate(genes) if is_known(gene)]
    return values[:, known] if known else values


def _absent(sample: str, samples: Sequence[str]) -> str:
    near = [s for s in samples if s and (s.startswith(sample) or sample.startswith(s))]
    near += get_close_matches(sample, samples, n=5, cutoff=0.6)
    near = list(dict.fromkeys(near))[:5]
    hint = f"near: {', '.join(near)}" if near else f"it holds {some(samples)}"
    return (
        f"the gene table has no sample {sample!r} among {len(samples)}; {hint}. "
        "Choose one of its samples"
    )


def _of_columns(frame: pd.DataFrame, columns: tuple[int, ...]) -> pd.DataFrame:
    """Return some columns; neighbours as a view, since 20,000 are slow to take."""
    first, last = columns[0], columns[-1] + 1
    if last - first == len(columns):
        return frame.iloc[:, first:last]
    return frame.iloc[:, list(columns)]


def _numbers(frame: pd.DataFrame, path: Path) -> Values:
    try:
        return np.ascontiguousarray(frame.to_numpy(dtype=np.float32, na_value=np.nan))
    except (TypeError, ValueError) as error:
        raise GeneError(f"{path} has cells that are no numbers: {error}") from error


def _row_names(frame: pd.DataFrame, layout: Layout) -> list[str]:
    if layout.names is None:
        return [str(k) for k in range(len(frame))]
    column = frame.iloc[:, layout.names]
    return [str(name).strip() for name in column.astype(object).fillna("")]
