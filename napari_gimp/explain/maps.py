"""Patch maps: one value per patch, laid on the slide.

A map is a small float raster on a `Grid`, NaN where there is no patch. Colours,
percentiles and opacity are derived from it and never stored.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_gimp.geometry import Grid

if TYPE_CHECKING:
    from napari_gimp.patches.grid import PatchGrid

Floats = NDArray[np.float32]

FINER = 8
"""Cells of a map from one patch to the next where patches lie on no one lattice."""


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


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """Which cells of a map each patch fills.

    Parameters
    ----------
    grid
        The map's cells.
    index
        (N, 2) the cell in which each patch is centred.
    filled
        (M, 2) the cells that have a value.
    patch
        (M,) the patch that each of them shows.
    """

    grid: Grid
    index: NDArray[np.integer]
    filled: NDArray[np.integer]
    patch: NDArray[np.integer]

    def lay(self, name: str, values: NDArray[np.floating]) -> PatchMap:
        """Return the map of a known kind of values (N,); see `lay_on_grid`."""
        return lay_on_grid(name, values[self.patch], self.filled, self.grid)


def cells_of(patches: PatchGrid, stride_um: float) -> Cells:
    """Return the cells of the maps of some patches.

    Patches of one lattice have a cell each. Other tools begin a lattice anew for each
    piece of tissue, so such a patch fills `FINER` x `FINER` cells of a finer one: it
    is shown at most a sixteenth of the distance of neighbours off its place.

    Parameters
    ----------
    patches
        The patches.
    stride_um
        Distance of neighbours, um.
    """
    if patches.stride_um > 0.999 * stride_um:
        every = np.arange(len(patches))
        return Cells(patches.grid, patches.index, patches.index, every)
    cell_um = stride_um / FINER
    centres = patches.grid.centers_um(patches.index)
    origin = centres.min(axis=0) - stride_um / 2
    corners = np.rint((centres - origin - stride_um / 2) / cell_um).astype(int)
    rows, cols = (corners.max(axis=0) + FINER).tolist()
    grid = Grid((rows, cols), (cell_um, cell_um), tuple(origin.tolist()))
    filled, patch = _filled(corners)
    middle = np.floor((centres - origin) / cell_um).astype(int)
    return Cells(grid, middle, filled, patch)


def _filled(
    corners: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the cells of squares (N, 2), and whose each is: the nearest one's.

    The last value that is laid on a cell stays, so the nearest come last.
    """
    steps = np.stack(np.meshgrid(*[np.arange(FINER)] * 2, indexing="ij"), -1)
    steps = steps.reshape(-1, 2)
    away = np.abs(steps - (FINER - 1) / 2).max(axis=1)
    steps = steps[np.argsort(-away, kind="stable")]
    cells = (steps[:, None] + corners).reshape(-1, 2)
    return cells, np.tile(np.arange(len(corners)), len(steps))


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
