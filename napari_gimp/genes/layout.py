"""Which cells of a table are genes, which are samples, which are neither.

Tables come with genes in columns or in rows, beside clinical columns, with
several kinds of data told apart by suffix (`TP53_rnaseq`, `TP53_mut`). What a name
is, is judged by known gene symbols and Ensembl numbers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_gimp.errors import GeneError
from napari_gimp.genes.identifiers import known_symbols
from napari_gimp.genes.wording import counted, some

if TYPE_CHECKING:
    import pandas as pd

EXPRESSION_SUFFIX = "_rnaseq"
OTHER_SUFFIXES = ("_cnv", "_mut", "_meth")
ENSEMBL = re.compile(r"(ENS[A-Z]{0,4}G\d{11})(\.\d+)?(_PAR_Y)?$")
"""Of any species; GENCODE marks what X and Y share on Y, where it counts no reads."""
COMMA = re.compile(r"-?\d+,\d+$")
FEW_WORDS = 2
"""A column of numbers and more words than this is a description, as chromosomes are."""
SAMPLE_NAMES = (
    *("sample", "sample_id", "sampleid", "patient", "patient_id", "case_id"),
    *("case", "id", "barcode", "spot", "cell", "submitter_id"),
)
ENTREZ_NAMES = ("entrez_gene_id", "entrez_id", "entrez", "entrezgene", "geneid")
ROW_NAMES = frozenset((*SAMPLE_NAMES, *ENTREZ_NAMES, "gene_id", "gene"))
"""Columns of names, lower case: read as text even where they are numbers."""
DESCRIBE_GENES = frozenset(
    (
        *(*ENTREZ_NAMES, "gene_id", "gene", "length", "gene_length", "gene_type"),
        *("gene_name", "gene_symbol", "hugo_symbol", "symbol", "description", "name"),
        *("chr", "chrom", "chromosome", "seqname", "seqnames", "start", "end"),
        *("strand", "cytoband", "gc_content", "biotype", "index", "unnamed: 0"),
    )
)
"""Columns beside genes in rows, lower case; any other name may be a sample's."""
NOT_GENES = frozenset(
    (
        *SAMPLE_NAMES,
        *("", "slide", "slide_id", "label", "site", "age", "sex", "gender", "grade"),
        *("stage", "censorship", "survival_months", "is_female", "train", "status"),
        *("oncotree_code", "time", "event", "os", "os_time", "x", "y", "batch"),
        *("bmi", "height", "weight", *DESCRIBE_GENES),
        *("days_to_birth", "days_to_death", "days_to_last_follow_up", "os_months"),
        *("total_counts", "n_counts", "n_genes", "n_unmapped", "n_multimapping"),
        *("n_nofeature", "n_ambiguous", "__no_feature", "__ambiguous"),
        *("__too_low_aqual", "__not_aligned", "__alignment_not_unique"),
    )
)
"""Lower case. The last are rows that STAR and HTSeq write below or above the genes:
taken for genes, they would be half of a sample's counts."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where genes and samples are.

    Parameters
    ----------
    genes_in_rows
        Whether each row is a gene.
    names
        Column that names the rows: genes if they are in rows, else samples; None
        where nothing names them.
    numbers
        Columns that hold expression.
    ignored
        Names of columns left out, apart from the one that names the rows.
    known
        How many known genes are in the header, and how many name rows.
    """

    genes_in_rows: bool
    names: int | None
    numbers: tuple[int, ...]
    ignored: tuple[str, ...]
    known: tuple[int, int]

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know of it: a table turned, in doubt, cut."""
        in_header, in_rows = (f"{count:,}" if count else "none" for count in self.known)
        turned = (
            "genes were read from the rows of the table and samples from its columns: "
            f"{in_rows} of the rows' names and {in_header} of the columns' are genes'"
        )
        doubtful = (
            "genes were read from the columns of the table and samples from its rows: "
            f"{in_header} of the columns' names are genes', but {in_rows} of the rows' "
            "too"
        )
        left = f"columns not used as genes: {some(self.ignored)}"
        doubt = 2 * min(self.known) >= max(self.known) > 0
        return tuple(
            note
            for note, applies in (
                (turned, self.genes_in_rows),
                (doubtful, doubt and not self.genes_in_rows),
                (left, self.ignored),
            )
            if applies
        )


def find_layout(header: Sequence[str], frame: pd.DataFrame) -> Layout:
    """Return the layout of a table whose columns are called `header`.

    Raises
    ------
    GeneError
        If no column holds expression.
    """
    text = _text_columns(frame)
    found = {k: count_known(map(str, frame.iloc[:, k])) for k in text}
    names = max(found, key=lambda k: found[k], default=None)
    known = (sum(count_known(header)), sum(found[names]) if names is not None else 0)
    in_rows = known[1] > known[0]
    if not any(known):
        names = _entrez_column(header, frame)
        in_rows = names is not None
        known = (0, len(frame) if in_rows else 0)
    if not in_rows:
        names = _sample_column(header, text)
    cells = {k: map(str, frame.iloc[:, k]) for k in text if k != names}
    text = [k for k in cells if _is_text(header[k], cells[k], in_rows=in_rows)]
    numbers = _expression_columns(header, {*text, names}, in_rows=in_rows)
    if not numbers:
        named = some([name or "(unnamed)" for name in header])
        raise GeneError(
            f"no column of the table holds expression; its columns are {named}; give "
            "one column (or row) of numbers per gene"
        )
    left = set(range(len(header))) - {names, *numbers}
    ignored = tuple(header[k] for k in sorted(left) if header[k])
    return Layout(in_rows, names, numbers, ignored, known)


def count_known(names: Iterable[str]) -> tuple[int, int]:
    """Return how many different gene symbols and Ensembl numbers are among names.

    A number, not a fraction: the one sample of a table may be called C2 or MET, and
    would be a gene in all of its one row.
    """
    different = {clean_symbol(name).split("|")[0] for name in names}
    symbols = known_symbols()
    known = sum(name in symbols or name.upper() in symbols for name in different)
    return known, sum(map(_is_ensembl, different))


def is_known(name: str) -> bool:
    """Return whether a cleaned name is certainly a gene's."""
    return name in known_symbols() or _is_ensembl(name)


