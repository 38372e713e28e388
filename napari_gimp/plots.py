"""Pictures of an analysis: map overlays and gene bars.

Figures are built with matplotlib's object interface, so they can be drawn in a
Qt canvas, in a thread, or without a display.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_gimp.explain.maps import Floats, PatchMap
from napari_gimp.explain.result import GeneAttribution, Overview
from napari_gimp.geometry import Grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, QUIET, HAIR = "#1b2430", "#5d6875", "#d5dae0"
FOR, AGAINST = "#c4620a", "#0a7f86"  # haematoxylin is purple, so no value may be
CLASSES = ("C2", "C1", "C9", "C8", "C0", "C5")  # none looks like H&E
PALER = 0.55  # how far histology is pulled towards white and grey under a map
PICTURE_PX = 1200  # longer side of histology in figures: what a page can show
JPEG = {"quality": 90, "subsampling": 0}  # colour is not halved: maps are colour
OPAQUE, FAINT = 0.78, 0.04  # opacity of the strongest and the weakest patch
TINT = 0.35  # opacity of a class: nuclei stay visible under it


def colour(patch_map: PatchMap) -> Floats:
    """Return (rows, cols, 4) float32 RGBA in 0..1, opacity by percentile.

    Unsigned maps are coloured by percentile rank, signed ones by value about
    zero. Cells without a patch are fully transparent.
    """
    from matplotlib import colormaps

    strength = np.nan_to_num(patch_map.strength()) / 100
    rgba = np.asarray(colormaps[patch_map.kind.colours](_position(patch_map)))
    rgba[..., 3] = FAINT + (OPAQUE - FAINT) * strength
    rgba[~np.isfinite(patch_map.values), 3] = 0
    return rgba.astype(np.float32)


def _position(patch_map: PatchMap) -> Floats:
    if not patch_map.signed:
        return np.nan_to_num(patch_map.percentile()) / np.float32(100)
    low, high = patch_map.limits()
    placed = (np.nan_to_num(patch_map.values) - low) / (high - low)
    return np.asarray(np.clip(placed, 0, 1), dtype=np.float32)


def compose(patch_map: PatchMap, overview: Overview) -> NDArray[np.uint8]:
    """Return (h, w, 3) uint8: the overview with the map laid over it.

    Histology stays visible: it is paled to grey, and weak patches are
    transparent. Each overview pixel shows the cell that holds its centre.
    """
    rows, cols = cells_under(patch_map, overview)
    layer = np.pad(colour(patch_map), ((0, 1), (0, 1), (0, 0)))[np.ix_(rows, cols)]
    alpha = layer[..., 3:]
    tissue = overview.pixels.astype(np.float32)
    grey = tissue.mean(axis=-1, keepdims=True)
    paled = (1 - PALER) * tissue + PALER * (0.75 * grey + 0.25 * 255)
    mixed = 255 * layer[..., :3] * alpha + paled * (1 - alpha)
    return np.asarray(mixed + 0.5, dtype=np.uint8)


def cells_under(
    patch_map: PatchMap, overview: Overview
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the map row of each overview row and the column of each column.

    Pixels outside the map get -1, which indexes the transparent border that
    `compose` pads with.
    """
    return _cells(patch_map, overview, 0), _cells(patch_map, overview, 1)


def _cells(patch_map: PatchMap, overview: Overview, axis: int) -> NDArray[np.intp]:
    at, cells = overview.grid, patch_map.grid
    centre = at.origin_um[axis] + at.cell_um[axis] * (np.arange(at.shape[axis]) + 0.5)
    cell = np.floor((centre - cells.origin_um[axis]) / cells.cell_um[axis])
    return np.where((cell < 0) | (cell >= cells.shape[axis]), -1, cell).astype(np.intp)


def map_overlay(patch_map: PatchMap, overview: Overview, *, width: float = 7) -> Figure:
    """Return a figure: the map on the slide, a scale bar and a legend.

    Parameters
    ----------
    width
        Width of the figure, inches.
    """
    figure, axes = _slide_axes(overview, width, legend=0.62)
    _show(axes, compose(patch_map, overview), overview)
    _scale_bar(axes, overview)
    _legend(figure, patch_map, width)
    return figure


