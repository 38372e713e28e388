"""Files that hold gene tables as rows and columns: text, GCT, GDC STAR, parquet.

UCSC Xena's matrices are plain text with genes in rows. All become one `Sheet`: names
of columns as written, and the rows below them.
"""

from __future__ import annotations

import csv
import gzip
import re
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import IO, TYPE_CHECKING

from napari_gimp.errors import GeneError
from napari_gimp.genes.layout import (
    ROW_NAMES,
    clean_symbol,
    is_known,
    is_number,
)
from napari_gimp.genes.wording import some

if TYPE_CHECKING:
    import pandas as pd

STAR_COUNTS = "unstranded"
"""Of the columns of GDC's STAR files, what GDC itself derives TPM and FPKM from."""
STAR_HEADER = ("gene_id", "gene_name")
STAR_COLUMNS = {"gene_id", "gene_name", STAR_COUNTS, "tpm_unstranded"}
GIVE = "give a csv, tsv, GCT, parquet or h5ad file"
REFUSED = {
    **dict.fromkeys(
        (".xlsx", ".xls", ".ods"),
        "is a spreadsheet, which turns gene names such as SEPT2 into dates; export "
        "the table as csv or tsv from the program that made it",
    ),
    **dict.fromkeys(
        (".pkl", ".pickle", ".pt", ".npy", ".npz"),
        f"is an archive that may run code when opened, or has no gene names; {GIVE}",
    ),
    **dict.fromkeys(
        (".rds", ".rda", ".rdata"),
        "is R's own format; write it with write.table(x, sep='\\t') in R",
    ),
}


@dataclass(frozen=True, slots=True)
class Sheet:
    """Rows and columns of a file.

    Parameters
    ----------
    header
        Names of the columns as written.
    frame
        The rows below.
    notes
        What a user should know about the reading.
    """

    header: list[str]
    frame: pd.DataFrame
    notes: tuple[str, ...] = ()


def read_sheet(path: Path) -> Sheet:
    """Return the rows and columns of a text or parquet file.

    Raises
    ------
    GeneError
        If the file is of another kind, cannot be read, or its rows do not fit its
        names of columns.
    """
    suffix = path.suffix.lower()
    if suffix in REFUSED:
        raise GeneError(f"{path} {REFUSED[suffix]}")
    sheet = _read(_parse_parquet if suffix == ".parquet" else _parse, path)
    header, frame = sheet.header, sheet.frame
    _check_header(header, path)
    if frame.shape[1] == len(header) + 1:  # as R writes it: no name above row names
        sheet = Sheet(["", *header], frame, sheet.notes)
    elif frame.shape[1] != len(header):
        raise GeneError(
            f"{path} has {len(header)} column names but {frame.shape[1]} columns; "
            "export the table again"
        )
    return _star(sheet, path) if set(header) >= STAR_COLUMNS else sheet


def column_names(path: Path) -> list[str]:
    """Return the names above a text file's columns; none if it cannot be read."""
    try:
        with _open(path) as file:
            return _header(_first_line(file)[0])[1]
    except (OSError, ValueError, zipfile.BadZipFile, EOFError):
        return []


def needed(library: str, path: Path) -> GeneError:
    """Return the error for a file that an absent library reads."""
    return GeneError(
        f"{path} needs the library {library}, which is not installed; run "
        f"`pip install {library}`, or export the table as tsv"
    )


def _read(parse: Callable[[Path], Sheet], path: Path) -> Sheet:
    try:
        return parse(path)
    except UnicodeDecodeError as error:
        raise GeneError(
            f"{path} is no text in UTF-8; save it as csv or tsv in UTF-8, or {GIVE}"
        ) from error
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
        raise GeneError(
            f"{path} cannot be read as a gene table ({error}); {GIVE} with a header "
            "line (text also .gz or .zip)"
        ) from error


def _check_header(header: Sequence[str], path: Path) -> None:
    """Refuse a first line that is a row, as HTSeq writes it: it would be lost."""
    first, *rest = header or [""]
    if rest and is_known(clean_symbol(first)) and all(map(is_number, rest)):
        raise GeneError(
            f"{path} has no names above its columns: its first line is {some(header)}; "
            "put a line with the names of samples (or of genes, if they are in "
            "columns) first"
        )