def is_number(cell: str) -> bool:
    """Return whether a cell holds a number."""
    try:
        float(cell)
    except ValueError:
        return False
    return True


def clean_symbol(name: str) -> str:
    """Return a gene's name without blanks, kind of data and Ensembl version."""
    name = name.strip().removesuffix(EXPRESSION_SUFFIX)
    number = ENSEMBL.match(name)
    return number[1] if number else name


def may_be_gene(name: str) -> bool:
    """Return whether a name is none of those that other columns or rows have."""
    lowered = name.strip().lower()
    return lowered not in NOT_GENES and not lowered.endswith(OTHER_SUFFIXES)


def _is_ensembl(name: str) -> bool:
    return bool(ENSEMBL.match(name))


def _text_columns(frame: pd.DataFrame) -> list[int]:
    """Return the columns that are neither numbers nor blank."""
    from pandas.api.types import is_numeric_dtype

    dtypes = frame.dtypes.to_list()  # a column of a wide table is slow to take
    text = (k for k, dtype in enumerate(dtypes) if not is_numeric_dtype(dtype))
    return [k for k in text if not frame.iloc[:, k].isna().all()]


def _is_text(header: str, cells: Iterable[str], *, in_rows: bool) -> bool:
    """Return whether a column that was not read as numbers holds none.

    Raises
    ------
    GeneError
        If it is a gene's or sample's, with a few words among its numbers: left out,
        it would be lost as a whole.
    """
    described = header.lower() in DESCRIBE_GENES
    if described if in_rows else not is_known(clean_symbol(header)):
        return True
    values = [cell for cell in map(str.strip, cells) if cell != "nan"]
    if wrong := next(filter(COMMA.match, values), None):
        raise GeneError(
            f"the gene table has numbers with a comma, such as {wrong} in {header}; "
            "these may be decimals or thousands: export it with decimal points and "
            "nothing between thousands"
        )
    words = [cell for cell in values if not is_number(cell)]
    if words and 2 * len(words) < len(values) and len(set(words)) <= FEW_WORDS:
        raise GeneError(
            f"{counted(words, 'cell', 'cells')} of {header} in the gene table "
            f"{'is' if len(words) == 1 else 'are'} no number "
            f"({some(sorted(set(words)))}); leave a cell without a value empty"
        )
    return bool(words)


def _entrez_column(header: Sequence[str], frame: pd.DataFrame) -> int | None:
    """Return a column called Entrez of whole numbers, which symbols would precede."""
    for k, name in enumerate(header):
        if name.lower() in ENTREZ_NAMES:
            cells = [str(cell).strip() for cell in frame.iloc[:, k]]
            if all(map(str.isdigit, cells)):
                return k
    return None


def _sample_column(header: Sequence[str], text: Sequence[int]) -> int | None:
    """Return the column that names samples: by its name, else the first of text."""
    lowered = [name.strip().lower() for name in header]
    for known in ("sample", "sample_id", *SAMPLE_NAMES):
        if known in lowered:
            return lowered.index(known)
    if text:
        return text[0]
    return 0 if lowered[0] == "" else None


def _expression_columns(
    header: Sequence[str], taken: set[int | None], *, in_rows: bool
) -> tuple[int, ...]:
    left = [k for k in range(len(header)) if k not in taken]
    if in_rows:
        return tuple(k for k in left if header[k].lower() not in DESCRIBE_GENES)
    marked = [k for k in left if header[k].endswith(EXPRESSION_SUFFIX)]
    return tuple(marked or [k for k in left if may_be_gene(header[k])])
