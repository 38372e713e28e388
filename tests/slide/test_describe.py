"""A slide's facts for the command line and the dock."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import ImageCms

from napari_gimp.cli import main
from napari_gimp.slide.describe import as_rows, describe, profile_name
from napari_gimp.slide.source import open_slide

Told = dict[str, Any]
ROWS, COLS, TILE = 512, 768, 256


@pytest.fixture
def write_slide(tmp_path: Path) -> Callable[..., Path]:
    """Write a tiled TIFF of 512 x 768 px, grey noise, no um/px."""

    def write(shape: tuple[int, ...] = (ROWS, COLS, 3), **kwargs: Any) -> Path:
        path = tmp_path / "slide.tif"
        pixels = np.random.default_rng(0).integers(0, 255, shape, np.uint8)
        kwargs = {"photometric": "rgb", "tile": (TILE, TILE), **kwargs}
        tifffile.imwrite(path, pixels, **kwargs)
        return path

    return write


@pytest.fixture
def slide(write_slide: Callable[..., Path]) -> Path:
    return write_slide()


@pytest.fixture
def damaged(write_slide: Callable[..., Path]) -> Path:
    """A slide of 6 tiles whose last is no JPEG any more."""
    path = write_slide(compression="jpeg")
    with tifffile.TiffFile(path) as tiff:
        offset, count = tiff.pages[0].dataoffsets[5], tiff.pages[0].databytecounts[5]
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(bytes(count))
    return path


def srgb_profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Callable[..., Told]:
    """Run `info --json` and return what it says."""

    def tell(*argv: object) -> Told:
        assert main(["info", "--json", *map(str, argv)]) == 0
        told: Told = json.loads(capsys.readouterr().out)
        return told

    return tell


def test_size_is_told_in_mm_where_the_resolution_is_known(slide: Path) -> None:
    with open_slide(slide, mpp=0.5) as source:
        facts = describe(source)
    assert facts.size_px == (512, 768)
    assert facts.size_mm == pytest.approx((0.256, 0.384))
    assert as_rows(facts)["size"] == "768 x 512 px, 0.38 x 0.26 mm"


def test_a_users_word_for_the_resolution_is_told_as_unverified(slide: Path) -> None:
    with open_slide(slide, mpp=0.5) as source:
        facts = describe(source)
    assert facts.mpp_usable
    assert as_rows(facts)["um/px"] == "0.5 (user, unverified)"


def test_an_unknown_resolution_is_said_and_never_guessed(slide: Path) -> None:
    with open_slide(slide) as source:
        facts = describe(source)
    assert (facts.mpp, facts.size_mm, facts.mpp_usable) == (None, None, False)
    assert "not in the file" in as_rows(facts)["um/px"]
    assert "mm" not in as_rows(facts)["size"]


def test_an_implausible_resolution_is_shown_with_the_likely_one_and_not_used(
    write_slide: Callable[..., Path],
) -> None:
    path = write_slide(resolution=(1e4 / 0.005,) * 2, resolutionunit="CENTIMETER")
    with open_slide(path) as source:
        facts = describe(source)
    assert facts.mpp == pytest.approx((0.005, 0.005))
    assert facts.likely_mpp == pytest.approx(0.5)
    assert facts.likely_origin == "wrong unit"
    assert facts.size_mm is None
    text = as_rows(facts)["um/px"]
    assert "0.005" in text
    assert "implausible and not used" in text
    assert "probably 0.5, to be confirmed with --mpp" in text


def test_without_um_per_px_the_objective_gives_a_guess(tmp_path: Path) -> None:
    path = tmp_path / "slide.svs"
    pixels = np.full((ROWS, COLS, 3), 200, np.uint8)
    text = "Aperio Image Library v1\n768x512 |AppMag = 40"
    tifffile.imwrite(
        path, pixels, tile=(TILE, TILE), description=text, photometric="rgb"
    )
    with open_slide(path) as source:
        facts = describe(source)
    assert (facts.mpp, facts.objective) == (None, 40.0)
    assert facts.likely_mpp == pytest.approx(0.25)
    assert facts.likely_origin == "objective"


def test_every_level_is_told_with_its_factor_and_tile(
    write: Callable[..., Path], texture: np.ndarray
) -> None:
    with open_slide(write([texture, texture[::2, ::2]])) as source:
        facts = describe(source)
    assert [(v.size_px, v.factor, v.tile_px) for v in facts.levels] == [
        ((700, 900), (1.0, 1.0), (128, 128)),
        ((350, 450), (2.0, 2.0), (128, 128)),
    ]
    assert as_rows(facts)["levels"].splitlines()[1] == (
        "1/2: 450 x 350 px in tiles of 128 x 128"
    )


def test_channels_that_are_no_colour_picture_are_told_as_such(
    write_slide: Callable[..., Path],
) -> None:
    path = write_slide((ROWS, COLS), photometric="minisblack")
    with open_slide(path) as source:
        facts = describe(source)
    assert (facts.rgb, facts.channels) == (False, 1)
    assert "1 channel, uint8, not a colour picture" in as_rows(facts)["pixels"]


def test_a_colour_profile_is_told_by_its_own_name_and_size(
    write_slide: Callable[..., Path],
) -> None:
    profile = srgb_profile()
    path = write_slide(iccprofile=profile)
    with open_slide(path) as source:
        facts = describe(source)
    assert facts.icc is not None
    assert facts.icc.description == profile_name(profile) != ""
    assert (facts.icc.bytes, facts.icc.applied) == (len(profile), False)
    assert "not applied" in as_rows(facts)["profile"]


def test_a_profile_that_cannot_be_read_is_told_without_a_name(
    write_slide: Callable[..., Path],
) -> None:
    with open_slide(write_slide(iccprofile=b"no profile at all")) as source:
        facts = describe(source)
    assert facts.icc is not None
    assert facts.icc.description == ""
    assert "17 bytes" in as_rows(facts)["profile"]


def test_a_profile_that_is_applied_is_told_and_names_other_pixels(
    write_slide: Callable[..., Path], told: Callable[..., Told]
) -> None:
    path = write_slide(iccprofile=srgb_profile())
    plain, converted = told(path), told(path, "--srgb")
    assert converted["icc"]["applied"] is True
    assert converted["fingerprint"] != plain["fingerprint"]


def test_a_magnification_is_a_number_whatever_is_written_after_it() -> None:
    from napari_gimp.slide.describe import _number

    assert [_number(text) for text in ("20", "40x", " 2.5X ", "", "nan", "oil")] == [
        20.0, 40.0, 2.5, None, None, None,
    ]  # fmt: skip


def test_info_as_json_has_numbers_under_the_names_of_the_facts(
    slide: Path, told: Callable[..., Told]
) -> None:
    facts = told(slide, "--mpp", "0.5")
    assert facts["size_px"] == [512, 768]
    assert facts["mpp"] == [0.5, 0.5]
    assert facts["levels"][0] == {
        "size_px": [512, 768],
        "factor": [1.0, 1.0],
        "tile_px": [256, 256],
    }
    assert (facts["rgb"], facts["dtype"], facts["icc"]) == (True, "uint8", None)
    assert facts["check"] is None
    with open_slide(slide, mpp=0.5) as source:
        assert set(facts) == {*describe(source).as_dict(), "check"}


def test_associated_images_are_named_and_never_read(
    slide: Path, monkeypatch: pytest.MonkeyPatch, told: Callable[..., Told]
) -> None:
    def read(*_: object) -> None:
        raise AssertionError("an associated image was read")

    monkeypatch.setattr("napari_gimp.slide.tiff.TiffSource.read_associated", read)
    assert told(slide, "--check")["associated"] == []


def test_a_check_of_a_sound_slide_counts_all_its_tiles(
    slide: Path, told: Callable[..., Told]
) -> None:
    check = told(slide, "--check")["check"]
    assert check == {"tiles": 6, "damaged": 0, "places": []}


def test_a_check_names_damaged_tiles_and_ends_with_2(
    damaged: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["info", "--check", str(damaged)]) == 2
    said = capsys.readouterr()
    assert "1 of 6 tiles damaged: level 0 row 1 column 2" in said.out
    assert said.err.count("could not be decoded") == 1


def test_a_check_as_json_lists_every_damaged_tile(
    damaged: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["info", "--check", "--json", str(damaged)]) == 2
    check = json.loads(capsys.readouterr().out)["check"]
    assert check == {"tiles": 6, "damaged": 1, "places": [[0, 1, 2]]}
