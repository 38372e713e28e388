"""Segment a whole slide with MGI: pixels and genes in, a probability map out.

Tiles with a quarter overlap at the model's um/px, over tissue only, blended with a
raised-cosine window (spec mgi E). Finished rows go to disk at every level as they
come, so memory holds a band of the slide, never all of it, and a viewer can show the
map while it fills. `segment` is a plain generator that can be closed between any two
events.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_gimp.errors import CheckpointError, GimpError, PatchError
from napari_gimp.explain import checks
from napari_gimp.explain.clock import Clock, versions
from napari_gimp.explain.inference import Progress, Warned
from napari_gimp.explain.models import resolve_model
from napari_gimp.explain.result import ModelSummary
from napari_gimp.explain.setting import Request, pick_device, read_genes, summary_of
from napari_gimp.explain.tiles import Network, fill, plan_over
from napari_gimp.geometry import Grid
from napari_gimp.slide.ome_zarr_writer import MapWriter
from napari_gimp.slide.source import SlideSource

if TYPE_CHECKING:
    from gimp_models.checkpoint import Checkpoint
    from gimp_models.mamba import GeneSequence
    from gimp_models.mgi import Mgi
    from gimp_models.tiling import Band, TilePlan
    from torch import Tensor

    from napari_gimp.genes.panel import Aligned
    from napari_gimp.patches.tissue import Tissue

__all__ = ["Event", "MapBegun", "Segmentation", "segment"]

TILES = 8
"""Tiles at once where nobody said how many."""


@dataclass(frozen=True, slots=True)
class MapBegun:
    """The map's folder is there and will fill: OME-Zarr that can be opened now."""

    path: Path
    grid: Grid


@dataclass(frozen=True, slots=True, eq=False)
class Segmentation:
    """What segmenting a slide found; the map itself is on disk.

    Parameters
    ----------
    request
        What was asked for.
    model, sample
        The model's card, and the patient's sample; None for "slide only".
    classes
        Names of the map's channels.
    threshold
        At and above it a pixel counts as of a class.
    area_mm2
        Area of each class, counted on the map's finest level over all that tiles
        cover; a background's includes the glass about the tissue.
    tissue_mm2
        Area of the tissue that was found.
    tiles
        Number of tiles the model saw.
    grid
        Place of the map's finest level.
    mpp, corner_px
        Of the slide: um/px (y, x), and where its scanned part begins.
    genes
        How many of the panel's genes the profile has; None for "slide only".
    warnings
        What a reader must know before trusting it.
    seconds, versions
        When and with what it was made.
    plan
        What was asked of where to look, see `PatchPlan.record`.
    """

    request: Request
    model: ModelSummary
    sample: str | None
    classes: tuple[str, ...]
    threshold: float
    area_mm2: Mapping[str, float]
    tissue_mm2: float
    tiles: int
    grid: Grid
    mpp: tuple[float, float]
    corner_px: tuple[int, int]
    genes: int | None
    warnings: tuple[str, ...]
    seconds: Mapping[str, float]
    versions: Mapping[str, str]
    plan: Mapping[str, object] = field(default_factory=dict)


Event = Progress | Warned | MapBegun | Segmentation


def segment(request: Request, store: Path, *, threshold: float) -> Iterator[Event]:
    """Segment a slide, with or without genes.

    Parameters
    ----------
    request
        Slide, genes and a fine-tuned MGI checkpoint; `batch_size` counts tiles,
        8 where it is None.
    store
        The OME-Zarr folder to make.
    threshold
        Probability from which a pixel counts as of a class, 0 (exclusive) to 1.

    Yields
    ------
    Event
        Warnings, `MapBegun`, progress by tiles, and `Segmentation` at last.

    Raises
    ------
    GimpError
        If model, slide, genes, threshold, batch size or device cannot be used.
    """
    from napari_gimp.patches.brightfield import check_brightfield
    from napari_gimp.slide.source import open_slide

    _check(request, threshold)
    clock = Clock()
    with clock("model"):
        setting = _prepare(request)
    opened = open_slide(request.slide, mpp=request.mpp, srgb=request.srgb)
    with closing(opened) as source:
        check_brightfield(source)
        yield from _Run(setting, source, clock, store, threshold).events()


@dataclass(frozen=True, slots=True, eq=False)
class _Setting:
    """A request's model and genes, ready for use."""

    request: Request
    name: str
    checkpoint: Checkpoint[Mgi]
    sample: str | None
    aligned: Aligned | None
    device: str


def _prepare(request: Request) -> _Setting:
    from gimp_models.checkpoint import load_as
    from gimp_models.mgi import Mgi

    folder, device = resolve_model(request.model), pick_device(request.device)
    checkpoint = load_as(folder, Mgi, device=device)
    if checkpoint.card.stage == "pretrain":
        raise CheckpointError(
            f"The model '{folder.name}' is pre-trained only: its decoder has not "
            "learned to draw a mask. Fine-tune it on regions with masks first."
        )
    sample, aligned = read_genes(request, checkpoint.card)
    return _Setting(request, folder.name, checkpoint, sample, aligned, device)


