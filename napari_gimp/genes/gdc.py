"""GDC's STAR files, one per sample, joined to one table.

A download of GDC is a folder with a folder per file. The files' names are numbers
that say nothing; which sample each is of is in the sample sheet that GDC gives for
the same cart, which is looked for in the folder itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from napari_gimp.errors import GeneError
from napari_gimp.genes.formats import (
    STAR_COLUMNS,
    STAR_HEADER,
    Sheet,
    column_names,
    read_sheet,
)
from napari_gimp.genes.wording import counted, some

FILE, SAMPLE = "File Name", "Sample ID"
"""Columns of a sample sheet."""


def read_star_folder(folder: Path) -> Sheet:
    """Return one table of all STAR files in a folder and the folders in it.

    Raises
    ------
    GeneError
        If there is no STAR file, or they are of different genes.
    """
    found = sorted(p for p in folder.rglob("*") if p.name.endswith((".tsv", ".tsv.gz")))
    files = [path for path in found if set(column_names(path)) >= STAR_COLUMNS]
    if not files:
        raise GeneError(
            f"the folder {folder} holds no STAR file of GDC (*.tsv with the columns "
            f"{', '.join(sorted(STAR_COLUMNS))}); give such a folder, or one gene table"
        )
    return read_star_files(files, read_sample_sheet(folder))


def read_star_files(
    files: Sequence[Path], samples: Mapping[str, str] | None = None
) -> Sheet:
    """Return one table of STAR files, with genes in rows.

    Parameters
    ----------
    files
        One per sample.
    samples
        A file's name -> its sample's; a file that is not among them is called by
        its own name up to the first point.

    Raises
    ------
    GeneError
        If one cannot be read, is no STAR file, or they are of different genes.
    """
    import pandas as pd

    samples = samples or {}
    first, columns, names = _read_star(files[0]), [], []
    for path in files:
        star = first if path == files[0] else _read_star(path)
        _check_same(star, path, first, files[0])
        columns.append(star.frame.iloc[:, 2].to_numpy(np.float32))
        names.append(samples.get(path.name, star.header[2]))
    frame = pd.DataFrame(np.stack(columns, axis=1))
    for k, name in enumerate(STAR_HEADER):
        frame.insert(k, name, first.frame.iloc[:, k].to_numpy())
    unnamed = [n for n, p in zip(names, files, strict=True) if p.name not in samples]
    notes = (*first.notes, *_unnamed(unnamed))
    return Sheet([*STAR_HEADER, *names], frame, notes)


def read_sample_sheet(folder: Path) -> dict[str, str]:
    """Return each file's sample by the sample sheet in a folder; {} without one."""
    import pandas as pd

    for path in sorted(folder.glob("*.tsv")):
        if {FILE, SAMPLE} <= set(column_names(path)):
            rows = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
            return dict(zip(rows[FILE], rows[SAMPLE], strict=True))
    return {}


def _read_star(path: Path) -> Sheet:
    sheet = read_sheet(path)
    if sheet.header[:2] == list(STAR_HEADER):
        return sheet
    raise GeneError(
        f"{path} is no STAR file of GDC, its columns are {some(sheet.header)}; several "
        "files are joined only if each is one"
    )


def _check_same(star: Sheet, path: Path, first: Sheet, other: Path) -> None:
    if not np.array_equal(star.frame.iloc[:, 0], first.frame.iloc[:, 0]):
        raise GeneError(
            f"{path} has other genes than {other}; join files of one release of GDC "
            "only"
        )


def _unnamed(samples: Sequence[str]) -> tuple[str, ...]:
    """Say that samples have names that say nothing."""
    files = ("sample is called by its file", "samples are called by their files")
    note = (
        f"{counted(samples, *files)} ({some(samples)}); put GDC's sample sheet of the "
        f"download (*.tsv with the columns {FILE} and {SAMPLE}) into the folder to "
        "call them as it does"
    )
    return (note,) if samples else ()
