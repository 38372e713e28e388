"""Patch maps: one value per patch, laid on the slide.

A map is a small float raster on a `Grid`, NaN where there is no patch. Colours,
percentiles and opacity are derived from it and never stored.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_gimp.geometry import Grid

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class MapKind:
    """What a kind of map is called, what it means and how it is coloured.

    Parameters
    ----------
    title
        Name for a person.
    caption
        How the value is computed and how not to read it.
    low, high
        What the two ends of the colour bar mean.
    unit
        Unit of a raw value.
    signed
        Whether zero is the middle, so that colours diverge from it.
    colours
        A colour-blind safe colour map that matplotlib and napari both know.
    """

    title: str
    caption: str
    low: str
    high: str
    unit: str = ""
    signed: bool = False
    colours: str = "viridis"


KINDS = {
    "attention": MapKind(
        title="Patch attention",
        caption="How much the class token looks at each patch in the last layer; "
        "sums to 1 over the slide. Attention is not attribution: a patch can be "
        "looked at and yet not move the prediction.",
        low="least attended",
        high="most attended",
        unit="share",
    ),
    "contribution": MapKind(
        title="Patch contribution",
        caption="Integrated gradients of the class's logit from an average patch to "
        "the patch seen; the sum over patches is the change of the logit.",
        low="against the class",
        high="for the class",
        unit="logit",
        signed=True,
        colours="BrBG_r",
    ),
    "reconstruction_error": MapKind(
        title="Reconstruction error",
        caption="Each patch is hidden once and predicted from the rest of the slide; "
        "1 − cosine similarity. High means unexpected given its surroundings, "
        "not malignant.",
        low="as expected",
        high="unexpected",
        unit="1 − cos",
        colours="cividis",
    ),
}
"""The maps of this release by name."""


@dataclass(frozen=True, slots=True, eq=False)
class PatchMap:
    """One value per patch on the slide.

    Parameters
    ----------
    name
        Key, such as ``"attention"``.
    title, caption
        Name and explanation for a person.
    values
        (rows, cols) float32, NaN where there is no patch.
    grid
        The place of the cells, slide um.
    signed
        Whether zero is the middle of the scale.
    unit
        Unit of a value.

    Raises
    ------
    ValueError
        If values and grid differ in shape.
    """

    name: str
    title: str
    values: Floats
    grid: Grid
    signed: bool = False
    unit: str = ""
    caption: str = ""

    def __post_init__(self) -> None:
        if self.values.shape != self.grid.shape:
            raise ValueError(
                f"map '{self.name}' has values {self.values.shape} "
                f"on a grid {self.grid.shape}; both must be (rows, cols)"
            )

    @property
    def kind(self) -> MapKind:
        """Colours and wording of this map; neutral ones for an unknown name."""
        plain = MapKind(self.title, self.caption, "low", "high", self.unit, self.signed)
        return KINDS.get(self.name, plain)

    def percentile(self) -> Floats:
        """Return each patch's percentile rank among all, 0 to 100, ties averaged."""
        return percentile_ranks(self.values)

    def strength(self) -> Floats:
        """Return the percentile rank of the size, sign ignored where signed."""
        return percentile_ranks(np.abs(self.values) if self.signed else self.values)

    def limits(self) -> tuple[float, float]:
        """Return the values at the ends of the colour scale.

        The 1st and 99th percentile, so that one outlier does not flatten the rest;
        symmetric about zero where signed; never of zero width.
        """
        finite = self.values[np.isfinite(self.values)]
        if finite.size == 0:
            return (-1.0, 1.0) if self.signed else (0.0, 1.0)
        if self.signed:
            reach = float(np.percentile(np.abs(finite), 99)) or 1e-12
            return -reach, reach
        low, high = (float(v) for v in np.percentile(finite, (1, 99)))
        return low, max(high, low + 1e-12)


def lay_on_grid(
    name: str, values: NDArray[np.floating], index: NDArray[np.integer], grid: Grid
) -> PatchMap:
    """Return the map of a known kind with patch values on their cells.

    Parameters
    ----------
    name
        A key of `KINDS`.
    values
        (N,) one value per patch; NaN for a patch not computed yet.
    index
        (N, 2) row and column of each patch.
    grid
        Where the cells lie.

    Raises
    ------
    KeyError
        If the name is no kind of map.
    """
    kind = KINDS[name]
    raster = np.full(grid.shape, np.nan, dtype=np.float32)
    raster[index[:, 0], index[:, 1]] = values
    return PatchMap(
        name, kind.title, raster, grid, kind.signed, kind.unit, kind.caption
    )


def percentile_ranks(values: NDArray[np.floating]) -> Floats:
    """Return percentile ranks, 0 (lowest) to 100 (highest); NaN stays NaN.

    Ties share their mean rank; a single value, or values all equal, rank 50.
    """
    from scipy.stats import rankdata

    ranks = np.full(values.shape, np.nan, dtype=np.float32)
    known = np.isfinite(values)
    count = int(known.sum())
    if count:
        order = rankdata(values[known], method="average") - 1
        ranks[known] = 100 * order / (count - 1) if count > 1 else 50
    return ranks
