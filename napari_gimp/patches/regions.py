"""Where to look and where not: annotated areas and mask images laid over the tissue.

Whatever the file, a region becomes a mask on the tissue's own grid, so that the
result of `restrict` is a `Tissue` like any other.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np

from napari_gimp.errors import PatchError
from napari_gimp.patches.annotations import Annotations, Mask, read_geojson
from napari_gimp.patches.mask_image import MaskImage, read_mask_image
from napari_gimp.patches.tissue import Tissue

GEOJSON = (".geojson", ".json")
OUTSIDE, INSIDE = "outside the annotations", "annotated to be left out"
"""What `restrict` adds to the reasons of `Tissue.excluded`."""


def read_region(path: Path) -> Annotations | MaskImage:
    """Open a GeoJSON file or a mask image; `labels` then tells its classes.

    Raises
    ------
    PatchError
        If the file cannot be a region; the text says why and what would be right.
    SlideError
        If a picture cannot be read.
    """
    if path.suffix.lower() in GEOJSON:
        return read_geojson(path)
    return read_mask_image(path)


def restrict(
    tissue: Tissue, *, include: Mask | None = None, exclude: Mask | None = None
) -> Tissue:
    """Return the tissue inside `include` and not in `exclude`, on the same grid.

    Parameters
    ----------
    tissue
        The slide's tissue; what it left out stays left out.
    include, exclude
        (rows, cols) bool on the tissue's grid, as `inside` returns them; None means
        all, and nothing.

    Returns
    -------
    Tissue
        Its `excluded` says, beside what it said, how many mm2 of tissue each of
        the two took.

    Raises
    ------
    PatchError
        If a mask is not of the tissue's shape.
    """
    mask, excluded = tissue.mask.copy(), dict(tissue.excluded)
    for reason, out in ((OUTSIDE, _not(include)), (INSIDE, exclude)):
        if out is None:
            continue
        _check_shape(out, tissue)
        cells = int((mask & out).sum())
        mask &= ~out
        cell_mm2 = float(np.prod(tissue.grid.cell_um)) / 1e6
        excluded[reason] = excluded.get(reason, 0.0) + cells * cell_mm2
    return replace(tissue, mask=mask, excluded=MappingProxyType(excluded))


def _not(mask: Mask | None) -> Mask | None:
    return None if mask is None else ~np.asarray(mask, dtype=bool)


def _check_shape(mask: Mask, tissue: Tissue) -> None:
    if mask.shape != tissue.mask.shape:
        raise PatchError(
            f"a region of {mask.shape} cells does not fit the tissue of "
            f"{tissue.mask.shape}; lay it on the tissue's grid with `inside`"
        )
