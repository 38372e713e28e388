"""Which patches of a slide are wanted: where to look, how densely, and how much tissue.

A plan is a small value that travels: from a dock or a command line to a process on
another machine, and into the record of what was run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from math import inf
from pathlib import Path

import numpy as np

from napari_gimp.errors import PatchError
from napari_gimp.geometry import Grid
from napari_gimp.patches.annotations import Annotations, Mask, check_labels, is_a
from napari_gimp.patches.grid import PatchGrid, lay_patches
from napari_gimp.patches.mask_image import MaskImage, write_mask
from napari_gimp.patches.regions import read_region, restrict
from napari_gimp.patches.tissue import Tissue, find_tissue, given_tissue, tissue_grid
from napari_gimp.slide.source import SlideSource

__all__ = ["PatchPlan", "write_mask"]

LEAST_STRIDE_UM = 1.0
"""A smaller one is a slip of the unit, and would lay millions of patches."""
MOST_OVERLAP = 16
"""Strides in a side of a patch: 256 patches see each place."""


@dataclass(frozen=True, slots=True)
class PatchPlan:
    """Where patches are laid on a slide; the default is all tissue that is found.

    Parameters
    ----------
    stride_um
        Distance of neighbouring patches, um; None means the side of a patch.
    min_tissue
        Least fraction of a patch that is tissue, 0 to 1.
    tissue
        A mask of the tissue that replaces automatic detection: a picture of the
        whole slide, or a GeoJSON file. `write_mask` writes one.
    include, exclude
        Annotations (GeoJSON) or mask images: only what lies inside one of the
        first, and nothing that lies inside one of the others.
    include_labels, exclude_labels
        The classes of those files that count; none means all. Without a file they
        mean nothing, since each slide of a cohort brings its own.

    Raises
    ------
    PatchError
        If a number is out of range.
    """

    stride_um: float | None = None
    min_tissue: float = 0.5
    tissue: Path | None = None
    include: tuple[Path, ...] = ()
    exclude: tuple[Path, ...] = ()
    include_labels: tuple[str, ...] = ()
    exclude_labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.stride_um is not None and not LEAST_STRIDE_UM <= self.stride_um < inf:
            raise PatchError(
                f"The stride of patches must be {LEAST_STRIDE_UM:g} um or more, got "
                f"{self.stride_um:g}: it counts in um, not in mm or pixels. Leave it "
                "out to lay them side by side."
            )
        if not 0 <= self.min_tissue <= 1:
            raise PatchError(
                f"The least tissue of a patch must be 0 to 1, got {self.min_tissue}; "
                "0.5 is usual."
            )
        if self.stride_um is not None:  # 64 and 64.0 name the same features
            object.__setattr__(self, "stride_um", float(self.stride_um))

    def find_tissue(self, source: SlideSource) -> Tissue:
        """Return the tissue of a slide that the plan lets through.

        Raises
        ------
        PatchError
            If a file is no region, fits another slide, or lacks a class.
        SlideError
            If the slide or a mask cannot be read, or (ResolutionError) the slide's
            um/px is unknown.
        """
        return self.narrow(self.find_uncut(source), source)

    def find_uncut(self, source: SlideSource) -> Tissue:
        """Return the tissue before anything is included or excluded.

        Raises
        ------
        PatchError, SlideError
            As `find_tissue`.
        """
        if self.tissue is None:
            return find_tissue(source)
        region = read_region(self.tissue)
        return given_tissue(source, region.inside(source, tissue_grid(source)))

    def narrow(self, tissue: Tissue, source: SlideSource) -> Tissue:
        """Return what is left of `find_uncut` by what is included and excluded.

        Raises
        ------
        PatchError, SlideError
            As `find_tissue`.
        """
        return restrict(
            tissue,
            include=_inside(self.include, source, tissue.grid, self.include_labels),
            exclude=_inside(self.exclude, source, tissue.grid, self.exclude_labels),
        )

    def lay(self, tissue: Tissue, patch_um: float) -> PatchGrid:
        """Return the patches of `patch_um` um on the tissue.

        Raises
        ------
        PatchError
            If no patch is left; the text says what took it. If the stride is so
            small that hundreds of patches would see each place.
        """
        if self.stride_um is not None and self.stride_um < patch_um / MOST_OVERLAP:
            raise PatchError(
                f"A stride of {self.stride_um:g} um is too small for patches of "
                f"{patch_um:g} um: give {patch_um / MOST_OVERLAP:g} um or more, or "
                "leave it out to lay them side by side."
            )
        return lay_patches(
            tissue,
            patch_um=patch_um,
            stride_um=self.stride_um,
            min_tissue=self.min_tissue,
        )

    def record(self) -> dict[str, object]:
        """Return what differs from a plain plan, as JSON; files by name and sha256.

        Raises
        ------
        PatchError
            If a file can no longer be read.
        """
        return {
            field.name: _recorded(getattr(self, field.name))
            for field in fields(self)
            if getattr(self, field.name) != field.default
        }


def _inside(
    paths: Sequence[Path], source: SlideSource, grid: Grid, labels: Sequence[str]
) -> Mask | None:
    """Return the cells inside any of the regions, None where there is no region.

    A class may be in one file and not in another, but not in none.
    """
    if not paths:
        return None
    regions = [read_region(path) for path in paths]
    check_labels(regions[0].path, labels, {x for r in regions for x in r.labels})
    mask = np.zeros(grid.shape, dtype=bool)
    for region in regions:
        chosen = _of(region, labels)
        if chosen or not labels:
            mask |= region.inside(source, grid, chosen)
    return mask


def _of(region: Annotations | MaskImage, labels: Sequence[str]) -> list[str]:
    return [x for x in labels if any(is_a(label, x) for label in region.labels)]


def _recorded(value: object) -> object:
    if isinstance(value, Path):
        return {"file": value.name, "sha256": _sha256(value)}
    if isinstance(value, tuple):
        return [_recorded(item) for item in value]
    return value


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise PatchError(
            f"The region '{path}' cannot be read: {error.strerror}. Put it back, or "
            "name the file as it is called now."
        ) from error
