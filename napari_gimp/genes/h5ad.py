"""Gene tables in AnnData files: samples, spots or cells in rows, genes in columns."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_gimp.errors import GeneError
from napari_gimp.genes.formats import needed
from napari_gimp.genes.layout import count_known
from napari_gimp.genes.scale import Values

if TYPE_CHECKING:
    import pandas as pd

LARGEST_BYTES = 4 * 2**30
"""A table is held as dense float32; one of single cells may not fit."""


@dataclass(frozen=True, slots=True)
class Matrix:
    """A table whose rows are samples.

    Parameters
    ----------
    samples, genes
        S and G names as written.
    values
        (S, G) float32.
    notes
        What a user should know about the reading.
    """

    samples: tuple[str, ...]
    genes: tuple[str, ...]
    values: Values
    notes: tuple[str, ...]


def read_h5ad(path: Path) -> Matrix:
    """Return X of an AnnData file; genes are called by the column with most symbols.

    Raises
    ------
    GeneError
        If the file cannot be read, has no X, or X as a dense table exceeds
        `LARGEST_BYTES`.
    """
    try:
        import h5py
        from anndata.io import read_elem
    except ImportError as error:
        raise needed("anndata", path) from error
    try:
        with h5py.File(path) as file:
            obs, var = read_elem(file["obs"]), read_elem(file["var"])
            layers = ", ".join(file.get("layers", ()))
            _check(path, len(obs), len(var), has_x="X" in file)
            values = _dense(read_elem(file["X"]))
    except (OSError, ValueError, KeyError) as error:
        raise GeneError(
            f"{path} cannot be read as an h5ad file ({error}); write it again with "
            "AnnData.write_h5ad, or export the table as tsv"
        ) from error
    turned = _known(obs) > _known(var)
    if turned:
        obs, var, values = var, obs, np.ascontiguousarray(values.T)
    genes, called = _gene_names(var)
    notes = _notes(called, layers, turned)
    return Matrix(tuple(map(str, obs.index)), genes, values, notes)


def _check(path: Path, samples: int, genes: int, *, has_x: bool) -> None:
    if not has_x:
        raise GeneError(
            f"{path} has no X; put the expression into X and write the file again"
        )
    size = 4 * samples * genes
    if size > LARGEST_BYTES:
        raise GeneError(
            f"{path} holds {samples:,} cells x {genes:,} genes, "
            f"{size / 2**30:.1f} GiB as a table; at most {LARGEST_BYTES / 2**30:.1f} "
            "GiB are read. Sum the cells of each sample first"
        )


def _dense(found: Any) -> Values:
    dense = found.toarray() if hasattr(found, "toarray") else found
    return np.ascontiguousarray(dense, dtype=np.float32)


def _gene_names(var: pd.DataFrame) -> tuple[tuple[str, ...], str]:
    """Return the genes' names and the column of `var` they come from, "" the index."""
    named = {"": tuple(map(str, var.index))}
    for column in var:
        if var[column].dtype.kind not in "biufc":
            named[str(column)] = tuple(map(str, var[column]))
    best = max(named, key=lambda column: count_known(named[column]))
    return named[best], best


def _known(named: pd.DataFrame) -> int:
    return sum(count_known(_gene_names(named)[0]))


def _notes(called: str, layers: str, turned: bool) -> tuple[str, ...]:
    notes = {
        "genes were read from the rows (obs) of the h5ad file and samples from its "
        "columns (var)": turned,
        f"genes are called by `{called}` of the h5ad file": called,
        f"X of the h5ad file is used, its layers ({layers}) are not": layers,
    }
    return tuple(text for text, applies in notes.items() if applies)
