"""Um per pixel: what counts as plausible, what was probably meant."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_gimp.errors import ResolutionError
from napari_gimp.slide.resolution import (
    from_file,
    from_tags,
    from_user,
    is_usable,
    likely_mpp,
    trusted_mpp,
)
from napari_gimp.slide.source import Resolution, open_slide

SHARED = {
    "CMU-1-Small-Region.svs": (0.499, True),
    "CMU-1-Small-Region.jpeg.tiff": (0.00499, False),
    "OS-1-detail.ome.tif": (0.2271, True),
    "her2st-C2.tif": (0.69, True),
    "boxes.tiff": (352.8, False),
    "small.svs": (0.499, True),
}


@pytest.mark.parametrize(
    ("stated", "meant"),
    [(0.00499, 0.499), (4.99e-4, 0.499), (499.0, 0.499), (0.0025, 0.25), (23.0, 0.23)],
)
def test_a_wrong_unit_is_put_right(stated: float, meant: float) -> None:
    assert likely_mpp(stated) == pytest.approx(meant)


@pytest.mark.parametrize("dpi", [50, 72, 96, 100, 300])
def test_a_screens_resolution_gives_no_guess(dpi: int) -> None:
    assert likely_mpp(25_400 / dpi) is None


def test_a_plausible_value_needs_no_correction() -> None:
    assert likely_mpp(0.5) is None
    assert likely_mpp(2.0) is None


@given(st.sampled_from((0.25, 0.5, 1.0)), st.integers(2, 4), st.booleans())
def test_any_slip_by_powers_of_ten_is_found(mpp: float, power: int, up: bool) -> None:
    slipped = mpp * 10.0 ** (power if up else -power) * 1.003
    assert likely_mpp(slipped) == pytest.approx(mpp, rel=0.01)


@given(st.floats(1e-6, 1e6))
def test_a_guess_is_always_a_common_scans(stated: float) -> None:
    meant = likely_mpp(stated)
    assert meant is None or 0.2 < meant < 1.16


@pytest.mark.parametrize("mpp", [(0.049, 0.049), (20.1, 20.1), (0.25, 0.51)])
def test_implausible_values_are_kept_but_not_usable(mpp: tuple[float, float]) -> None:
    stated = from_file(mpp, "a tag")
    assert stated.mpp == mpp
    assert not stated.verified
    assert not is_usable(stated)
    with pytest.raises(ResolutionError, match="a tag"):
        trusted_mpp(stated, "slide.tif")


@pytest.mark.parametrize("mpp", [(0.0, 0.5), (float("nan"), 0.5), (float("inf"),) * 2])
def test_what_is_no_length_is_as_good_as_missing(mpp: tuple[float, float]) -> None:
    assert from_file(mpp, "a tag") == Resolution(None, "none", False)


def test_tags_without_a_unit_say_nothing() -> None:
    assert from_tags((1e4, 1e4), 1).mpp is None
    assert from_tags((2e4, 1e4), 3).mpp == (1.0, 0.5), "tags are (x, y)"


@pytest.mark.parametrize("origin", ["user", "user, remembered"])
def test_a_users_word_is_used_and_never_called_verified(origin: str) -> None:
    assert not from_user(0.5).verified
    assert trusted_mpp(Resolution((0.5, 0.4), origin, False), "slide.tif") == (0.5, 0.4)


def test_the_refusal_names_file_value_origin_range_and_remedy() -> None:
    with pytest.raises(ResolutionError) as refused:
        trusted_mpp(from_file((0.00499, 0.00499), "TIFF tags"), "slide.tif")
    for words in (
        "slide.tif",
        "0.00499 um/px",
        "TIFF tags",
        "0.05 to 20",
        "--mpp 0.499",
    ):
        assert words in str(refused.value)


def test_the_refusal_of_unlike_sides_names_both() -> None:
    with pytest.raises(ResolutionError, match=r"0\.25 x 0\.6 um/px"):
        trusted_mpp(from_file((0.25, 0.6), "a tag"), "slide.tif")


@pytest.mark.real_data
@pytest.mark.parametrize("name", SHARED)
def test_real_files_state_what_is_known_of_them(shared_data: Path, name: str) -> None:
    mpp, plausible = SHARED[name]
    with open_slide(shared_data / "slides" / name) as slide:
        stated = slide.resolution
        assert stated.mpp == pytest.approx((mpp, mpp), rel=1e-3)
        assert stated.verified is plausible
        if not plausible:
            with pytest.raises(ResolutionError, match="which no slide scanner has"):
                _ = slide.mpp
