"""The Results dock: what the model says, with and without genes, and the patch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_gimp._qt.bars import BarTable
from napari_gimp._qt.parts import Dock, Notice, quiet
from napari_gimp._qt.scene import scene_of
from napari_gimp._qt.wording import duration, ordinal, resolution, value

if TYPE_CHECKING:
    from napari_gimp.explain.maps import PatchMap
    from napari_gimp.explain.result import Result
    from napari_gimp.layers import PickedPatch

NO_RESULT = "There is no result yet. Run an analysis in the Analyse dock."
RUNNING = "The analysis is running; the result comes at its end."
NO_PATCH = "Click on a map in the canvas to read the value of a patch."


class ResultsDock(Dock):
    """Class probabilities, shares of slide and genes, warnings, the clicked patch.

    Parameters
    ----------
    napari_viewer
        The viewer, or napari's proxy of it.
    """

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__()
        self.session = scene_of(napari_viewer).session
        self._build()
        events = self.session.events
        self.hear(events.result, self._show_result)
        self.hear(events.job, self._show_result)
        for signal in (events.patch, events.shown, events.maps):
            self.hear(signal, self._show_patch)
        self._show_result()
        self._show_patch()

    def _build(self) -> None:
        self.section("Prediction")
        self.hint, self.classes = Notice(), BarTable()
        self.headline = quiet()
        self.add(self.hint, self.headline, self.classes)
        self.section("What it rests on")
        self.share, self.origin = BarTable(), quiet()
        self.warnings = Notice()
        self.add(self.share, self.origin, self.warnings)
        self.section("Patch")
        self.patch = quiet()
        self.add(self.patch)
        self.fill()

    def _show_result(self) -> None:
        result = self.session.result
        waiting = RUNNING if self.session.job else NO_RESULT
        self.hint.say("" if result else waiting)
        self.warnings.say("\n".join(result.warnings) if result else "", "warning")
        self.headline.setText(headline(result) if result else "")
        self.origin.setText(origin(result) if result else "")
        for table in (self.classes, self.share):
            table.setVisible(result is not None)
        if result is not None:
            self.classes.fill(*class_table(result), strong=result.target)
            self.share.fill(*share_table(result))

    def _show_patch(self) -> None:
        patch, shown = self.session.patch, self.session.shown_map
        text = patch_text(patch, shown) if patch and shown else NO_PATCH
        self.patch.setText(text)


def headline(result: Result) -> str:
    """Return the sentence above the bars."""
    rest = "slide and genes" if result.with_genes else "the slide only"
    chance = 100 * float(result.probabilities[result.target])
    return f"{result.class_name}, {chance:.1f} %, from {rest} (research use only)"


def class_table(result: Result) -> tuple[list[str], list[tuple[str, list[float]]]]:
    """Return columns and rows of the probabilities."""
    if not result.with_genes:
        alone = [[float(p)] for p in result.slide_only]
        return ["Slide only"], list(zip(result.classes, alone, strict=True))
    pairs = zip(result.slide_only, result.probabilities, strict=True)
    both = [[float(a), float(b)] for a, b in pairs]
    return ["Slide only", "Slide + genes"], list(zip(result.classes, both, strict=True))


def share_table(result: Result) -> tuple[list[str], list[tuple[str, list[float]]]]:
    """Return columns and rows of the modalities' shares."""
    if result.share is None:
        return ["Share of the change"], [("Slide", [1.0])]
    slide = result.share.slide_fraction
    rows = [("Slide", [slide]), ("Genes", [1 - slide])]
    return ["Share of the change (Shapley)"], rows


def origin(result: Result) -> str:
    """Return slide, model, resolution and time in a few lines."""
    trust = "" if result.mpp_verified else ", unverified"
    lines = [
        f"Slide: {result.slide.name}",
        f"Resolution: {resolution(result.mpp)} ({result.mpp_origin}{trust})",
        f"Sample: {result.sample or 'none'}",
        f"Patches: {len(result.patches):,} of {result.patches.patch_um:g} µm",
        f"Model: {result.model.name} ({result.model.stage}), {result.model.licence}",
        f"Time: {duration(sum(result.seconds.values()))}",
    ]
    return "\n".join(lines)


def patch_text(patch: PickedPatch, shown: PatchMap) -> str:
    """Return position, value, percentile and rank of the clicked patch."""
    y, x = patch.center_um
    number = value(patch.value, shown.unit, signed=shown.signed)
    return (
        f"{shown.title}: {number}\n"
        f"{ordinal(patch.percentile)} percentile, rank {patch.rank:,} of "
        f"{patch.count:,} (1 is the highest)\n"
        f"Centre: x {x:,.1f} µm, y {y:,.1f} µm\n"
        f"Grid: row {patch.row}, column {patch.col}"
    )
