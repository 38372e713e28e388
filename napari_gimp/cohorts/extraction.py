"""Features of one slide into a shared store, here or on a worker elsewhere.

A lock for each entry of the store, held by a process that computes it, lets runs
on one store share the work. The system frees it when the process ends, however it
ends; what was stored by then stays, and whoever comes next goes on from there.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from napari_gimp.cohorts.manifest import Entry
from napari_gimp.cohorts.plans import plan_for
from napari_gimp.cohorts.states import SlideState, State
from napari_gimp.errors import (
    EncoderError,
    GimpError,
    PatchError,
    ResolutionError,
    StoreError,
)

if TYPE_CHECKING:
    from filelock import BaseFileLock

    from napari_gimp.patches.encoders import Encoder
    from napari_gimp.patches.features import PatchFeatures
    from napari_gimp.patches.plan import PatchPlan
    from napari_gimp.patches.store import FeatureKey
    from napari_gimp.slide.source import SlideSource

LOCKS = ".locks"
POLL_S = 0.5
LASTING = (ResolutionError, PatchError, EncoderError)
"""Failures that another try does not mend."""


def _plain_plan() -> PatchPlan:
    from napari_gimp.patches.plan import PatchPlan

    return PatchPlan()


@dataclass(frozen=True, slots=True)
class Recipe:
    """How features are made; small and picklable.

    Parameters
    ----------
    encoder
        What `load_encoder` takes.
    fingerprint
        The encoder's; a worker whose encoder has another is refused.
    store
        Folder of the feature store, absolute: the same path on every machine.
    device
        Where the encoder runs; "auto" takes a worker's GPU if it has one.
    mpp
        um per level-0 pixel of slides whose entry has none; None takes the files'
        word.
    srgb
        Convert colours from the slides' profiles to sRGB.
    batch_size
        Patches per call of the encoder; None fits them to the memory.
    plan
        Where patches lie on every slide; its areas may be folders of files.
    """

    encoder: str
    fingerprint: str
    store: Path
    device: str = "auto"
    mpp: float | None = None
    srgb: bool = False
    batch_size: int | None = None
    plan: PatchPlan = field(default_factory=_plain_plan)

    def open(self, entry: Entry) -> SlideSource:
        """Open a slide as the manifest and the recipe say."""
        from napari_gimp.slide.source import open_slide

        return open_slide(entry.slide, mpp=entry.mpp or self.mpp, srgb=self.srgb)


def extract_slide(
    number: int, entry: Entry, recipe: Recipe, *, wait: bool = False
) -> Generator[SlideState, None, None]:
    """Make a slide's features or find them; yield its states, the last an end.

    No error leaves it: a slide that cannot be used ends as FAILED with the reason.
    One that another run works on ends as BUSY.

    Parameters
    ----------
    number
        The slide's place in the list of entries.
    entry
        The slide.
    recipe
        How features are made.
    wait
        Wait until the other run is done, yielding BUSY meanwhile.
    """
    begun = time.monotonic()
    last = first = SlideState(number, State.RUNNING)
    try:
        for last in _steps(first, entry, recipe, wait):
            yield replace(last, seconds=time.monotonic() - begun)
    except Exception as error:  # one slide's border: it never stops the others
        failed = replace(last, state=State.FAILED, text=reason(error))
        lasting = isinstance(error, LASTING)
        yield replace(failed, seconds=time.monotonic() - begun, lasting=lasting)


def reason(error: BaseException) -> str:
    """Return what an error says, in one line, with its kind where it is not ours."""
    said = " ".join(str(error).split())
    return said if isinstance(error, GimpError) else f"{type(error).__name__}: {said}"


def encoder_of(recipe: Recipe) -> Encoder:
    """Return the recipe's encoder; a process loads it once.

    Raises
    ------
    EncoderError
        If the encoder of that name here is not the one that is meant.
    """
    encoder = loaded_encoder(recipe.encoder)
    if encoder.fingerprint != recipe.fingerprint:
        raise EncoderError(
            f"the encoder {recipe.encoder} on this machine has the fingerprint "
            f"{encoder.fingerprint[:12]}, the run asks for {recipe.fingerprint[:12]}; "
            "install the same version of napari-gimp and of the weights everywhere"
        )
    return encoder


def _steps(
    state: SlideState, entry: Entry, recipe: Recipe, wait: bool
) -> Iterator[SlideState]:
    yield state
    with closing(recipe.open(entry)) as source:
        work = _planned(source, entry, recipe)
        state = replace(state, total=len(work.patches), key=_key(work).digest)
        if work.stored:
            yield replace(state, state=State.STORED, done=state.total)
        else:
            yield from _alone(state, work, recipe, wait)


def _planned(source: SlideSource, entry: Entry, recipe: Recipe) -> PatchFeatures:
    from napari_gimp.patches.features import plan_features
    from napari_gimp.patches.store import FeatureStore

    encoder, plan = encoder_of(recipe), plan_for(entry, recipe.plan)
    return plan_features(source, encoder, plan, FeatureStore(recipe.store))


def _key(work: PatchFeatures) -> FeatureKey:
    """Return where the store keeps them; a recipe always has a store."""
    assert work.key is not None
    return work.key


def _alone(
    state: SlideState, work: PatchFeatures, recipe: Recipe, wait: bool
) -> Iterator[SlideState]:
    """Encode while no other run works on the same entry of the store."""
    lock = _lock(recipe.store, state.key)
    try:
        while not _taken(lock):
            yield replace(state, state=State.BUSY)
            if not wait:
                return
            time.sleep(POLL_S)
        yield from _encoded(state, work, recipe)
    finally:
        lock.release()


def _encoded(
    state: SlideState, work: PatchFeatures, recipe: Recipe
) -> Iterator[SlideState]:
    if work.stored:  # the other run has finished
        yield replace(state, state=State.STORED, done=state.total)
        return
    device = _device(recipe.device)
    with closing(work.extract(batch_size=recipe.batch_size, device=device)) as steps:
        for step in steps:
            yield replace(state, done=step.done)
    damage = work.source.damage
    end = State.DAMAGED if damage else State.DONE
    yield replace(
        state, state=end, done=state.total, text=damage.report if damage else ""
    )


def _lock(store: Path, key: str) -> BaseFileLock:
    """Return the lock of an entry; a generator may be closed by another thread.

    Raises
    ------
    StoreError
        If the store's folder cannot be written to.
    """
    from filelock import FileLock

    folder = store / LOCKS
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"features cannot be kept in {store} "
            f"({error.strerror or error}); give a folder that can be written to"
        ) from error
    return FileLock(folder / f"{key}.lock", thread_local=False)


def _taken(lock: BaseFileLock) -> bool:
    from filelock import Timeout

    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    return True


def _device(wanted: str) -> str:
    """Return a device's name; "auto" is what this process has."""
    import torch

    if wanted != "auto":
        return wanted
    found = torch.accelerator.current_accelerator(check_available=True)
    return found.type if found else "cpu"


@cache
def loaded_encoder(name: str) -> Encoder:
    """Return what `load_encoder` returns; a process loads it once."""
    from napari_gimp.patches.encoders import load_encoder

    return load_encoder(name)
