"""What the numbers of a gene table mean, and how to bring them to log2."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from napari_gimp.errors import GeneError

Scale = Literal["counts", "linear", "log2", "zscore"]
SCALES: tuple[Scale, ...] = get_args(Scale)
Values = NDArray[np.float32]

LARGEST_LOG2 = 30.0
"""No log2 of counts, CPM or TPM reaches it: 2^30 is a thousand millions."""


def detect_scale(values: Values) -> Scale:
    """Return what a table (S, G) holds, judged by its numbers alone.

    Whole numbers from 0 on are counts; other numbers from 0 on are linear (TPM,
    FPKM, CPM) if any exceeds `LARGEST_LOG2`, else log2; with negative numbers,
    genes centred on 0 with unit spread are z-scores, else log2 (of a ratio, or
    with a small offset).

    Raises
    ------
    GeneError
        If no number is there.
    """
    known = values[np.isfinite(values)]
    if not known.size:
        raise GeneError(
            f"the gene table of {values.shape[0]} samples x {values.shape[1]} genes "
            "holds no number; export it again, with one number per cell"
        )
    if known.min() < 0:
        return "zscore" if _is_standardised(values) else "log2"
    if np.array_equal(known, np.rint(known)):
        return "counts"
    return "linear" if known.max() > LARGEST_LOG2 else "log2"


def to_log2(values: Values, scale: Scale) -> Values:
    """Return a table (S, G) on the log2 scale.

    Counts become log2(CPM + 1), the library size being the sum over the sample's
    genes; linear becomes log2(x + 1); log2 stays.

    Raises
    ------
    GeneError
        If the table holds z-scores, which cannot be undone, or an empty sample.
    """
    if scale == "zscore":
        raise GeneError(
            "z-scores cannot be turned back into expression: the cohort's means are "
            "not in them; give counts, TPM/FPKM or log2 values"
        )
    if scale == "log2":
        return values
    linear = _per_million(values) if scale == "counts" else values
    out: Values = np.log2(np.maximum(linear, 0) + 1).astype(np.float32)
    return out


def _is_standardised(values: Values) -> bool:
    """Judge by genes where there are samples enough, else by the one profile."""
    axis = 0 if len(values) >= 8 else None
    enough = values[:, np.isfinite(values).any(axis=0)]
    mean, sd = np.nanmean(enough, axis=axis), np.nanstd(enough, axis=axis)
    return bool(abs(np.median(mean)) < 0.5 and 0.3 < np.median(sd) < 2)


def _per_million(counts: Values) -> NDArray[np.float64]:
    library = np.asarray(np.nansum(counts, axis=1, dtype=np.float64))
    if not (library > 0).all():
        empty = int((library <= 0).sum())
        raise GeneError(
            f"{empty} of {len(library)} samples have no counts at all; remove them "
            "from the gene table"
        )
    out: NDArray[np.float64] = counts / library[:, None] * 1e6
    return out
