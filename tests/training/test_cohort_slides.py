"""Slides of a cohort: their colour profiles, their um/px, their kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import ImageCms

from napari_gimp.cohorts.manifest import Entry
from napari_gimp.errors import CohortError
from napari_gimp.patches.encoders import Encoder, load_encoder
from napari_gimp.patches.plan import PatchPlan
from napari_gimp.patches.store import FeatureStore
from napari_gimp.training.cohort import Patient
from napari_gimp.training.features import (
    PatientFeatures,
    extract_cohort,
    read_thumbnails,
)
from tiff_files import spoil

PER_CM: dict[str, Any] = {
    "resolution": (20000, 20000),
    "resolutionunit": "CENTIMETER",
}


def lab_profile() -> bytes:
    """A profile of RGB that is not sRGB: red and blue change place.

    ImageCms makes only sRGB, so two of its tags are renamed.
    """
    made = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    turned = {b"rXYZ": b"\0\0\0\1", b"bXYZ": b"rXYZ", b"\0\0\0\1": b"bXYZ"}
    table = made[128 : 128 + 4 + 12 * int.from_bytes(made[128:132], "big")]
    for name, other in turned.items():
        table = table.replace(name, other)
    return made[:128] + table + made[128 + len(table) :]


@pytest.fixture
def patient(tmp_path: Path) -> Patient:
    """Purple tissue on glass, 0.5 um/px, with a profile in the file."""
    rng = np.random.default_rng(0)
    pixels = np.full((768, 768, 3), 244, np.uint8)
    tissue = rng.normal((170, 100, 170), 25, (640, 640, 3))
    pixels[64:704, 64:704] = tissue.clip(0, 255)
    path = tmp_path / "slide.tif"
    tifffile.imwrite(
        path,
        pixels,
        photometric="rgb",
        tile=(256, 256),
        **PER_CM,
        iccprofile=lab_profile(),
    )
    return Patient("P1", (Entry(path),), None, "benign", "here")


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return load_encoder()


def extracted(
    patient: Patient, encoder: Encoder, store: FeatureStore, *, srgb: bool
) -> PatientFeatures:
    ((_, found),) = extract_cohort(
        [patient], encoder, PatchPlan(), store=store, device="cpu", srgb=srgb
    )
    return found


def test_converted_colours_are_other_features_of_the_same_slide(
    patient: Patient, encoder: Encoder, tmp_path: Path
) -> None:
    store = FeatureStore(tmp_path / "features")
    plain = extracted(patient, encoder, store, srgb=False)
    converted = extracted(patient, encoder, store, srgb=True)

    assert np.abs(plain.features - converted.features).max() > 0.1
    assert len(list(store.root.glob("*.zarr"))) == 2, "kept under two keys"
    assert plain.slides == converted.slides, "known again as one slide"


def test_thumbnails_are_converted_as_the_features_are(
    patient: Patient,
) -> None:
    centre = np.full((1, 2), 192.0, np.float32)
    plain = read_thumbnails(patient.slides[0], centre, 128.0)
    converted = read_thumbnails(patient.slides[0], centre, 128.0, srgb=True)
    assert np.abs(plain.astype(int) - converted).max() > 5


def test_a_slide_without_um_per_px_is_refused_with_the_way_to_state_it(
    encoder: Encoder, tmp_path: Path
) -> None:
    path = tmp_path / "nompp.tif"
    tifffile.imwrite(
        path, np.full((512, 512, 3), 200, np.uint8), photometric="rgb", tile=(256, 256)
    )
    patient = Patient("P7", (Entry(path),), None, "benign", "here")
    store = FeatureStore(tmp_path / "features")

    with pytest.raises(CohortError, match=r"patient P7 .*convert SLIDE .*--mpp VALUE"):
        extracted(patient, encoder, store, srgb=False)


def test_a_grey_slide_is_refused_with_what_it_is(
    encoder: Encoder, tmp_path: Path
) -> None:
    path = tmp_path / "grey.tif"
    grey = np.full((512, 512), 200, np.uint8)
    tifffile.imwrite(path, grey, tile=(256, 256), **PER_CM)
    patient = Patient("P8", (Entry(path),), None, "benign", "here")
    store = FeatureStore(tmp_path / "features")

    with pytest.raises(CohortError, match=r"patient P8 .*1 grey channel of uint8"):
        extracted(patient, encoder, store, srgb=False)


def test_damaged_tiles_of_a_slide_are_counted_in_one_line(
    patient: Patient,
    encoder: Encoder,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    pixels = tifffile.imread(patient.slides[0].slide)
    tifffile.imwrite(
        patient.slides[0].slide, pixels, photometric="rgb", tile=(256, 256), **PER_CM,
        compression="deflate",
    )  # fmt: skip
    spoil(patient.slides[0].slide, page=0, tile=4)
    spoil(patient.slides[0].slide, page=0, tile=5)

    extracted(patient, encoder, FeatureStore(tmp_path / "features"), srgb=False)

    told = [r.getMessage() for r in caplog.records if r.name.endswith("features")]
    assert len(told) == 1
    assert told[0].startswith("slide.tif: 2 tiles could not be decoded")
