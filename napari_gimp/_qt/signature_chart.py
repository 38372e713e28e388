"""Signature scores of one patient as bars, made in the background. No Qt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_gimp._qt.dark import darken
from napari_gimp._qt.wording import sentence
from napari_gimp.errors import GeneError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from napari_gimp.genes.panel import Panel
    from napari_gimp.genes.signatures import Method, Signatures
    from napari_gimp.genes.table import Profile

WIDTH_IN, ROW_IN, EDGES_IN = 3.5, 0.24, 0.75
BAR = "#7a8db0"
PREFIX = "HALLMARK_"
LONGEST = 26
"""Letters of a set's name for which there is room."""
MEANS: dict[Method, str] = {
    "mean z": "How many standard deviations the set's genes lie above the model's "
    "training samples, on average.",
    "ssGSEA": "Where the set's genes rank among all genes of the sample: from -0.5, "
    "the lowest, to 0.5, the highest; 0.06 if they are spread evenly.",
}
NO_PANEL = (
    "the mean z needs a model with genes, whose training samples it is compared with; "
    "choose one in the Analyse dock, or score by ssGSEA"
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Whose scores, of which sets, by which method.

    Parameters
    ----------
    profile
        The patient's expression.
    panel
        The model's genes, None if no model with genes is chosen.
    method
        How to score.
    sets
        A GMT file; None takes the shipped hallmarks.
    count
        How many sets to show: those furthest from the middle.
    """

    profile: Profile
    panel: Panel | None
    method: Method
    sets: Path | None
    count: int


@dataclass(frozen=True, slots=True)
class Scored:
    """Scores, as a chart and in words."""

    signatures: Signatures
    figure: Figure
    text: str


def score(wanted: Wanted) -> Scored:
    """Return the scores of a patient.

    Raises
    ------
    GeneError
        If the sets cannot be read, none can be scored, or the method needs a panel.
    """
    from napari_gimp.genes.sets import hallmarks, read_gmt
    from napari_gimp.genes.signatures import mean_z, ssgsea

    sets = hallmarks() if wanted.sets is None else read_gmt(wanted.sets)
    if wanted.method == "ssGSEA":
        found = ssgsea(wanted.profile, sets)
    elif wanted.panel is None:
        raise GeneError(NO_PANEL)
    else:
        found = mean_z(wanted.profile, wanted.panel, sets)
    return Scored(found, signature_bars(found, wanted.count), in_words(found))


def signature_bars(found: Signatures, count: int) -> Figure:
    """Return bars of the sets furthest from the middle, the highest on top."""
    from matplotlib.figure import Figure

    rows = furthest(found.scores[0], count)
    height = EDGES_IN + ROW_IN * len(rows)
    figure = Figure(figsize=(WIDTH_IN, height), facecolor="white")
    box = (0.5, 0.5 / height, 0.36, 1 - EDGES_IN / height)
    axes = figure.add_axes(box)
    _draw(axes, found, rows)
    return darken(figure)


def furthest(scores: NDArray[np.float64], count: int) -> list[int]:
    """Return the places of scores (K,) furthest from their median, highest first."""
    known = np.flatnonzero(np.isfinite(scores))
    if not len(known):
        return []
    away = np.abs(scores[known] - np.median(scores[known]))
    chosen = known[np.argsort(-away, kind="stable")[:count]]
    ordered: list[int] = chosen[np.argsort(-scores[chosen], kind="stable")].tolist()
    return ordered


def in_words(found: Signatures) -> str:
    """Return what the scores mean and what should be known of them."""
    return "\n".join((MEANS[found.method], *map(sentence, found.notes)))


def title(name: str) -> str:
    """Return a set's name for reading."""
    text = name.removeprefix(PREFIX).replace("_", " ")
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1].rstrip()}…"


def _draw(axes: Axes, found: Signatures, rows: Sequence[int]) -> None:
    places, scores = np.arange(len(rows)), found.scores[0][rows]
    axes.barh(places, scores, height=0.66, color=BAR)
    axes.axvline(0, color="black", lw=0.8)
    axes.set_yticks(places, [title(found.sets[k]) for k in rows], fontsize=6.5)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    for place, row in enumerate(rows):
        genes = found.coverage[row]
        total = len(genes.found) + len(genes.missing)
        text = f"{len(genes.found)}/{total}"
        side = axes.get_yaxis_transform()
        axes.text(1.03, place, text, transform=side, va="center", fontsize=6.5)
    axes.set_title("genes found", fontsize=7, loc="right", x=1.36)
    axes.set_xlabel(
        "standard deviations" if found.method == "mean z" else "enrichment", fontsize=8
    )
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=7)
