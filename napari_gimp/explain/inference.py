"""Slide, genes and a model in; maps, attributions and a prediction out, as a stream.

`analyse` is a plain generator: it knows no threads and no widgets, can be closed
between any two events, and says early what it knows. Partial maps are honest: they
hold what the model says about the patches read so far (attention), the path behind
(contribution) or the blocks done (reconstruction), and are marked as not final.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from napari_gimp.explain import checks, pictures, prediction
from napari_gimp.explain.clock import Clock, versions
from napari_gimp.explain.maps import Cells, Floats, PatchMap, cells_of
from napari_gimp.explain.reconstruction import Hidden, reconstruct
from napari_gimp.explain.result import GeneAttribution, IccUse, PatchTable, Result
from napari_gimp.explain.setting import Request, Setting, prepare, summary

if TYPE_CHECKING:
    from gimp_models.bag import Bag, Batch

    from napari_gimp.patches.extract import Extracted
    from napari_gimp.patches.features import PatchFeatures
    from napari_gimp.patches.grid import PatchGrid
    from napari_gimp.patches.tissue import Tissue
    from napari_gimp.slide.source import SlideSource

__all__ = [
    "Event",
    "Finished",
    "GenesReady",
    "MapReady",
    "Progress",
    "Request",
    "Warned",
    "analyse",
]

PARTIAL_MAPS = 10
"""Attention is shown about so often while features come in."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a stage is: `done` of `total` steps."""

    stage: str
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Warned:
    """What makes the result doubtful and is known early; also in the result."""

    text: str


@dataclass(frozen=True, slots=True, eq=False)
class MapReady:
    """A map, or what is known of it so far (`final` False)."""

    map: PatchMap
    final: bool


@dataclass(frozen=True, slots=True, eq=False)
class GenesReady:
    """The gene attribution."""

    genes: GeneAttribution


@dataclass(frozen=True, slots=True, eq=False)
class Finished:
    """The last event: everything together."""

    result: Result


Event = Progress | Warned | MapReady | GenesReady | Finished


def analyse(request: Request) -> Iterator[Event]:
    """Analyse a slide, with or without genes.

    Parameters
    ----------
    request
        What to analyse.

    Yields
    ------
    Event
        Progress of each stage, maps as they fill, genes, and `Finished` at last.

    Raises
    ------
    GimpError
        If model, slide, genes or device cannot be used; the text says what to do.
    """
    from napari_gimp.patches.brightfield import check_brightfield
    from napari_gimp.slide.source import open_slide

    clock = Clock()
    yield Progress("model", 0, 1)
    with clock("model"):
        setting = prepare(request)
    yield Progress("model", 1, 1)
    opened = open_slide(request.slide, mpp=request.mpp, srgb=request.srgb)
    with closing(opened) as source:
        check_brightfield(source)
        analysis = _Analysis(setting, source, clock)
        yield from analysis.events()


