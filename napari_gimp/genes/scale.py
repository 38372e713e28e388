"""What the numbers of a gene table mean, and how to bring them to log2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from napari_gimp.errors import GeneError

Scale = Literal["counts", "linear", "log2", "zscore"]
SCALES: tuple[Scale, ...] = get_args(Scale)
Values = NDArray[np.float32]

LARGEST_LOG2 = 30.0
"""No log2 of counts, CPM or TPM reaches it: 2^30 is a thousand millions."""
PER_SAMPLE = 2e6
"""TPM and CPM sum to 1e6 per sample and FPKM to less, estimated counts to 1e7."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What a table holds, and why that is thought.

    Parameters
    ----------
    scale
        What the numbers mean.
    judged_from
        What was seen of them, to be read after "judged from".
    """

    scale: Scale
    judged_from: str


def detect_scale(values: Values) -> Judged:
    """Return what a table (S, G) holds, judged by its numbers alone.

    Whole numbers from 0 on are counts; other numbers from 0 on are linear (TPM,
    FPKM, CPM) if any exceeds `LARGEST_LOG2`, or counts with decimals (RSEM's) if
    samples sum to more than `PER_SAMPLE`, else log2; with negative numbers, genes
    centred on 0 with unit spread are z-scores, else log2 (of a ratio, or with a
    small offset).

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
    low, high = float(known.min()), float(known.max())
    seen = f"numbers from {_shown(low)} to {_shown(high)}"
    if low < 0:
        return _of_signed(values, seen)
    if np.array_equal(known, np.rint(known)):
        return Judged("counts", f"whole {seen}{_doubt(high)}")
    if high > LARGEST_LOG2:
        return _of_linear(values, seen)
    return Judged("log2", f"{seen}, none above {LARGEST_LOG2:g}")


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


def _shown(number: float) -> str:
    return f"{number:,.0f}" if number.is_integer() else f"{number:,.2f}"


def _doubt(high: float) -> str:
    alike = "; logarithms rounded to whole numbers would look alike"
    return alike if high <= LARGEST_LOG2 else ""


def _of_linear(values: Values, seen: str) -> Judged:
    """Tell estimated counts, whose sum is a sequencing depth, from TPM and FPKM."""
    total = float(np.median(np.nansum(values, axis=1, dtype=np.float64)))
    if total <= PER_SAMPLE:
        text = f"{seen}, where logarithms stay below {LARGEST_LOG2:g}"
        return Judged("linear", text)
    text = f"{seen} that sum to {total / 1e6:,.1f} million per sample, where TPM sum to"
    return Judged("counts", f"{text} one million")


def _of_signed(values: Values, seen: str) -> Judged:
    """Judge by genes where there are samples enough, else by the one profile."""
    axis = 0 if len(values) >= 8 else None
    enough = values[:, np.isfinite(values).any(axis=0)]
    mean = float(np.median(np.nanmean(enough, axis=axis)))
    sd = float(np.median(np.nanstd(enough, axis=axis)))
    found = f"mean {mean:.2f}, standard deviation {sd:.2f}"
    if abs(mean) < 0.5 and 0.3 < sd < 2:
        return Judged("zscore", f"{seen}, centred on 0 with unit spread ({found})")
    return Judged("log2", f"{seen}, not centred on 0 with unit spread ({found})")


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
