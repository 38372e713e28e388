"""How many patches a plan gives, what they will take, and what to do if none. No Qt."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_gimp._qt.tissue_drawing import Drawing, squares
from napari_gimp._qt.wording import duration
from napari_gimp.errors import PatchError
from napari_gimp.patches.encoders.imported import PREFIX
from napari_gimp.patches.estimate import Estimate, estimate
from napari_gimp.patches.plan import PatchPlan
from napari_gimp.patches.regions import INSIDE, OUTSIDE

if TYPE_CHECKING:
    from napari_gimp.patches.encoders.registry import EncoderFacts
    from napari_gimp.patches.grid import PatchGrid
    from napari_gimp.patches.tissue import Tissue

LOWER = (0.4, 0.3, 0.2, 0.1, 0.05, 0.0)
"""Least parts of tissue that are offered where a higher one leaves no patch."""
LEFT_IN_MM2 = 1e-6


@dataclass(frozen=True, slots=True)
class Seen:
    """What a model's card says of the encoder it sees patches through.

    Parameters
    ----------
    name
        What `load_encoder` takes.
    fingerprint
        Hex digest of its content.
    width
        Features per patch.
    mpp
        um/px at which it looks.
    patch_um
        Side of a patch, um.
    """

    name: str
    fingerprint: str
    width: int
    mpp: float
    patch_um: float

    @property
    def input_px(self) -> int:
        """Side of a patch, px."""
        return round(self.patch_um / self.mpp)

    @property
    def is_imported(self) -> bool:
        """Whether its features came from another tool, patches and all."""
        return self.name.startswith(PREFIX)


@dataclass(frozen=True, slots=True)
class Remedy:
    """One click that would leave patches.

    Parameters
    ----------
    text
        What stands on the button.
    plan
        The relaxed plan; None for "take the whole slide".
    """

    text: str
    plan: PatchPlan | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Counted:
    """What a plan gives on a slide.

    Parameters
    ----------
    patches
        The patches; None where none is left.
    estimate
        What they will take.
    drawing
        Their preview, if it was asked for.
    shortage
        Why none is left, "" if some are.
    remedy
        What would leave some.
    """

    patches: PatchGrid | None = None
    estimate: Estimate | None = None
    drawing: Drawing | None = None
    shortage: str = ""
    remedy: Remedy | None = None


def seen_by(card: dict[str, Any]) -> Seen | None:
    """Return the encoder of a model's card, None where the card does not say."""
    said = card.get("encoder")
    try:
        assert isinstance(said, dict)
        return Seen(
            str(said["name"]),
            str(said["fingerprint"]),
            int(said["width"]),
            float(card["mpp"]),
            float(card["patch_um"]),
        )
    except (AssertionError, KeyError, TypeError, ValueError):
        return None


def count(
    tissue: Tissue, plan: PatchPlan, seen: Seen, store: Path, *, preview: bool
) -> Counted:
    """Lay the patches and estimate what they will take.

    Parameters
    ----------
    tissue
        The tissue of the slide.
    plan
        Stride and least tissue; its files only name what took the tissue.
    seen
        The encoder.
    store
        Folder that keeps features.
    preview
        Whether to draw the patches.
    """
    from napari_gimp.explain.setting import pick_device
    from napari_gimp.patches.store import FeatureStore

    try:
        patches = plan.lay(tissue, seen.patch_um)
    except PatchError as error:
        return Counted(
            shortage=f"{str(error)[:1].upper()}{str(error)[1:]}",
            remedy=remedy_for(tissue, plan, seen.patch_um),
        )
    expected = estimate(
        len(patches), seen, device=pick_device("auto"), store=FeatureStore(store)
    )
    return Counted(patches, expected, squares(patches) if preview else None)


def remedy_for(tissue: Tissue, plan: PatchPlan, patch_um: float) -> Remedy | None:
    """Return what to relax so that patches are left, None where nothing would help."""
    if min(tissue.grid.rect.size_um) < patch_um:
        return None
    if tissue.area_mm2 > LEFT_IN_MM2:
        for least in LOWER:
            if least < plan.min_tissue and _leaves(tissue, plan, least, patch_um):
                text = f"Accept patches with at least {least:.0%} tissue"
                return Remedy(text, replace(plan, min_tissue=least))
    if tissue.excluded.get(OUTSIDE, 0) > LEFT_IN_MM2:
        unlimited = replace(plan, include=(), include_labels=())
        return Remedy("Do not limit to the annotations", unlimited)
    if tissue.excluded.get(INSIDE, 0) > LEFT_IN_MM2:
        uncut = replace(plan, exclude=(), exclude_labels=())
        return Remedy("Leave nothing out by annotations", uncut)
    if plan.tissue is not None:
        return Remedy("Find the tissue automatically", replace(plan, tissue=None))
    return Remedy("Take the whole slide as tissue")


def _leaves(tissue: Tissue, plan: PatchPlan, least: float, patch_um: float) -> bool:
    try:
        replace(plan, min_tissue=least).lay(tissue, patch_um)
    except PatchError:
        return False
    return True


def count_line(patches: int, expected: Estimate) -> str:
    """Return how many patches there are and what they take, in one line."""
    seconds = expected.seconds
    time = "time unknown" if seconds is None else f"about {duration(max(seconds, 1))}"
    memory, disk = (_bytes(n) for n in (expected.memory_bytes, expected.disk_bytes))
    noun = "patch" if patches == 1 else "patches"
    return f"{patches:,} {noun} · {time} · {memory} memory · {disk} on disk"


def patch_line(seen: Seen) -> str:
    """Return how large a patch is and how it is seen."""
    return f"{seen.patch_um:g} µm: {seen.input_px} px at {seen.mpp:g} µm/px"


def encoder_line(seen: Seen, facts: EncoderFacts | None) -> str:
    """Return what makes the features of a patch."""
    made = f"{seen.width:,} features per patch"
    if seen.is_imported:
        name = seen.name.removeprefix(PREFIX).rpartition(":")[0]
        return f"{name}: {made}, made by another tool"
    licence = "" if facts is None else f", licence {facts.licence}"
    return f"{seen.name}: {made}{licence}"


def facts_about(seen: Seen) -> EncoderFacts | None:
    """Return what is known of an encoder by its name, None if nothing is."""
    from napari_gimp.patches.encoders import encoder_facts

    plain = seen.name.partition("=")[0].partition("@")[0]
    return next((facts for facts in encoder_facts() if facts.name == plain), None)


def _bytes(number: int) -> str:
    for size, unit in ((1e9, "GB"), (1e6, "MB")):
        if number >= size:
            part = number / size
            return f"{part:.1f} {unit}" if part < 10 else f"{part:.0f} {unit}"
    return f"{max(number / 1e3, 1):.0f} kB"
