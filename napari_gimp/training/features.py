"""Patch features of every patient of a cohort, through the feature store.

The slides of a patient make one bag: each lies to the right of those before it, so
that no two patches share a place.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_gimp.cohorts.manifest import Entry
from napari_gimp.cohorts.plans import plan_for
from napari_gimp.errors import CohortError, GimpError, ResolutionError
from napari_gimp.training.cohort import Patient

if TYPE_CHECKING:
    from napari_gimp.patches.encoders import Encoder
    from napari_gimp.patches.plan import PatchPlan
    from napari_gimp.patches.store import FeatureStore
    from napari_gimp.slide.source import SlideSource

_log = logging.getLogger(__name__)

THUMBNAIL_PX = 32  # what the pixel decoder draws


@dataclass(frozen=True, slots=True)
class SlidePart:
    """One slide within the features of a patient.

    Parameters
    ----------
    fingerprint
        Names the slide's content, so that a slide is known again in another cohort,
        whether its colours were converted there or not.
    rows
        The slide's patches among the patient's.
    right_um
        How far right of its own place it lies, um.
    plan
        Where its patches were asked for, see `PatchPlan.record`.
    damage
        What could not be read of it, a sentence; empty if all could.
    """

    fingerprint: str
    rows: slice
    right_um: float = 0.0
    plan: Mapping[str, object] = field(default_factory=dict)
    damage: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class PatientFeatures:
    """All slides of a patient as a model sees them.

    Parameters
    ----------
    features
        (N, P) float32, each slide in raster order.
    coords_um
        (N, 2) float32, patch centres (y, x) in um of the first slide.
    slides
        Which patches are whose.
    """

    features: NDArray[np.float32]
    coords_um: NDArray[np.float32]
    slides: tuple[SlidePart, ...]


def side_by_side(slides: Sequence[PatientFeatures], patch_um: float) -> PatientFeatures:
    """Join patients of one slide each to one patient of all of them.

    A slide begins two patches right of the one before it, on the same lattice.

    Parameters
    ----------
    slides
        In the manifest's order.
    patch_um
        Side of a patch, um.
    """
    if len(slides) == 1:
        return slides[0]
    coords, parts, right, row = [], [], 0.0, 0
    for one in slides:
        (part,), count = one.slides, len(one.features)
        moved = one.coords_um + np.array([0, right], np.float32)
        coords.append(moved)
        parts.append(replace(part, rows=slice(row, row + count), right_um=right))
        right = (np.ceil(moved[:, 1].max() / patch_um) + 2) * patch_um
        row += count
    features = np.concatenate([one.features for one in slides])
    return PatientFeatures(features, np.concatenate(coords), tuple(parts))


def extract_cohort(
    patients: Sequence[Patient],
    encoder: Encoder,
    plan: PatchPlan,
    *,
    store: FeatureStore,
    device: str,
    workers: int = 1,
    srgb: bool = False,
) -> Iterator[tuple[Patient, PatientFeatures]]:
    """Yield each patient's features as they are ready, in any order.

    Features that the store holds are read, the others are made and kept.

    Parameters
    ----------
    patients
        Whose.
    encoder
        What makes the features, or stands for imported ones.
    plan
        Where patches lie, together with what the manifest says of each slide.
    store
        Where features are kept.
    device
        Where the encoder runs.
    workers
        Patients at a time.
    srgb
        Convert colours from the slides' profiles.

    Raises
    ------
    CohortError
        Naming the patient and the slide that cannot be used, and why.
    """
    work = partial(
        _extract, encoder=encoder, plan=plan, store=store, device=device, srgb=srgb
    )
    pool = ThreadPoolExecutor(workers, thread_name_prefix="gimp-decode-cohort")
    try:
        side = encoder.patch_um
        waiting = {pool.submit(_all_of, one, side, work): one for one in patients}
        for future in as_completed(waiting):
            yield waiting[future], future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def read_thumbnails(
    slide: Entry,
    coords_um: NDArray[np.float32],
    patch_um: float,
    *,
    srgb: bool = False,
) -> NDArray[np.uint8]:
    """Return small pictures (n, 32, 32, 3) of patches centred on `coords_um`."""
    from napari_gimp.patches.brightfield import read_rgb

    shape, mpp = (THUMBNAIL_PX, THUMBNAIL_PX), patch_um / THUMBNAIL_PX
    with closing(_opened(slide, srgb=srgb)) as source:
        corners = (coords_um.astype(np.float64) - patch_um / 2).tolist()
        return np.stack([read_rgb(source, y, x, shape, mpp) for y, x in corners])


def _opened(slide: Entry, *, srgb: bool) -> SlideSource:
    from napari_gimp.slide.source import open_slide

    return open_slide(slide.slide, mpp=slide.mpp, srgb=srgb)


def _all_of(
    patient: Patient, patch_um: float, work: Callable[[str, Entry], PatientFeatures]
) -> PatientFeatures:
    slides = [work(patient.patient, slide) for slide in patient.slides]
    return side_by_side(slides, patch_um)


def _extract(
    patient: str,
    slide: Entry,
    *,
    encoder: Encoder,
    plan: PatchPlan,
    store: FeatureStore,
    device: str,
    srgb: bool,
) -> PatientFeatures:
    from napari_gimp.patches.brightfield import check_brightfield
    from napari_gimp.patches.features import plan_features
    from napari_gimp.slide.remembered import SRGB_END

    try:
        with closing(_opened(slide, srgb=srgb)) as source:
            check_brightfield(source)
            own = plan_for(slide, plan)
            planned = plan_features(source, encoder, own, store)
            features = planned.read(device=device)
            damage = source.damage.report if source.damage else ""
            name = source.fingerprint.removesuffix(SRGB_END)
    except GimpError as error:
        raise CohortError(
            f"The slide {slide.slide.name} of patient {patient} cannot be used: "
            f"{error} {_remedy(error)} or take the slide out of the manifest."
        ) from error
    if damage:
        _log.warning("%s", damage)
    part = SlidePart(name, slice(0, len(features)), plan=own.record(), damage=damage)
    return PatientFeatures(features, planned.patches.coords_um, (part,))


def _remedy(error: GimpError) -> str:
    """Return what mends a slide."""
    if isinstance(error, ResolutionError):
        return (
            "Give it in the column mpp of the manifest, write a copy that states it "
            "(`napari-gimp convert SLIDE OUT.ome.tif --mpp VALUE`),"
        )
    return "Mend it"
