"""Finding a slide's tissue in the background, and keeping what users paint. No Qt.

What a user painted is a file of its own in the config folder, named by the slide's
pixels: no name of a patient, and found again when the slide is opened the next time.
Every state is a new file, so that a run that reads one is never overtaken.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from napari_gimp._qt.tissue_drawing import Drawing, outline
from napari_gimp.errors import GimpError, PatchError
from napari_gimp.geometry import YX
from napari_gimp.jobs import READ_THREAD, Job
from napari_gimp.patches.plan import PatchPlan, write_mask
from napari_gimp.patches.regions import read_region
from napari_gimp.slide.remembered import config_folder, keep_choices, read_choices
from napari_gimp.slide.source import open_slide

if TYPE_CHECKING:
    from napari_gimp.geometry import Grid
    from napari_gimp.patches.tissue import Tissue
    from napari_gimp.slide.source import SlideSource

T = TypeVar("T")
THREAD = f"{READ_THREAD}-tissue"
CHOSEN_FILE = "painted-tissue.json"
FOLDER = "painted-tissue"
KEPT = 20
"""States of one slide's painted tissue that are kept."""
LEAST_MM2 = 0.01
"""What was left out and is smaller is not worth a word."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which tissue to look for.

    Parameters
    ----------
    slide
        The slide's file.
    mpp
        um per level-0 pixel (y, x) if it is the user's word.
    srgb
        Whether colours are converted.
    plan
        How to look; its `tissue` is the user's own mask.
    recall
        Whether tissue that was painted in an earlier session takes the place.
    """

    slide: Path
    mpp: YX | None
    srgb: bool
    plan: PatchPlan
    recall: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """The tissue of a slide.

    Parameters
    ----------
    plan
        The plan it was found with, with the painted mask that was recalled.
    uncut
        The tissue before annotations take from it: what the brush edits.
    tissue
        The tissue to lay patches on.
    drawing
        Its outline.
    note
        What went wrong on the way, "" if nothing.
    """

    plan: PatchPlan
    uncut: Tissue
    tissue: Tissue
    drawing: Drawing
    note: str = ""


def tissue_job(work: Callable[[], T]) -> Job[T]:
    """Return a job that does the work once, on a thread that keeps no slide waiting."""

    def once() -> Iterator[T]:
        yield work()

    return Job(once, thread=THREAD)


def labels_of(path: Path) -> Mapping[str, int]:
    """Return the classes of annotations with the number of areas or pixels of each.

    Raises
    ------
    GimpError
        If the file is no annotation.
    """
    return read_region(path).labels


def find(wanted: Wanted) -> Found:
    """Look for tissue; reads the slide.

    Raises
    ------
    GimpError
        If slide, mask or annotations cannot be used.
    """
    with closing(_opened(wanted)) as source:
        plan, uncut, note = _uncut(wanted, source)
        return _found(plan, uncut, source, note)


def keep_and_find(wanted: Wanted, uncut: Tissue) -> Found:
    """Keep tissue that the user painted, and look within it.

    Raises
    ------
    GimpError
        If it cannot be written, or annotations cannot be used.
    """
    with closing(_opened(wanted)) as source:
        path = keep_painted(source.fingerprint, uncut.mask, uncut.grid)
        return _found(replace(wanted.plan, tissue=path), uncut, source)


def choose_painted(wanted: Wanted) -> Found:
    """Look for tissue by the plan, and take its mask or none from now on."""
    with closing(_opened(wanted)) as source:
        path = wanted.plan.tissue
        name = "" if path is None else path.name
        keep_choices(CHOSEN_FILE, {_plain(source.fingerprint): name})
        return _found(wanted.plan, wanted.plan.find_uncut(source), source)


def _opened(wanted: Wanted) -> SlideSource:
    return open_slide(wanted.slide, mpp=wanted.mpp, srgb=wanted.srgb)


def _uncut(wanted: Wanted, source: SlideSource) -> tuple[PatchPlan, Tissue, str]:
    """Return the tissue painted earlier, or else what the plan finds, and why."""
    path, note = painted(source.fingerprint) if wanted.recall else None, ""
    if path is not None:
        plan = replace(wanted.plan, tissue=path)
        try:
            return plan, plan.find_uncut(source), note
        except GimpError as error:
            note = f"{error} The tissue was found automatically instead."
    return wanted.plan, wanted.plan.find_uncut(source), note


def _found(
    plan: PatchPlan, uncut: Tissue, source: SlideSource, note: str = ""
) -> Found:
    tissue = plan.narrow(uncut, source)
    return Found(plan, uncut, tissue, outline(tissue.mask, tissue.grid), note)


def keep_painted(fingerprint: str, mask: NDArray[np.bool_], grid: Grid) -> Path:
    """Write a painted mask, remember it for the slide; return its file.

    Raises
    ------
    PatchError
        If it cannot be written.
    """
    folder = config_folder() / FOLDER / _plain(fingerprint)[:32]
    digest = hashlib.sha256(np.packbits(mask).tobytes()).hexdigest()[:16]
    path = folder / f"{digest}.png"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PatchError(
            f"The painted tissue cannot be kept in '{folder}': {error.strerror}. Make "
            "room there, or name another folder in NAPARI_GIMP_CONFIG."
        ) from error
    write_mask(mask, grid, path)
    keep_choices(CHOSEN_FILE, {_plain(fingerprint): path.name})
    _drop_oldest(folder)
    return path


def painted(fingerprint: str) -> Path | None:
    """Return the mask that the user painted for a slide, None if there is none."""
    name = read_choices(CHOSEN_FILE).get(_plain(fingerprint))
    if not isinstance(name, str) or not name:
        return None
    return config_folder() / FOLDER / _plain(fingerprint)[:32] / Path(name).name


def tissue_line(tissue: Tissue, *, painted: bool) -> str:
    """Return how much tissue there is and what was left out, in one sentence."""
    whose = "tissue, painted by you" if painted else "tissue"
    out = sorted(tissue.excluded.items(), key=lambda item: -item[1])
    told = [f"{_mm2(area)} {why}" for why, area in out if area >= LEAST_MM2]
    left = f"; left out: {', '.join(told)}" if told else ""
    much = _mm2(tissue.area_mm2) if tissue.mask.any() else "No"
    return f"{much} {whose}{left}."


def _drop_oldest(folder: Path) -> None:
    files = sorted(folder.glob("*.png"), key=lambda file: file.stat().st_mtime)
    for file in files[:-KEPT]:
        file.unlink(missing_ok=True)


def _plain(fingerprint: str) -> str:
    """Return a fingerprint that does not depend on how colours are shown."""
    return fingerprint.removesuffix("-srgb")


def _mm2(area: float) -> str:
    digits = 0 if area >= 100 else 1 if area >= 10 else 2
    return f"{area:,.{digits}f} mm²"
