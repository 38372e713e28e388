"""What one viewer is working on: the only mutable object of the plugin.

Docks assign whole values and listen to `events`; they never call each other. A
running analysis arrives here event by event on the main thread; answers of an
older request are dropped by number.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from re import findall, fullmatch
from typing import TYPE_CHECKING, Any, ClassVar

from psygnal import SignalGroupDescriptor

from napari_gimp.geometry import YX
from napari_gimp.jobs import Job
from napari_gimp.layers import Display, PickedPatch, patch_at
from napari_gimp.patches.plan import PatchPlan

if TYPE_CHECKING:
    from napari_gimp.explain.inference import Event, Progress
    from napari_gimp.explain.maps import PatchMap
    from napari_gimp.explain.result import GeneAttribution, Result
    from napari_gimp.genes.panel import Panel
    from napari_gimp.genes.table import Profile
    from napari_gimp.patches.grid import PatchGrid
    from napari_gimp.patches.tissue import Tissue

IDENTITY = (
    *("job", "progress", "maps", "attribution", "result", "error"),
    *("profile", "panel", "tissue", "patches"),
)


@dataclass(eq=False)
class Session:
    """The state of one viewer.

    Parameters
    ----------
    slide
        The slide file to analyse.
    mpp
        um per level-0 pixel (y, x) of that slide; None until it is known.
    srgb
        Whether that slide's colours are converted from its profile to sRGB.
    profile
        Expression of the sample that is chosen for the slide, None for slide only.
    panel
        Genes of the chosen model, None if it takes none.
    plan
        Where patches are laid. Its files belong to that slide.
    tissue
        The tissue that was found with the plan; None until it is known.
    patches
        The patches of the chosen model on it; None until they are known.
    job
        The running analysis, None when idle.
    progress
        The last progress event of the running analysis.
    warnings
        What makes the result of the running analysis doubtful, as far as known.
    maps
        Patch maps by name; they fill in while the analysis runs.
    shown
        Name of the map on display, None for no map.
    display
        How maps are shown.
    attribution
        Gene attribution of the last analysis.
    result
        Result of the last finished analysis.
    patch
        The patch that was clicked.
    error
        Why the last analysis failed.

    Raises
    ------
    ValueError
        If `shown` names no map, or `mpp` is not larger than 0.
    """

    events: ClassVar[SignalGroupDescriptor] = SignalGroupDescriptor(
        equality_operators=dict.fromkeys(IDENTITY, operator.is_)
    )

    slide: Path | None = None
    mpp: YX | None = None
    srgb: bool = False
    profile: Profile | None = None
    panel: Panel | None = None
    plan: PatchPlan = field(default_factory=PatchPlan)
    tissue: Tissue | None = None
    patches: PatchGrid | None = None
    job: Job[Event] | None = None
    progress: Progress | None = None
    warnings: tuple[str, ...] = ()
    maps: Mapping[str, PatchMap] = field(default_factory=dict)
    shown: str | None = None
    display: Display = field(default_factory=Display)
    attribution: GeneAttribution | None = None
    result: Result | None = None
    patch: PickedPatch | None = None
    error: Exception | None = None

    def __post_init__(self) -> None:
        self.events.shown.connect(self._pick_again)
        self.events.maps.connect(self._pick_again)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "shown" and value is not None and value not in self.maps:
            raise ValueError(f"shown must be one of {sorted(self.maps)}, got {value!r}")
        if name == "mpp" and value is not None and not min(value) > 0:
            raise ValueError(f"mpp must be larger than 0 um/px, got {value}")
        super().__setattr__(name, value)

    @property
    def shown_map(self) -> PatchMap | None:
        """The map on display."""
        return None if self.shown is None else self.maps[self.shown]

    def analyse(self, events: Callable[[], Iterator[Event]]) -> Job[Event]:
        """Start an analysis; a running one is cancelled and its answers dropped."""
        self.cancel()
        self._forget_results()
        job = Job(events)
        job.event.connect(partial(self._absorb, job.number), thread="main")
        job.failed.connect(partial(self._fail, job.number), thread="main")
        job.finished.connect(partial(self._end, job.number), thread="main")
        job.cancelled.connect(partial(self._end, job.number), thread="main")
        self.job = job
        return job.start()

    def cancel(self) -> None:
        """Ask the running analysis to end."""
        if self.job is not None:
            self.job.cancel()

    def forget_slide(self) -> None:
        """Drop all that belonged to the slide, as when another one is chosen.

        Of the plan only its numbers stay: masks and annotations are of one slide.
        """
        self.cancel()
        self.job = self.tissue = self.patches = None
        self.plan = PatchPlan(self.plan.stride_um, self.plan.min_tissue)
        self._forget_results()

    def pick(self, y_um: float, x_um: float) -> PickedPatch | None:
        """Select the patch of the shown map under a point of the slide."""
        shown = self.shown_map
        self.patch = None if shown is None else patch_at(shown, y_um, x_um)
        return self.patch

    def _pick_again(self) -> None:
        """Read the same place in the map that is shown now."""
        if self.patch is not None:
            self.pick(*self.patch.center_um)

    def _forget_results(self) -> None:
        self.shown = self.patch = self.error = None
        self.result = self.attribution = self.progress = None
        self.warnings = ()
        if self.maps:
            self.maps = {}

    def _absorb(self, number: int, event: Event) -> None:
        from napari_gimp.explain import inference

        if not self._is_current(number):
            return
        match event:
            case inference.Progress():
                self.progress = event
            case inference.Warned(text=text):
                self.warnings = (*self.warnings, text)
            case inference.MapReady(map=patch_map):
                self._take_map(patch_map)
            case inference.GenesReady(genes=genes):
                self.attribution = genes
            case inference.Finished(result=result):
                self._take_result(result)

    def _take_map(self, patch_map: PatchMap) -> None:
        self.maps = {**self.maps, patch_map.name: patch_map}
        if self.shown is None:
            self.shown = patch_map.name

    def _take_result(self, result: Result) -> None:
        self.maps = dict(result.maps)
        if self.shown not in self.maps:
            self.shown = next(iter(self.maps), None)
        self.attribution = result.genes
        self.result = result

    def _fail(self, number: int, error: Exception) -> None:
        if self._is_current(number):
            self.error = error
            self.job = None

    def _end(self, number: int) -> None:
        if self._is_current(number):
            self.job = None

    def _is_current(self, number: int) -> bool:
        return self.job is not None and self.job.number == number


def guess_sample(slide_name: str, samples: tuple[str, ...]) -> str | None:
    """Return the sample that a slide's name stands for, None if none is near.

    All words of the sample must stand in the name, in a row; the longest wins. Names
    that merely look alike are other patients: 0001 and 0002, A1 and A10.
    """
    name = _words(slide_name)
    inside = [s for s in samples if _words(s).strip() and _words(s) in name]
    return max(inside, key=len, default=None)


def _words(name: str) -> str:
    """Return letters and digits in lower case, one blank at every other place."""
    return " ".join(["", *findall(r"[^\W_]+", name.lower()), ""])


def looks_like_spots(samples: tuple[str, ...]) -> bool:
    """Whether rows are named like spots of one section ("10x13"), not patients."""
    return len(samples) > 1 and all(fullmatch(r"\d+x\d+", s) for s in samples)
