"""What an analysis of one slide found, as plain values.

A `Result` holds all that docks, exports and reports show, so that none of them
needs the slide, the model or torch again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from napari_gimp.explain.maps import Floats, PatchMap
from napari_gimp.geometry import YX, Grid

Image = NDArray[np.uint8]
IccUse = Literal["none", "embedded, not applied", "applied"]


@dataclass(frozen=True, slots=True, eq=False)
class GeneAttribution:
    """How the genes moved one class's logit (integrated gradients).

    Parameters
    ----------
    genes
        Symbols in the model's order.
    attribution
        (G,) float32, logit; the sum is the change from the training mean.
    z
        (G,) float32, the patient's z-scores; 0 where absent.
    present
        (G,) bool, whether the patient's table had the gene.
    class_name
        The class whose logit is explained.
    gap
        Completeness gap: the part of the logit's change that is not accounted for.
    """

    genes: tuple[str, ...]
    attribution: Floats
    z: Floats
    present: NDArray[np.bool_]
    class_name: str
    gap: float

    def __post_init__(self) -> None:
        shapes = {self.attribution.shape, self.z.shape, self.present.shape}
        if shapes != {(len(self.genes),)}:
            raise ValueError(
                f"attribution, z and present need shape ({len(self.genes)},), "
                f"one entry per gene, got {sorted(shapes)}"
            )

    def top(self, k: int = 15) -> NDArray[np.intp]:
        """Return indices of the k largest attributions by size, largest first."""
        return np.argsort(-np.abs(self.attribution), kind="stable")[:k]


@dataclass(frozen=True, slots=True)
class ModalityShare:
    """How slide and genes share the change of the logit (two-player Shapley).

    Parameters
    ----------
    slide, genes
        Shares, logit; they add up to `total`.
    total
        Logit of the patient minus the logit of two average modalities.
    """

    slide: float
    genes: float
    total: float

    @property
    def slide_fraction(self) -> float:
        """Size of the slide's share among both, 0 to 1; 0.5 where neither moved."""
        whole = abs(self.slide) + abs(self.genes)
        return abs(self.slide) / whole if whole else 0.5


@dataclass(frozen=True, slots=True, eq=False)
class PatchTable:
    """The patches of an analysis and what was computed for each.

    Parameters
    ----------
    grid
        Cells of the patch raster, slide um.
    index
        (N, 2) int, row and column of the cell in which each patch is centred.
    coords_um
        (N, 2), centres (y, x), slide um.
    patch_um
        Side of a patch, um.
    features
        (N, P) float32.
    columns
        (N,) float32 by map name.
    plan
        What was asked of where patches lie, see `PatchPlan.record`.
    """

    grid: Grid
    index: NDArray[np.integer]
    coords_um: NDArray[np.floating]
    patch_um: float
    features: Floats
    columns: Mapping[str, Floats]
    plan: Mapping[str, object] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.index)


@dataclass(frozen=True, slots=True, eq=False)
class ReconstructionExample:
    """One patch: real, hidden among its neighbours, retrieved and decoded.

    Parameters
    ----------
    patch
        Row of the patch in the `PatchTable`.
    center_um
        Centre (y, x), slide um.
    error
        1 − cosine similarity of predicted and true feature.
    percentile
        Rank of the error on this slide, 0 to 100.
    real
        (h, w, 3) uint8, the patch itself.
    masked
        (h, w, 3) uint8, its surroundings; what was hidden is grey.
    retrieved
        (h, w, 3) uint8, the real patch of this slide whose feature is nearest to
        the prediction: a retrieval, not a generated picture.
    retrieved_patch
        Row of the retrieved patch.
    decoded
        (h, w, 3) uint8, low-resolution decoding of the predicted feature.
    """

    patch: int
    center_um: YX
    error: float
    percentile: float
    real: Image
    masked: Image
    retrieved: Image
    retrieved_patch: int
    decoded: Image


@dataclass(frozen=True, slots=True, eq=False)
class HotPatch:
    """A patch that moved the prediction much.

    Parameters
    ----------
    patch
        Row of the patch in the `PatchTable`.
    center_um
        Centre (y, x), slide um.
    contribution
        Logit; above 0 for the class, below 0 against it.
    pixels
        (h, w, 3) uint8.
    """

    patch: int
    center_um: YX
    contribution: float
    pixels: Image


@dataclass(frozen=True, slots=True)
class ModelSummary:
    """What a checkpoint's card says, for display."""

    name: str
    architecture: str
    description: str
    stage: str
    encoder: str
    genes: int
    licence: str
    sha256: str
    cohort: Mapping[str, object]
    metrics: Mapping[str, object]
    choices: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Overview:
    """The whole slide at low resolution.

    Parameters
    ----------
    pixels
        (h, w, 3) uint8.
    grid
        Place of its pixels, slide um.
    """

    pixels: Image
    grid: Grid


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """Everything an analysis of one slide found.

    Parameters
    ----------
    slide
        The slide's file.
    sample
        Sample id in the gene table, None for "slide only".
    mpp, mpp_origin, mpp_verified
        um/px (y, x) of level 0, where it came from, whether it can be trusted.
    size_px
        Height and width of level 0.
    model
        The model's card.
    classes
        Class names.
    probabilities
        (C,) with everything the request gave.
    slide_only
        (C,) from the slide alone.
    target
        Index of the class that maps and genes explain: the predicted one.
    share
        Shares of the modalities; None for "slide only".
    maps
        Patch maps by name.
    genes
        Gene attribution; None for "slide only".
    patches
        The patches with features and values.
    hot
        Patches with the largest contributions, from most for to most against.
    examples
        Patches with their reconstruction.
    decoder
        Where the decoding comes from: the checkpoint, or fitted on this slide.
    warnings
        Sentences a reader must know before trusting the result.
    gaps
        Completeness gaps by attribution, fraction of the logit's change.
    overview
        The whole slide, small.
    seconds
        Time by stage.
    versions
        Package versions.
    icc
        The slide's colour profile, and whether pixels were converted from it to sRGB.
    corner_px
        Level-0 row and column where the scanned part begins, see `SlideSource`.
    damaged_tiles
        Tiles that could not be decoded and counted as empty glass.
    reader
        The library that read the slide.
    """

    slide: Path
    sample: str | None
    mpp: YX
    mpp_origin: str
    mpp_verified: bool
    size_px: tuple[int, int]
    model: ModelSummary
    classes: tuple[str, ...]
    probabilities: Floats
    slide_only: Floats
    target: int
    share: ModalityShare | None
    maps: Mapping[str, PatchMap]
    genes: GeneAttribution | None
    patches: PatchTable
    hot: tuple[HotPatch, ...]
    examples: tuple[ReconstructionExample, ...]
    decoder: str
    warnings: tuple[str, ...]
    gaps: Mapping[str, float]
    overview: Overview
    seconds: Mapping[str, float]
    versions: Mapping[str, str]
    icc: IccUse = "none"
    corner_px: tuple[int, int] = (0, 0)
    damaged_tiles: int = 0
    reader: str = ""

    @property
    def class_name(self) -> str:
        """Name of the explained class."""
        return self.classes[self.target]

    @property
    def with_genes(self) -> bool:
        """Whether the request had a gene profile."""
        return self.genes is not None