def _star(sheet: Sheet, path: Path) -> Sheet:
    """Keep the counts of a GDC STAR file; its other numbers derive from them."""
    counts = sheet.header.index(STAR_COUNTS)
    columns = [*map(sheet.header.index, STAR_HEADER), counts]
    sample = path.name.split(".")[0]
    note = f"a STAR file of GDC: its {STAR_COUNTS} counts are used, the rest is not"
    frame = sheet.frame.iloc[:, columns]
    return Sheet([*STAR_HEADER, sample], frame, (*sheet.notes, note))


def _parse_parquet(path: Path) -> Sheet:
    import pandas as pd

    try:
        frame = pd.read_parquet(path)
    except ImportError as error:
        raise needed("pyarrow", path) from error
    if not isinstance(frame.index, pd.RangeIndex):
        name = frame.index.name or ""
        frame.insert(0, name, frame.index, allow_duplicates=True)
    return Sheet([str(name).strip() for name in frame.columns], frame)


def _parse(path: Path) -> Sheet:
    """Read the first line by hand: pandas would rename columns that come twice.

    Columns that name rows are read as text, or 007 would become 7.
    """
    import pandas as pd

    with _open(path) as file:
        line, meta = _first_line(file)
        mark, header = _header(line)
        rows = file.tell()
        first = file.readline()
        if not first.strip():
            raise ValueError(_nothing(header))
        has_points = re.search(r";-?\d+\.\d", first)
        file.seek(rows)
        named = {k for k, name in enumerate(header) if name.lower() in ROW_NAMES}
        frame = pd.read_csv(
            file,
            sep=mark,
            header=None,
            low_memory=False,
            skiprows=meta.rows,
            decimal="," if mark == ";" and not has_points else ".",
            dtype=dict.fromkeys(named, str),
        )
    return _without_meta(Sheet(header, frame), meta)


def _nothing(header: list[str]) -> str:
    found = f"only names of columns: {some(header)}" if any(header) else "nothing"
    return f"it holds {found}"


@dataclass(frozen=True, slots=True)
class _Meta:
    """How many rows below the header and columns beside the names are no numbers."""

    rows: int = 0
    columns: int = 0


def _first_line(file: IO[str]) -> tuple[str, _Meta]:
    """Return the line with the names, below comments and what GCT says of itself."""
    line, meta = file.readline(), _Meta()
    if line.startswith(("#1.2", "#1.3")):
        line = file.readline()
        if not all(map(str.isdigit, line.split())):
            raise ValueError(f"its sizes are {line.strip()!r}, not rows and columns")
        sizes = [int(size) for size in line.split()]
        if len(sizes) == 4:
            meta = _Meta(rows=sizes[3], columns=sizes[2])
        line = file.readline()
    while line.startswith("#") and "\t" not in line:
        line = file.readline()
    return line.removeprefix("#"), meta


def _without_meta(sheet: Sheet, meta: _Meta) -> Sheet:
    """Leave out what GCT 1.3 says of genes, but for a column of symbols."""
    said = range(1, 1 + meta.columns)
    symbols = {"gene_symbol", "pr_gene_symbol", "symbol", "description"}
    left = [k for k in said if sheet.header[k].lower() not in symbols]
    kept = [k for k in range(len(sheet.header)) if k not in left]
    if len(kept) == len(sheet.header):
        return sheet
    names = [sheet.header[k] for k in kept]
    return Sheet(names, sheet.frame.iloc[:, kept], sheet.notes)


def _header(line: str) -> tuple[str, list[str]]:
    """Return the delimiter and the names of the columns."""
    mark = max("\t,;", key=line.count)
    if mark not in line and " " in line.strip():
        mark = " "  # as R writes tables unless told otherwise
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
    members = [n for n in members if not n.startswith("__MACOSX/")]
    if len(members) != 1:
        raise ValueError(f"the archive has {len(members)} files instead of one")
    return TextIOWrapper(archive.open(members[0]), encoding="utf-8-sig")
