"""Files as CLAM, TRIDENT and STAMP write them: read, understood, refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from napari_gimp.errors import StoreError
from napari_gimp.patches.h5 import read_h5
from napari_gimp.patches.h5_units import interpret

MPP = (0.5, 0.5)
COLS, ROWS = np.meshgrid(np.arange(5), np.arange(4))
LATTICE = np.stack([COLS.ravel(), ROWS.ravel()], axis=1)
"""(x, y) places of 20 patches in raster order."""
TRIDENT = {
    "patch_size": 256,
    "patch_size_level0": 512,
    "level0_magnification": 40,
    "target_magnification": 20,
    "overlap": 0,
    "name": "slide",
}


def features_of(count: int = 20, width: int = 6) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, width)).astype("f4")


def write(
    path: Path,
    coords: Any,
    features: Any = None,
    *,
    name: str = "features",
    on_file: dict[str, Any] | None = None,
    on_coords: dict[str, Any] | None = None,
) -> Path:
    """Write a feature file with h5py alone, as the tools do."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file[name] = features_of(len(coords)) if features is None else features
        file["coords"] = coords
        file.attrs.update(on_file or {})
        file["coords"].attrs.update(on_coords or {})
    return path


def stamp(path: Path, **on_file: Any) -> Path:
    coords = (LATTICE * 256).astype("f4")
    return write(
        path, coords, features_of().astype("f2"), name="feats", on_file=on_file
    )


def test_a_trident_file_says_everything_but_its_encoder(tmp_path: Path) -> None:
    path = write(tmp_path / "slide.h5", LATTICE * 512, on_coords=TRIDENT)

    meaning = interpret(read_h5(path), (0.25, 0.25))

    assert read_h5(path).layout == "trident"
    assert (meaning.unit.value, meaning.unit.stated) == ("px", True)
    assert meaning.patch_um.value == meaning.stride_um.value == 128
    assert meaning.mpp.value == 0.5
    assert meaning.encoder.value == "unnamed-6"
    assert not meaning.encoder.stated


def test_trident_names_its_encoder_in_the_file_or_in_the_folder(tmp_path: Path) -> None:
    old = write(tmp_path / "features_uni_v1" / "a.h5", LATTICE * 512, on_coords=TRIDENT)
    new = write(tmp_path / "b.h5", LATTICE * 512, on_coords=TRIDENT)
    with h5py.File(new, "a") as file:
        file["features"].attrs["encoder"] = "conch_v15"

    by_folder = interpret(read_h5(old), MPP).encoder
    by_file = interpret(read_h5(new), MPP).encoder

    assert (by_folder.value, by_folder.stated) == ("uni_v1", False)
    assert (by_file.value, by_file.stated) == ("conch_v15", True)


