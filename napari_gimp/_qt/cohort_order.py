"""What a dock asks of a cohort: checks, features, and the command that does the same.

No Qt. Both iterators run on a job's thread.
"""

from __future__ import annotations

import shlex
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from napari_gimp.cohorts.states import SlideState, State
from napari_gimp.patches.plan import PatchPlan

if TYPE_CHECKING:
    from napari_gimp.cohorts.extraction import Recipe
    from napari_gimp.cohorts.manifest import Entry


@dataclass(frozen=True, slots=True)
class Listed:
    """The slides that a manifest or a folder names."""

    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Order:
    """Features to be made.

    Parameters
    ----------
    slides
        Manifest, slide or folder.
    encoder
        What `load_encoder` takes.
    store
        Folder of the feature store.
    plan
        Where patches lie; areas may be folders with a file for each slide.
    srgb
        Convert colours from the slides' profiles.
    scheduler
        Address of a dask cluster; "" computes here.
    """

    slides: Path
    encoder: str
    store: Path
    plan: PatchPlan = field(default_factory=PatchPlan)
    srgb: bool = False
    scheduler: str = ""

    @property
    def command(self) -> str:
        """The command that does the same, to be pasted into a terminal."""
        words = ["napari-gimp", "features", str(self.slides), "--out", str(self.store)]
        words += ["--encoder", self.encoder, *_plan_words(self.plan)]
        words += ["--srgb"] if self.srgb else []
        words += ["--scheduler", self.scheduler] if self.scheduler else []
        return shlex.join(words)

    def recipe(self, fingerprint: str = "", device: str = "auto") -> Recipe:
        """Return how features are made; checks need no fingerprint."""
        from napari_gimp.cohorts.extraction import Recipe

        return Recipe(
            self.encoder,
            fingerprint,
            self.store.expanduser().resolve(),
            device=device,
            srgb=self.srgb,
            plan=self.plan,
        )


def check(order: Order) -> Iterator[Listed | SlideState]:
    """Yield the slides, then what opening each showed: QUEUED, or FAILED and why.

    Raises
    ------
    CohortError
        If the manifest cannot be used, patients share a slide, or no slide has a
        class that is to be left out.
    """
    from napari_gimp.cohorts.inspection import check_leaks, inspect_slides
    from napari_gimp.cohorts.listing import list_slides
    from napari_gimp.cohorts.plans import check_exclusions

    entries = list_slides([order.slides])
    yield Listed(entries)
    check_exclusions(entries, order.plan)
    found = []
    for number, one in enumerate(inspect_slides(entries, order.recipe())):
        found.append(one)
        end = State.FAILED if one.error else State.QUEUED
        yield SlideState(number, end, text=one.error)
    check_leaks(found)


def extract(order: Order, entries: Sequence[Entry]) -> Generator[SlideState]:
    """Make the features of slides, as `napari-gimp features` does.

    Raises
    ------
    GimpError
        If the encoder cannot be had, or no cluster answers.
    """
    from napari_gimp.cohorts.cluster import connected
    from napari_gimp.cohorts.extraction import loaded_encoder
    from napari_gimp.cohorts.features import extract_manifest
    from napari_gimp.explain.setting import pick_device

    device = "auto" if order.scheduler else pick_device("auto")
    recipe = order.recipe(loaded_encoder(order.encoder).fingerprint, device)
    workers = connected(order.scheduler) if order.scheduler else nullcontext()
    with (
        workers as cluster,
        closing(extract_manifest(entries, recipe, cluster=cluster)) as steps,
    ):
        yield from steps


def _plan_words(plan: PatchPlan) -> list[str]:
    words = [] if plan.stride_um is None else ["--stride", f"{plan.stride_um:g}"]
    if plan.min_tissue != PatchPlan().min_tissue:
        words += ["--min-tissue", f"{plan.min_tissue:g}"]
    for option, values in (
        ("--include", plan.include),
        ("--exclude", plan.exclude),
        ("--include-class", plan.include_labels),
        ("--exclude-class", plan.exclude_labels),
    ):
        words += [word for value in values for word in (option, str(value))]
    return words
