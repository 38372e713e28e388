"""Where patches of one slide of a cohort lie: the cohort's plan with its own files.

A plan for many slides may name folders; each slide has the file in them that is
called as it is: `S1.svs` has `S1.geojson`, `S1.png` or `S1.svs.geojson`.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from napari_gimp.cohorts.manifest import Entry
from napari_gimp.errors import CohortError, GimpError

if TYPE_CHECKING:
    from napari_gimp.patches.plan import PatchPlan


def plan_for(entry: Entry, plan: PatchPlan) -> PatchPlan:
    """Return the plan of one slide: the shared one, and what its entry names.

    A folder to include, or of tissue, must have a file for every slide: without one
    all of the slide would be taken. One to exclude need not, nor need a file have
    every class that is to be left out (`check_exclusions` looks for slips).

    Raises
    ------
    CohortError
        If such a file is missing, also where classes to include are named, or a
        folder has two for the slide.
    PatchError, SlideError
        If the classes of a file to exclude cannot be read.
    """
    tissue = entry.tissue or plan.tissue
    include = [_one(path, entry) for path in (*plan.include, *entry.include)]
    if plan.include_labels and not include:
        raise CohortError(
            f"The classes {', '.join(plan.include_labels)} to include need a file of "
            "this slide that has them: give --include, or fill the column include of "
            "the manifest."
        )
    exclude = _excluded(entry, plan)
    labels = plan.exclude_labels
    if labels:
        known = {label for path in exclude for label in _labels(path)}
        labels = tuple(label for label in labels if _among(label, known))
        exclude = exclude if labels else ()  # without a class all would be left out
    return replace(
        plan,
        tissue=_one(tissue, entry) if tissue else None,
        include=tuple(include),
        exclude=exclude,
        exclude_labels=labels,
    )


def check_exclusions(entries: Iterable[Entry], plan: PatchPlan) -> None:
    """Refuse a class to leave out that no file of any slide has: it is misspelt.

    Raises
    ------
    CohortError
        Naming the classes there are.
    """
    if not plan.exclude_labels:
        return
    known: set[str] = set()
    for entry in entries:
        with suppress(GimpError):  # that slide will fail with its reason
            known.update(x for path in _excluded(entry, plan) for x in _labels(path))
    absent = [label for label in plan.exclude_labels if not _among(label, known)]
    if absent:
        raise CohortError(
            f"No area to exclude has the class {', '.join(absent)}; "
            + (
                f"there are {', '.join(sorted(known))}. Choose among these."
                if known
                else "no slide has any. Give --exclude, or fill the column exclude."
            )
        )


def _excluded(entry: Entry, plan: PatchPlan) -> tuple[Path, ...]:
    found = (_found(path, entry) for path in (*plan.exclude, *entry.exclude))
    return tuple(path for path in found if path)


def _labels(path: Path) -> Iterable[str]:
    from napari_gimp.patches.regions import read_region

    return read_region(path).labels


def _among(label: str, known: Iterable[str]) -> bool:
    from napari_gimp.patches.annotations import is_a

    return any(is_a(one, label) for one in known)


def _one(path: Path, entry: Entry) -> Path:
    found = _found(path, entry)
    if found is None:
        raise CohortError(
            f"The folder {path} has no file for this slide. Put one there that is "
            f"called {entry.slide.stem}.geojson (or .png, .tif), or leave the slide "
            "out."
        )
    return found


def _found(path: Path, entry: Entry) -> Path | None:
    """Return a file as it is, of a folder the file that is called as the slide."""
    if not path.is_dir() or path.suffix == ".zarr":
        return path
    names = {entry.slide.name, *_stems(entry.slide)}
    others = (one for one in sorted(path.iterdir()) if one != entry.slide)
    found = [one for one in others if _stems(one) & names]
    if len(found) > 1:
        raise CohortError(
            f"The folder {path} has {len(found)} files for this slide: "
            f"{', '.join(one.name for one in found)}. Leave one of them there."
        )
    return found[0] if found else None


def _stems(path: Path) -> set[str]:
    return {path.stem, path.stem.removesuffix(".ome")}
