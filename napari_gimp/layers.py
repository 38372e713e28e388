"""From a patch map to what napari shows: pure functions, no viewer, no Qt.

Shown values are either the raw ones or percentiles among the patches of the slide
(0 to 100). Signed maps keep their zero: their percentile is the sign times the
percentile of the size, from -100 to 100.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_gimp.geometry import YX

if TYPE_CHECKING:
    from napari.utils import Colormap

    from napari_gimp.explain.maps import PatchMap

Scale = Literal["percentile", "raw"]
LayerData = tuple[NDArray[np.float32], dict[str, Any], str]
Values = NDArray[np.float32]

STEPS = 101
UNSIGNED_COLORMAPS = ("viridis", "cividis", "magma")
"""Names known to matplotlib; all of them told apart with colour blindness."""
TEAL_ORANGE = "teal-orange"
SIGNED_COLORMAPS = (TEAL_ORANGE, "PuOr_r", "BrBG_r", "PRGn")
"""First our own: haematoxylin is purple and eosin red, so neither may mean a value."""
FAINTEST = 0.25
"""Share of the opacity at the low end of an unsigned map: faint, yet seen as mapped."""
TEAL, ORANGE = (0.0, 0.50, 0.55), (0.90, 0.40, 0.0)


@dataclass(frozen=True, slots=True)
class Display:
    """How maps are shown.

    Parameters
    ----------
    colormap
        One of `colormaps(map)`; None for the first of them.
    opacity
        0 to 1.
    scale
        "percentile" among the slide's patches, or "raw" values.
    threshold
        Shown values outside (low, high) are transparent; None shows all.

    Raises
    ------
    ValueError
        If opacity, scale or threshold is out of range.
    """

    colormap: str | None = None
    opacity: float = 0.6
    scale: Scale = "percentile"
    threshold: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.opacity <= 1:
            raise ValueError(f"opacity must be 0 to 1, got {self.opacity}")
        if self.scale not in ("percentile", "raw"):
            raise ValueError(f"scale must be percentile or raw, got {self.scale!r}")
        if self.threshold is not None and self.threshold[0] > self.threshold[1]:
            raise ValueError(f"threshold must be (low, high), got {self.threshold}")


@dataclass(frozen=True, slots=True)
class PickedPatch:
    """The patch under a click.

    Parameters
    ----------
    row, col
        Cell of the patch grid.
    center_um
        Centre (y, x), slide um.
    value
        Raw value in the map's unit.
    percentile
        0 to 100 among the slide's patches.
    rank, count
        1 is the highest value of `count` patches.
    """

    row: int
    col: int
    center_um: YX
    value: float
    percentile: float
    rank: int
    count: int


def colormaps(patch_map: PatchMap) -> tuple[str, ...]:
    """Return the colour-blind safe colour maps for a map, the default one first."""
    if patch_map.signed:
        return SIGNED_COLORMAPS
    own = patch_map.kind.colours
    return own, *(name for name in UNSIGNED_COLORMAPS if name != own)


def shown_values(patch_map: PatchMap, scale: Scale) -> Values:
    """Return what is drawn, (rows, cols): raw values or percentiles."""
    if scale == "raw":
        return patch_map.values
    strength = patch_map.strength()
    return np.sign(patch_map.values) * strength if patch_map.signed else strength


def value_range(patch_map: PatchMap, scale: Scale) -> tuple[float, float]:
    """Return the lowest and the highest value that may be shown."""
    if scale == "percentile":
        return (-100.0, 100.0) if patch_map.signed else (0.0, 100.0)
    finite = patch_map.values[np.isfinite(patch_map.values)]
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)


def contrast_limits(patch_map: PatchMap, scale: Scale) -> tuple[float, float]:
    """Return the shown values at the ends of the colour map."""
    if scale == "percentile":
        return value_range(patch_map, scale)
    low, high = patch_map.limits()
    room = max(abs(low) * 1e-3, 1e-6)  # napari needs limits that differ in float32
    return (low, high) if high - low > 1e-6 * abs(high) else (low - room, low + room)


def map_layer(
    patch_map: PatchMap, mpp: YX, display: Display | None = None
) -> LayerData:
    """Return napari's (data, keyword arguments, "image") for a map.

    Parameters
    ----------
    patch_map
        The map, values (rows, cols) with NaN where there is no patch.
    mpp
        um per level-0 pixel (y, x) of the slide it lies on.
    display
        How to show it.
    """
    display = display or Display()
    values = shown_values(patch_map, display.scale)
    kwargs = {
        "name": patch_map.title,
        "colormap": colormap(patch_map, display),
        "contrast_limits": contrast_limits(patch_map, display.scale),
        "opacity": display.opacity,
        "interpolation2d": "nearest",
        "blending": "translucent",
        "metadata": {"gimp_map": patch_map.name},
        **patch_map.grid.layer_kwargs(mpp),
    }
    return _within(values, display.threshold), kwargs, "image"


def colormap(patch_map: PatchMap, display: Display) -> Colormap:
    """Return napari's colour map for a map.

    Signed maps fade to nothing at zero, others towards their low end, so that the
    tissue shows where the map has little to say.
    """
    from napari.utils import Colormap

    choices = colormaps(patch_map)
    name = display.colormap if display.colormap in choices else choices[0]
    colors = _colors(name)
    if patch_map.signed:
        colors[:, 3] = np.abs(np.linspace(-1, 1, STEPS))
    else:
        colors[:, 3] = np.linspace(FAINTEST, 1, STEPS)
    return Colormap(colors, name=f"gimp {name}", display_name=name)


def _colors(name: str) -> NDArray[np.float64]:
    """Return `STEPS` RGBA colours, 0 to 1, from low to high."""
    import matplotlib as mpl

    steps = np.linspace(0, 1, STEPS)
    if name != TEAL_ORANGE:
        return np.array(mpl.colormaps[name](steps))
    hue = np.where(steps[:, None] < 0.5, TEAL, ORANGE)
    return np.column_stack([hue, np.ones(STEPS)])


def patch_at(patch_map: PatchMap, y_um: float, x_um: float) -> PickedPatch | None:
    """Return the patch under a point of the slide, None where there is none."""
    cell = patch_map.grid.cell_at(y_um, x_um)
    if cell is None or not np.isfinite(patch_map.values[cell]):
        return None
    value = patch_map.values[cell]
    finite = patch_map.values[np.isfinite(patch_map.values)]
    return PickedPatch(
        *cell,
        center_um=patch_map.grid.rect_of(*cell).center_um,
        value=float(value),
        percentile=float(patch_map.percentile()[cell]),
        rank=int((finite > value).sum()) + 1,
        count=int(finite.size),
    )


def _within(values: Values, threshold: tuple[float, float] | None) -> Values:
    if threshold is None:
        return values
    low, high = threshold
    inside = (values >= low) & (values <= high)
    return np.where(inside, values, np.float32(np.nan))