def slide_picture(overview: Overview, *, width: float = 7) -> Figure:
    """Return a figure of the slide itself with a scale bar."""
    figure, axes = _slide_axes(overview, width, legend=0.0)
    _show(axes, overview.pixels, overview)
    _scale_bar(axes, overview)
    return figure


def contours_on(
    overview: Overview, maps: Mapping[str, tuple[Floats, Grid]], threshold: float
) -> Figure:
    """Return a figure of the slide with a tinted outline and a legend for each class.

    The tint says which side is inside where an outline is ragged.

    Parameters
    ----------
    maps
        Probability (rows, cols) of each class by its name, and its place.
    threshold
        Where the contour runs.
    """
    figure = slide_picture(overview)
    axes = figure.axes[0]
    for number, (name, (values, grid)) in enumerate(maps.items()):
        colour = CLASSES[number % len(CLASSES)]
        axes.plot([], [], color=colour, label=f"{name}, from {threshold:g}")
        _draw_class(axes, values, grid, threshold, colour)
    axes.legend(loc="upper right", fontsize=9)
    return figure


def _draw_class(
    axes: Axes, values: Floats, grid: Grid, threshold: float, colour: str
) -> None:
    """Tint what is at or above the threshold, and draw its outline."""
    if min(values.shape) < 2 or values.max() < threshold:  # matplotlib needs 2 x 2
        return
    x, y = (_centres(grid, axis) for axis in (1, 0))
    inside = [np.nextafter(threshold, 0), np.inf]
    axes.contourf(x, y, values, inside, colors=colour, alpha=TINT)
    if values.min() < threshold:
        axes.contour(x, y, values, [threshold], colors=colour, linewidths=0.6)


def _centres(grid: Grid, axis: int) -> NDArray[np.float64]:
    """Return the centres of the cells along an axis, um."""
    cells = np.arange(grid.shape[axis]) + 0.5
    return np.asarray(grid.origin_um[axis] + cells * grid.cell_um[axis])


def close_up(overview: Overview, patch_map: PatchMap, margin: float = 0.04) -> Overview:
    """Return the part of the overview that holds the map's patches, and a margin.

    Parameters
    ----------
    margin
        Width of the border around the patches, as a part of their longer extent.
    """
    rows, cols = (np.flatnonzero(s) for s in _occupied(patch_map))
    first = patch_map.grid.rect_of(rows[0], cols[0])
    last = patch_map.grid.rect_of(rows[-1], cols[-1])
    border = margin * max(last.y1 - first.y0, last.x1 - first.x0)
    y = _pixel_range(overview, 0, first.y0 - border, last.y1 + border)
    x = _pixel_range(overview, 1, first.x0 - border, last.x1 + border)
    corner = overview.grid.rect_of(y.start, x.start)
    shape = (y.stop - y.start, x.stop - x.start)
    grid = Grid(shape, overview.grid.cell_um, (corner.y0, corner.x0))
    return Overview(overview.pixels[y, x], grid)