class _Run:
    """One segmentation under way."""

    def __init__(
        self,
        setting: _Setting,
        source: SlideSource,
        clock: Clock,
        store: Path,
        threshold: float,
    ) -> None:
        self.setting, self.source, self.clock = setting, source, clock
        self.store, self.threshold = store, threshold
        self.card = setting.checkpoint.card
        self.plan = setting.request.plan.record()  # now: a file may change later
        self.areas = np.zeros(len(self.card.classes))

    def events(self) -> Iterator[Event]:
        """Find the tissue, run over it, and tell what was found."""
        with self.clock("tissue"):
            tissue, told = self._tissue()
        yield from map(Warned, told)
        plan, grid = plan_over(self.source, tissue, self._tile_px, self.card.mpp)
        if not plan.tiles:
            raise PatchError(
                f"No tissue was found on {self.source.path.name}, so there is nothing "
                "to segment. Give an H&E slide with tissue on it."
            )
        writer = MapWriter(self.store, grid, self.card.classes, self.source.mpp)
        yield MapBegun(self.store, grid)
        with self.clock("segmentation"):
            yield from self._fill(plan, writer)
        yield self._segmentation(tissue, plan, grid)

    @property
    def _tile_px(self) -> int:
        return self.setting.checkpoint.model.config.image_px

    def _tissue(self) -> tuple[Tissue, list[str]]:
        tissue = self.setting.request.plan.find_tissue(self.source)
        sharp = checks.about_sharpness(self.card, self.source)
        return tissue, [*sharp, *checks.about_colours(self.card, self.source, tissue)]

    def _fill(self, plan: TilePlan, writer: MapWriter) -> Iterator[Progress]:
        network = _network(self.setting)
        steps = fill(
            self.source,
            plan,
            network,
            self.card.mpp,
            batch_size=self.setting.request.batch_size or TILES,
            device=self.setting.device,
        )
        with closing(steps):
            for done, bands in steps:
                for band in bands:
                    self._write(band, writer)
                yield Progress("segmentation", done, len(plan.tiles))

    def _write(self, band: Band, writer: MapWriter) -> None:
        values = band.values.numpy()
        if band.covered.any():
            self.areas += (values >= self.threshold).sum(axis=(1, 2))
        writer.write(band.top, values)

    def _segmentation(self, tissue: Tissue, plan: TilePlan, grid: Grid) -> Segmentation:
        setting, aligned = self.setting, self.setting.aligned
        areas = self.areas * grid.cell_um[0] * grid.cell_um[1] / 1e6
        return Segmentation(
            request=setting.request,
            model=summary_of(setting.name, self.card, "none: the model sees pixels"),
            sample=setting.sample,
            classes=self.card.classes,
            threshold=self.threshold,
            area_mm2=dict(zip(self.card.classes, areas.tolist(), strict=True)),
            tissue_mm2=tissue.area_mm2,
            tiles=len(plan.tiles),
            grid=grid,
            mpp=self.source.mpp,
            corner_px=self.source.corner_px,
            genes=None if aligned is None else len(aligned.report.matched),
            warnings=checks.segmentation_warnings(
                self.card, self.source, tissue, aligned
            ),
            seconds=self.clock.seconds,
            versions=versions(),
            plan=self.plan,
        )


def _network(setting: _Setting) -> Network:
    """Return the model for one patient: the genes are encoded once for all tiles."""
    import torch
    from gimp_models.overlap import probabilities
    from gimp_models.region import Region, collate_regions

    model, aligned = setting.checkpoint.model, setting.aligned
    side = model.config.image_px
    genes = None if aligned is None else torch.from_numpy(aligned.z)
    patient = collate_regions([Region(torch.zeros(3, side, side), genes)])
    with torch.inference_mode():
        encoded = model.encode_genes(patient.to(setting.device))

    def network(images: Tensor) -> Tensor:
        tiles = collate_regions([Region(image) for image in images])
        with torch.inference_mode():
            grid = model.encode_images(tiles.to(images.device))
            same = _repeated(encoded, len(images))
            size = images.shape[-2], images.shape[-1]
            logits, _ = model.segment(grid, same, size)
            return probabilities(logits)

    return network


def _repeated(encoded: GeneSequence, count: int) -> GeneSequence:
    """Return one patient's encoded genes (1,...) for `count` tiles, without a copy."""
    held = {name: getattr(encoded, name) for name in ("tokens", "mask", "pooled")}
    return replace(
        encoded, **{k: t.expand(count, *t.shape[1:]) for k, t in held.items()}
    )


def _check(request: Request, threshold: float) -> None:
    if request.batch_size is not None and request.batch_size < 1:
        raise GimpError(
            f"The batch size is {request.batch_size}; it counts tiles and must be at "
            "least 1. 8 is usual."
        )
    if not 0 < threshold <= 1:
        raise GimpError(
            f"The threshold is {threshold:g}; it is a probability and must be above 0 "
            "and at most 1. Give 0.5 where nothing speaks for another."
        )
