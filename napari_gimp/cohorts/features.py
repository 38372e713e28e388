"""Features of many slides: checked first, then one after the other or on workers.

    for state in extract_manifest(entries, recipe):
        ...  # the last state of each number is what became of the slide

Closing the iterator cancels what is left; what is stored stays.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from napari_gimp.cohorts.extraction import Recipe, extract_slide
from napari_gimp.cohorts.inspection import Inspected, check_leaks, inspect_slides
from napari_gimp.cohorts.manifest import Entry
from napari_gimp.cohorts.plans import check_exclusions
from napari_gimp.cohorts.states import SlideState, State

if TYPE_CHECKING:
    from napari_gimp.cohorts.cluster import Cluster


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of one slide.

    Parameters
    ----------
    number
        The slide's place in the list of entries.
    tries
        How often it failed before.
    wait
        Whether to wait for another run that works on it.
    """

    number: int
    tries: int = 0
    wait: bool = False

    def after(self, last: SlideState, retries: int) -> Attempt | None:
        """Return the attempt that follows this one's last state, None for an end."""
        if last.state is State.BUSY:
            return replace(self, wait=True)
        if last.state is State.FAILED and not last.lasting and self.tries < retries:
            return replace(self, tries=self.tries + 1)
        return None


def extract_manifest(
    entries: Sequence[Entry],
    recipe: Recipe,
    *,
    retries: int = 1,
    cluster: Cluster | None = None,
) -> Generator[SlideState, None, None]:
    """Make the features of slides, or find them; yield their states.

    Every slide is opened first and yielded as QUEUED; then those that cannot be used
    as FAILED, before anything is computed. Slides that failed, or that another run
    works on, come again when the others are done.

    Parameters
    ----------
    entries
        The slides; their places in it are the states' numbers.
    recipe
        How features are made.
    retries
        How often a slide is tried again; failures another try cannot mend are not.
    cluster
        Workers, which see slides and store under the same paths; None works here.

    Raises
    ------
    CohortError
        If one slide belongs to two patients, or a class to exclude is misspelt.
    ClusterError
        If the workers are gone for good.
    """
    check_exclusions(entries, recipe.plan)
    found: list[Inspected] = []
    with closing(inspect_slides(entries, recipe)) as looks:
        for number, one in enumerate(looks):  # lets whoever watches cancel
            found.append(one)
            yield SlideState(number, State.QUEUED)
    check_leaks(found)
    for number, one in enumerate(found):
        if one.error:
            yield SlideState(number, State.FAILED, text=one.error, lasting=True)
    good = [Attempt(number) for number, one in enumerate(found) if not one.error]
    if cluster is None:
        yield from _here(good, entries, recipe, retries)
    else:
        from napari_gimp.cohorts.cluster import extract_on

        yield from extract_on(cluster, good, entries, recipe, retries)


def _here(
    attempts: Sequence[Attempt],
    entries: Sequence[Entry],
    recipe: Recipe,
    retries: int,
) -> Generator[SlideState, None, None]:
    waiting = deque(attempts)
    while waiting:
        attempt = waiting.popleft()
        number = attempt.number
        steps = extract_slide(number, entries[number], recipe, wait=attempt.wait)
        with closing(steps):
            for state in steps:
                yield state
        if again := attempt.after(state, retries):
            waiting.append(again)
