"""Look into every slide before anything is computed: seconds, not hours."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial

from napari_gimp.cohorts.extraction import Recipe, reason
from napari_gimp.cohorts.manifest import Entry, problem, shared, twice
from napari_gimp.cohorts.plans import plan_for
from napari_gimp.errors import CohortError

READERS = 4
"""Opening waits for a disk or a network more than it computes."""


@dataclass(frozen=True, slots=True)
class Inspected:
    """What opening a slide showed.

    Parameters
    ----------
    entry
        The slide.
    fingerprint
        Names its content; empty if it could not be opened.
    error
        Why it cannot be used; empty if it can.
    """

    entry: Entry
    fingerprint: str = ""
    error: str = ""


def inspect_slides(
    entries: Sequence[Entry], recipe: Recipe
) -> Generator[Inspected, None, None]:
    """Open each slide as a recipe says and yield what is found, in order."""
    pool = ThreadPoolExecutor(READERS, thread_name_prefix="gimp-read-cohort")
    try:
        yield from pool.map(partial(_inspect, recipe=recipe), entries)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def check_leaks(inspected: Sequence[Inspected]) -> None:
    """Refuse one slide, under whatever names, of two patients or twice of one.

    Raises
    ------
    CohortError
        Naming the files and the patients.
    """
    known = [one for one in inspected if one.fingerprint and one.entry.patient]
    _refuse(
        "slides of equal content under two patients",
        [_names(known, name) for name in shared(_owned(known))],
        "A model would be tested on what it was trained on: mend the manifest.",
    )
    _refuse(
        "slides that are named more than once",
        [_names(known, name) for name, _ in twice(_owned(known))],
        "Their patches would count more than others: leave the copies out, and name "
        "a DICOM slide by its folder.",
    )


def _owned(inspected: Sequence[Inspected]) -> list[tuple[str, str]]:
    """Return content and patient of each slide."""
    return [(one.fingerprint, one.entry.patient) for one in inspected]


def _refuse(what: str, same: Sequence[str], why: str) -> None:
    if same:
        raise CohortError(f"{problem(what, same)}. {why}")


def _inspect(entry: Entry, recipe: Recipe) -> Inspected:
    from napari_gimp.patches.brightfield import check_brightfield

    try:
        plan_for(entry, recipe.plan)  # raises where the slide's areas are missing
        with closing(recipe.open(entry)) as source:
            check_brightfield(source)
            _ = source.mpp  # raises where nobody knows it
            return Inspected(entry, source.fingerprint)
    except Exception as error:  # one slide's border: it never stops the others
        return Inspected(entry, error=reason(error))


def _names(inspected: Sequence[Inspected], fingerprint: str) -> str:
    same = [one.entry for one in inspected if one.fingerprint == fingerprint]
    return " = ".join(f"{entry.slide.name} of {entry.patient}" for entry in same)