def shrink(overview: Overview, most_px: int = PICTURE_PX) -> Overview:
    """Return an overview of at most about `most_px` a side, by averaging blocks."""
    factor = -(-max(overview.grid.shape) // most_px)
    rows, cols = (side // factor for side in overview.grid.shape)
    if factor == 1 or not rows * cols:
        return overview
    blocks = overview.pixels[: rows * factor, : cols * factor]
    blocks = blocks.reshape(rows, factor, cols, factor, 3)
    mean = blocks.mean(axis=(1, 3), dtype=np.float32) + 0.5
    dy, dx = overview.grid.cell_um
    grid = Grid((rows, cols), (dy * factor, dx * factor), overview.grid.origin_um)
    return Overview(np.asarray(mean, dtype=np.uint8), grid)


def _occupied(patch_map: PatchMap) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    known = np.isfinite(patch_map.values)
    return np.asarray(known.any(axis=1)), np.asarray(known.any(axis=0))


def _pixel_range(overview: Overview, axis: int, low: float, high: float) -> slice:
    origin, cell = overview.grid.origin_um[axis], overview.grid.cell_um[axis]
    start = max(0, int(np.floor((low - origin) / cell)))
    stop = min(overview.grid.shape[axis], int(np.ceil((high - origin) / cell)))
    return slice(start, stop)


def _slide_axes(
    overview: Overview, width: float, *, legend: float
) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    tall, wide = overview.grid.rect.size_um
    picture = width * tall / wide
    figure = Figure(figsize=(width, picture + legend), facecolor="white")
    axes = figure.add_axes((0, legend / (picture + legend), 1, 0))
    axes.set_position((0, legend / (picture + legend), 1, picture / (picture + legend)))
    return figure, axes


def _show(axes: Axes, pixels: NDArray[np.uint8], overview: Overview) -> None:
    area = overview.grid.rect
    extent = (area.x0, area.x1, area.y1, area.y0)
    axes.imshow(pixels, extent=extent, interpolation="nearest", aspect="auto")
    axes.set_axis_off()


def _scale_bar(axes: Axes, overview: Overview) -> None:
    """Draw a bar of a round length, about a fifth of the slide, lower left."""
    area = overview.grid.rect
    tall, wide = area.size_um
    length = round_length(wide / 5)
    x, y = area.x0 + 0.03 * wide, area.y1 - 0.04 * tall
    axes.plot([x, x + length], [y, y], color=INK, lw=3, solid_capstyle="butt")
    axes.text(
        x,
        y - 0.015 * tall,
        length_text(length),
        color=INK,
        fontsize=9,
        va="bottom",
        bbox={"fc": "white", "ec": "none", "alpha": 0.7, "pad": 1.5},
    )


def round_length(um: float) -> float:
    """Return the largest of 1, 2, 5 times a power of ten that is not above `um`."""
    power = 10.0 ** np.floor(np.log10(um))
    return float(max(step * power for step in (1, 2, 5) if step * power <= um * 1.001))


def length_text(um: float) -> str:
    """Return a length for a person: µm below a millimetre, mm above."""
    return f"{um:g} µm" if um < 1000 else f"{um / 1000:g} mm"


def _legend(figure: Figure, patch_map: PatchMap, width: float) -> None:
    """Draw the colour bar with its ends named and the scale mode stated."""
    from matplotlib import colormaps

    height = figure.get_figheight()
    axes = figure.add_axes((0.05, 0.38 / height, 0.90, 0.12 / height))
    steps = np.linspace(0, 1, 256)
    bar = colormaps[patch_map.kind.colours](steps)[None]
    strength = np.abs(2 * steps - 1) if patch_map.signed else steps
    alpha = (FAINT + (OPAQUE - FAINT) * strength)[None, :, None]
    axes.imshow(bar[..., :3] * alpha + 0.93 * (1 - alpha), aspect="auto")
    axes.set(yticks=[], xticks=np.linspace(0, 255, 5))
    axes.set_xticklabels(_ticks(patch_map), fontsize=8, color=QUIET)
    axes.tick_params(length=2, color=HAIR, pad=2)
    for spine in axes.spines.values():
        spine.set_edgecolor(HAIR)
    _legend_words(figure, patch_map, height)


def _ticks(patch_map: PatchMap) -> list[str]:
    if not patch_map.signed:
        return ["0", "25", "50", "75", "100"]
    low, high = patch_map.limits()
    return [f"{value:+.2g}" if value else "0" for value in np.linspace(low, high, 5)]


def _legend_words(figure: Figure, patch_map: PatchMap, height: float) -> None:
    kind, y = patch_map.kind, 0.05 / height
    scale = f"per patch, {patch_map.unit}" if patch_map.signed else "percentile"
    for x, text, side in (
        (0.05, kind.low, "left"),
        (0.5, f"{patch_map.title} · {scale}", "center"),
        (0.95, kind.high, "right"),
    ):
        figure.text(x, y, text, ha=side, va="bottom", fontsize=8.5, color=INK)


def gene_bars(genes: GeneAttribution, k: int = 15, *, width: float = 7) -> Figure:
    """Return a figure: signed bars of the top genes, the patient's z beside each.

    Parameters
    ----------
    genes
        Attributions of one patient.
    k
        How many genes, by size of their attribution.
    width
        Width of the figure, inches.
    """
    from matplotlib.figure import Figure

    rows = genes.top(k)
    rows = rows[np.argsort(-genes.attribution[rows], kind="stable")]
    height = 1.05 + 0.25 * len(rows)
    figure = Figure(figsize=(width, height), facecolor="white")
    below, tall = 0.62 / height, 1 - 0.95 / height
    bars = figure.add_axes((0.16, below, 0.52, tall))
    scores = figure.add_axes((0.74, below, 0.23, tall), sharey=bars)
    _bars(bars, genes, rows)
    _scores(scores, genes, rows)
    return figure


def _bars(axes: Axes, genes: GeneAttribution, rows: NDArray[np.intp]) -> None:
    values = genes.attribution[rows]
    places = np.arange(len(rows))
    colours = [FOR if value > 0 else AGAINST for value in values]
    axes.barh(places, values, height=0.68, color=colours)
    axes.axvline(0, color=INK, lw=0.8)
    names = [genes.genes[row] for row in rows]
    axes.set_yticks(places, names, fontsize=9, color=INK, style="italic")
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_title(f"← against   {genes.class_name}   for →", fontsize=9.5, color=INK)
    axes.set_xlabel("attribution, logit", fontsize=8.5, color=QUIET)
    _quiet(axes)


def _scores(axes: Axes, genes: GeneAttribution, rows: NDArray[np.intp]) -> None:
    z, places = genes.z[rows], np.arange(len(rows))
    known = genes.present[rows]
    axes.axvline(0, color=HAIR, lw=0.8)
    axes.hlines(places[known], 0, z[known], color=QUIET, lw=1)
    axes.plot(z[known], places[known], "o", ms=4.5, color=INK)
    axes.plot(z[~known], places[~known], "o", ms=4.5, mfc="white", mec=QUIET)
    reach = max(3.0, 1.1 * float(np.abs(z).max(initial=0)))
    axes.set_xlim(-reach, reach)
    axes.set_title("this patient", fontsize=9.5, color=INK)
    axes.set_xlabel("z-score  (○ not measured)", fontsize=8.5, color=QUIET)
    axes.tick_params(labelleft=False)
    _quiet(axes)


def _quiet(axes: Axes) -> None:
    """Leave only what carries meaning: no box, hairline ticks."""
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(HAIR)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=8, labelcolor=QUIET, color=HAIR)


def raw_png(patch_map: PatchMap) -> bytes:
    """Return a PNG file of one pixel per patch in the map's colours, no histology."""
    from io import BytesIO

    from matplotlib.image import imsave

    rgba = colour(patch_map)
    rgba[..., 3] = np.isfinite(patch_map.values)
    stream = BytesIO()
    imsave(stream, rgba, format="png")
    return stream.getvalue()


def png_bytes(figure: Figure, *, dpi: int = 150) -> bytes:
    """Return the figure as a PNG file."""
    return _saved(figure, dpi, "png", {})


def jpeg_bytes(figure: Figure, *, dpi: int = 150) -> bytes:
    """Return the figure as a JPEG file: a tenth of the PNG where tissue fills it."""
    return _saved(figure, dpi, "jpeg", JPEG)


def _saved(figure: Figure, dpi: int, kind: str, options: dict[str, int]) -> bytes:
    from io import BytesIO

    from matplotlib.backends.backend_agg import FigureCanvasAgg

    stream = BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(stream, format=kind, dpi=dpi, pil_kwargs=options)
    return stream.getvalue()
