"""Patch features of every slide of a cohort, through the feature store."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_gimp.errors import CohortError, GimpError, ResolutionError
from napari_gimp.training.cohort import Patient

if TYPE_CHECKING:
    from napari_gimp.patches.encoders import Encoder
    from napari_gimp.patches.store import FeatureStore

_log = logging.getLogger(__name__)

THUMBNAIL_PX = 32  # what the pixel decoder draws


@dataclass(frozen=True, slots=True)
class SlideFeatures:
    """One slide as a model sees it.

    Parameters
    ----------
    features
        (N, P) float32, in raster order.
    coords_um
        (N, 2) float32, patch centres (y, x) in slide um.
    fingerprint
        Names the slide's content, so that a slide is known again in another cohort,
        whether its colours were converted there or not.
    """

    features: NDArray[np.float32]
    coords_um: NDArray[np.float32]
    fingerprint: str


def extract_cohort(
    patients: Sequence[Patient],
    encoder: Encoder,
    *,
    store: FeatureStore,
    device: str,
    workers: int = 1,
    srgb: bool = False,
) -> Iterator[tuple[Patient, SlideFeatures]]:
    """Yield each patient's features as they are ready, in any order.

    Features that the store holds are read, the others are made and kept.

    Raises
    ------
    CohortError
        Naming the patient whose slide cannot be used, and why.
    """
    work = partial(_extract, encoder=encoder, store=store, device=device, srgb=srgb)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="gimp-decode-cohort")
    try:
        waiting = {pool.submit(work, patient): patient for patient in patients}
        for future in as_completed(waiting):
            yield waiting[future], future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def read_thumbnails(
    patient: Patient,
    coords_um: NDArray[np.float32],
    patch_um: float,
    *,
    srgb: bool = False,
) -> NDArray[np.uint8]:
    """Return small pictures (n, 32, 32, 3) of patches centred on `coords_um`."""
    from napari_gimp.patches.brightfield import read_rgb
    from napari_gimp.slide.source import open_slide

    shape, mpp = (THUMBNAIL_PX, THUMBNAIL_PX), patch_um / THUMBNAIL_PX
    with closing(open_slide(patient.slide, srgb=srgb)) as source:
        corners = (coords_um.astype(np.float64) - patch_um / 2).tolist()
        return np.stack([read_rgb(source, y, x, shape, mpp) for y, x in corners])


def _extract(
    patient: Patient,
    *,
    encoder: Encoder,
    store: FeatureStore,
    device: str,
    srgb: bool,
) -> SlideFeatures:
    from napari_gimp.patches.brightfield import check_brightfield
    from napari_gimp.patches.extract import extract_all
    from napari_gimp.patches.grid import lay_patches
    from napari_gimp.patches.tissue import find_tissue
    from napari_gimp.slide.remembered import SRGB_END
    from napari_gimp.slide.source import open_slide

    try:
        with closing(open_slide(patient.slide, srgb=srgb)) as source:
            check_brightfield(source)
            patches = lay_patches(find_tissue(source), patch_um=encoder.patch_um)
            features = extract_all(source, patches, encoder, store=store, device=device)
            fingerprint = source.fingerprint.removesuffix(SRGB_END)
            if source.damage:
                _log.warning("%s", source.damage.report)
    except GimpError as error:
        raise CohortError(
            f"The slide of patient {patient.patient} cannot be used: {error} "
            f"{_remedy(error)} or take the patient out of the manifest."
        ) from error
    return SlideFeatures(features, patches.coords_um, fingerprint)


def _remedy(error: GimpError) -> str:
    """Return what mends a slide; a manifest has no place for a um/px."""
    if isinstance(error, ResolutionError):
        return (
            "Write a copy that states it (`napari-gimp convert SLIDE OUT.ome.tif "
            "--mpp VALUE`) and put that into the manifest,"
        )
    return "Mend it"