def test_overlapping_patches_have_a_stride_below_their_side(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", LATTICE * 448, on_coords={**TRIDENT, "overlap": 32})

    meaning = interpret(read_h5(path), MPP)

    assert meaning.patch_um.value == 256
    assert meaning.stride_um.value == 224


def test_a_clam_file_alone_is_only_concluded_from_distances(tmp_path: Path) -> None:
    pieces = np.concatenate([LATTICE * 256 + (101, 77), LATTICE * 256 + (2000, 513)])
    path = write(tmp_path / "a.h5", pieces.astype("i4"))

    meaning = interpret(read_h5(path), MPP)

    assert read_h5(path).layout == "clam"
    assert (meaning.unit.value, meaning.patch_um.value) == ("px", 128)
    assert not meaning.unit.stated
    assert not meaning.patch_um.stated
    assert "256" in meaning.patch_um.evidence


def test_clams_patch_file_tells_the_size_of_patches_of_a_coarser_level(
    tmp_path: Path,
) -> None:
    coords = (LATTICE * 1024).astype("i4")
    path = write(tmp_path / "h5_files" / "a.h5", coords)
    said = {"patch_size": 256, "patch_level": 1, "downsample": (4.0, 4.0)}
    patches = write(tmp_path / "patches" / "a.h5", coords, on_coords=said)

    meaning = interpret(read_h5(path, patch_file=patches), (0.25, 0.25))

    assert meaning.patch_um.value == 256
    assert meaning.mpp.value == 1.0
    assert meaning.unit.stated
    assert meaning.patch_um.stated


def test_a_patch_file_of_other_patches_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", LATTICE * 256)
    patches = write(tmp_path / "b.h5", LATTICE[:9] * 256)

    with pytest.raises(StoreError, match=r"\(9\) are not those of the features \(20\)"):
        read_h5(path, patch_file=patches)


@pytest.mark.parametrize(
    "said",
    [
        {"unit": "um", "tile_size_um": 256.0, "stamp_version": "2.1.0"},
        {"unit": "um", "tile_size": 256.0, "stamp_version": "2.0.0"},
    ],
)
def test_stamp_says_um_in_both_of_its_ways(tmp_path: Path, said: dict) -> None:
    path = stamp(tmp_path / "a.h5", extractor="uni2", tile_size_px=224, **said)

    meaning = interpret(read_h5(path), MPP)

    assert read_h5(path).layout == "stamp"
    assert meaning.stated
    assert meaning.unit.value == "um"
    assert meaning.patch_um.value == meaning.stride_um.value == 256
    assert meaning.mpp.value == pytest.approx(256 / 224)
    assert meaning.encoder.value == "uni2"


def test_stamp_1_is_known_by_its_distance_of_224(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", LATTICE * 224, name="feats")

    meaning = interpret(read_h5(path), MPP)

    assert (meaning.unit.value, meaning.unit.stated) == ("stamp1", False)
    assert meaning.patch_um.value == pytest.approx(256)


def test_what_is_given_goes_before_what_is_inferred(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", LATTICE * 256)

    meaning = interpret(
        read_h5(path), MPP, unit="um", patch_um=300.0, encoder="resnet50"
    )

    assert (meaning.unit.value, meaning.patch_um.value) == ("um", 300)
    assert meaning.stride_um.value == 256
    assert meaning.encoder.value == "resnet50"
    assert meaning.unit.stated
    assert "as given" in meaning.as_rows()["patch"]


def test_a_single_patch_without_attributes_needs_its_size(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", LATTICE[:1] * 256)

    with pytest.raises(StoreError, match="say it with --patch-um"):
        interpret(read_h5(path), MPP)

    assert interpret(read_h5(path), MPP, patch_um=128.0).stride_um.value == 128


def test_pixels_of_an_unknown_level_need_the_unit(tmp_path: Path) -> None:
    path = stamp(tmp_path / "a.h5", unit="px", tile_size_px=256)

    with pytest.raises(StoreError, match=r"'px'.*say it with --unit"):
        interpret(read_h5(path), MPP)


def test_a_batch_of_one_is_read_as_its_patches(tmp_path: Path) -> None:
    features = features_of()
    path = write(tmp_path / "a.h5", LATTICE * 256, features[None])

    (start, part), *rest = read_h5(path).blocks()

    assert (start, rest) == (0, [])
    np.testing.assert_array_equal(part, features)


def test_features_that_are_no_numbers_are_counted_and_refused(tmp_path: Path) -> None:
    features = features_of()
    features[[3, 7], 2] = np.nan
    path = write(tmp_path / "a.h5", LATTICE * 256, features)

    with pytest.raises(StoreError, match=r"2 of 20 patches.*the first is row 3"):
        read_h5(path).check()


def test_files_that_are_no_patch_features_say_what_they_are(tmp_path: Path) -> None:
    slide = write(tmp_path / "slide.h5", LATTICE, np.ones(768, "f4"))
    patient = stamp(tmp_path / "patient.h5", feat_type="patient")
    few = write(tmp_path / "few.h5", LATTICE[:3], features_of())
    none = write(tmp_path / "none.h5", np.empty((0, 2)), np.empty((0, 6), "f4"))
    whole = write(tmp_path / "whole.h5", LATTICE, np.ones((20, 6), "i4"))
    patches = tmp_path / "patches.h5"
    with h5py.File(patches, "w") as file:
        file["coords"] = LATTICE
    bag = tmp_path / "bag.h5"
    with h5py.File(bag, "w") as file:
        file["feats"] = features_of()
    text = tmp_path / "text.h5"
    text.write_text("no HDF5")

    for path, sentence in {
        slide: "features of a whole slide",
        patient: "features of a whole patient",
        few: r"shape \(20, 6\) and coords of shape \(3, 2\)",
        none: "N above 0",
        whole: "int32, not floats",
        patches: "not their features.*--patches",
        bag: "no `coords`",
        text: "cannot be read as HDF5",
        tmp_path / "absent.h5": "there is no feature file",
    }.items():
        with pytest.raises(StoreError, match=sentence):
            read_h5(path)


def test_a_link_to_another_file_is_not_followed(tmp_path: Path) -> None:
    write(tmp_path / "private.h5", LATTICE)
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["features"] = h5py.ExternalLink("private.h5", "features")
        file["coords"] = LATTICE

    with pytest.raises(StoreError, match="link to another file"):
        read_h5(path)


def test_a_file_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", LATTICE * 256)
    path.write_bytes(path.read_bytes()[:2500])

    with pytest.raises(StoreError, match="cut off"):
        read_h5(path).check()