class _Analysis:
    """One analysis under way: each stage leaves what the next ones need."""

    plan: Mapping[str, object]
    planned: PatchFeatures
    tissue: Tissue
    patches: PatchGrid
    cells: Cells
    features: Floats
    bag: Bag
    batch: Batch
    answer: prediction.Answer
    hidden: Hidden
    genes: GeneAttribution | None = None

    def __init__(self, setting: Setting, source: SlideSource, clock: Clock) -> None:
        self.setting, self.source, self.clock = setting, source, clock
        self.model = setting.checkpoint.model
        self.maps: dict[str, PatchMap] = {}
        self.columns: dict[str, Floats] = {}
        self.gaps: dict[str, float] = {}

    def events(self) -> Iterator[Event]:
        """Run all stages in turn."""
        stages = {
            "tissue": self._find_patches,
            "patch features": self._extract,
            "prediction": self._predict,
            "gene attribution": self._attribute,
            "patch contribution": self._contribute,
            "masked reconstruction": self._reconstruct,
        }
        for name, stage in stages.items():
            with self.clock(name):
                yield from stage(name)
        yield Progress("pictures", 0, 1)
        with self.clock("pictures"):
            result = self._result()
        yield Progress("pictures", 1, 1)
        yield Finished(replace(result, seconds=self.clock.seconds))

    def _find_patches(self, stage: str) -> Iterator[Event]:
        from napari_gimp.patches.features import plan_features
        from napari_gimp.patches.store import FeatureStore
        from napari_gimp.patches.tissue import find_tissue

        yield Progress(stage, 0, 1)
        request, card = self.setting.request, self.setting.checkpoint.card
        store = None if request.store is None else FeatureStore(request.store)
        self.plan = request.plan.record()  # now: a file may change while this runs
        self.planned = plan_features(
            self.source, self.setting.encoder, request.plan, store
        )
        self.patches = self.planned.patches
        self.cells = cells_of(self.patches, self.planned.stride_um)
        self.tissue = self.planned.tissue or find_tissue(self.source)
        for text in checks.about_colours(card, self.source, self.tissue):
            yield Warned(text)
        yield Progress(stage, 1, 1)

    def _extract(self, stage: str) -> Iterator[Event]:
        """Yield progress, and now and then the attention over the patches at hand."""
        shown, setting = 0, self.setting
        steps = self.planned.extract(
            batch_size=setting.request.batch_size, device=setting.device
        )
        with closing(steps):  # ends its threads early too
            for step in steps:
                yield Progress(stage, step.done, step.total)
                if shown + step.total / PARTIAL_MAPS <= step.done < step.total:
                    shown = step.done
                    yield MapReady(self._attention_so_far(step), final=False)
        self.features = step.features

    def _attention_so_far(self, step: Extracted) -> PatchMap:
        from gimp_models.bag import collate

        known = slice(0, step.done)
        coords = self.patches.coords_um[known]
        bag = prediction.make_bag(self.setting, coords, step.features[known])
        values = np.full(step.total, np.nan, dtype=np.float32)
        values[known] = prediction.attention_so_far(self.model, collate([bag]))
        return self._map("attention", values)

    def _predict(self, stage: str) -> Iterator[Event]:
        from gimp_models.bag import collate

        yield Progress(stage, 0, 1)
        coords = self.patches.coords_um
        self.bag = prediction.make_bag(self.setting, coords, self.features)
        self.batch = collate([self.bag])
        self.answer = prediction.predict(self.model, self.batch)
        yield Progress(stage, 1, 1)
        yield self._final("attention", self.answer.attention)

    def _attribute(self, stage: str) -> Iterator[Event]:
        aligned, card = self.setting.aligned, self.setting.checkpoint.card
        if aligned is None:
            return
        target = self.answer.target
        for part in prediction.attributions(self.model, self.batch, target):
            yield Progress(stage, round(100 * part.done), 100)
        self.gaps["genes"] = part.gap
        attribution = part.attribution.cpu().numpy()
        name = card.classes[target]
        self.genes = GeneAttribution(
            card.genes, attribution, aligned.z, aligned.present, name, part.gap
        )
        yield GenesReady(self.genes)

    def _contribute(self, stage: str) -> Iterator[Event]:
        yield Progress(stage, 0, 100)
        target = self.answer.target
        for part in prediction.contributions(self.model, self.batch, target):
            values = part.attribution.cpu().numpy()
            yield Progress(stage, round(100 * part.done), 100)
            yield MapReady(self._map("contribution", values), final=False)
        self.gaps["patches"] = part.gap
        yield self._final("contribution", values)

    def _reconstruct(self, stage: str) -> Iterator[Event]:
        for hidden in reconstruct(self.model, self.bag):
            yield Progress(stage, hidden.done, hidden.total)
            so_far = self._map("reconstruction_error", hidden.error)
            yield MapReady(so_far, final=False)
        self.hidden = hidden
        yield self._final("reconstruction_error", hidden.error)

    def _map(self, name: str, values: Floats) -> PatchMap:
        return self.cells.lay(name, values)

    def _final(self, name: str, values: Floats) -> MapReady:
        self.columns[name] = values
        self.maps[name] = self._map(name, values)
        return MapReady(self.maps[name], final=True)

    def _table(self) -> PatchTable:
        return PatchTable(
            self.cells.grid,
            self.cells.index,
            self.patches.coords_um,
            self.patches.patch_um,
            self.features,
            self.columns,
            self.plan,
        )

    def _warnings(self) -> tuple[str, ...]:
        return checks.warnings(
            self.setting.checkpoint.card,
            self.source,
            self.tissue,
            self.setting.aligned,
            self.features,
            self.model.feature_mean.cpu().numpy(),
        )

    def _result(self) -> Result:
        decoder = self.setting.checkpoint.decoder
        gallery, origin = pictures.gallery(
            self.model, decoder, self.source, self.patches, self.bag, self.hidden
        )
        table, overview = self._table(), pictures.overview_of(self.source)
        hot = pictures.hot_patches(
            self.source, self.patches, table.columns["contribution"]
        )
        return Result(
            slide=self.setting.request.slide,
            sample=self.setting.sample,
            mpp=self.source.mpp,
            mpp_origin=self.source.resolution.origin,
            mpp_verified=self.source.resolution.verified,
            size_px=self.source.levels[0].shape,
            corner_px=self.source.corner_px,
            model=summary(self.setting),
            classes=self.setting.checkpoint.card.classes,
            probabilities=self.answer.probabilities,
            slide_only=self.answer.slide_only,
            target=self.answer.target,
            share=self.answer.share,
            maps=self.maps,
            genes=self.genes,
            patches=table,
            hot=hot,
            examples=gallery,
            decoder=origin,
            warnings=self._warnings(),
            gaps=self.gaps,
            overview=overview,
            seconds={},
            versions=versions(),
            icc=_icc(self.source),
            damaged_tiles=len(self.source.damage),
            reader=self.source.reader,
        )


def _icc(source: SlideSource) -> IccUse:
    if source.icc is None:
        return "none"
    return "applied" if source.srgb else "embedded, not applied"
