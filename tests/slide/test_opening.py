"""Opening: resolution, factors, and one clear sentence where there is no slide."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from napari_gimp.errors import ResolutionError, SlideError
from napari_gimp.slide.factors import level_factor
from napari_gimp.slide.resolution import likely_mpp
from napari_gimp.slide.source import open_slide


def one_sentence(path: Path | str) -> str:
    """Open what is no slide and return the text, checked to be one sentence."""
    with pytest.raises(SlideError) as caught:
        open_slide(path)
    text = str(caught.value)
    assert "\n" not in text
    assert text.endswith(".")
    assert text.count(". ") == 0
    assert Path(path).name in text
    return text


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("notes.txt", b"not a slide\n"),
        ("empty.svs", b""),
        ("noise.tif", b"\x01\x02\x03" * 500),
        ("cut.png", b"\x89PNG\r\n\x1a\n"),
    ],
)
def test_a_file_that_is_no_slide_says_so(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    assert "is not a slide: give an SVS" in one_sentence(path)


def test_a_missing_file_says_so(tmp_path):
    assert "There is no file" in one_sentence(tmp_path / "gone.svs")


def test_a_folder_says_so(tmp_path):
    assert "is a folder" in one_sentence(tmp_path)


def test_a_tiff_cut_short_says_so(write, texture):
    path = write([texture], compression="deflate")
    path.write_bytes(path.read_bytes()[:3000])
    assert "a.tif is damaged: tile row" in one_sentence(path)


def test_a_tiff_in_strips_of_16_bits_says_what_is_wrong_with_it(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.full((50, 60), 3000, np.uint16))
    assert "pixels of kind I;16" in one_sentence(path)


@pytest.mark.real_data
def test_broken_real_files_say_so(shared_data):
    slides = shared_data / "slides"
    assert "is damaged" in one_sentence(slides / "unreadable.svs")
    assert "compressed by method 52479" in one_sentence(slides / "unopenable.tiff")


def test_a_file_without_resolution_asks_for_it(tmp_path, texture):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, texture, tile=(128, 128), photometric="rgb")
    with open_slide(path) as slide:
        assert slide.resolution.mpp is None
        with pytest.raises(ResolutionError, match="give it with --mpp"):
            _ = slide.mpp


def test_an_implausible_resolution_is_not_used_but_corrected(tmp_path, texture):
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path,
        texture,
        tile=(128, 128),
        photometric="rgb",
        resolution=(1e4 / 0.0025, 1e4 / 0.0025),
        resolutionunit="CENTIMETER",
    )
    with open_slide(path) as slide:
        assert not slide.resolution.verified
        with pytest.raises(ResolutionError, match=r"so give --mpp 0\.25\."):
            _ = slide.mpp


def test_the_users_word_overrides_the_file_and_stays_unverified(write, texture):
    with open_slide(write([texture]), mpp=(0.3, 0.4)) as slide:
        assert slide.mpp == (0.3, 0.4)
        assert (slide.resolution.origin, slide.resolution.verified) == ("user", False)


@pytest.mark.parametrize("mpp", [0, -1.0, math.nan, math.inf, (0.5, 0.0)])
def test_a_resolution_that_is_none_is_refused(write, texture, mpp):
    with pytest.raises(ResolutionError, match="must be a positive number of um/px"):
        open_slide(write([texture]), mpp=mpp)


@pytest.mark.parametrize(
    ("stated", "meant"),
    [(0.00499, 0.499), (2500, 0.25), (227, 0.227), (352.8, None), (0.04, None)],
)
def test_a_slip_of_the_unit_is_guessed(stated, meant):
    assert likely_mpp(stated) == (None if meant is None else pytest.approx(meant))


@given(
    finest=st.tuples(st.integers(20_000, 200_000), st.integers(20_000, 200_000)),
    factor=st.sampled_from([2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 2.5, 6.25, 3.0, 1.5]),
    rounding=st.sampled_from([math.floor, math.ceil, round]),
)
def test_the_factor_is_found_whichever_way_shapes_were_rounded(
    finest, factor, rounding
):
    shape = tuple(rounding(side / factor) for side in finest)
    assert level_factor(finest, shape) == (factor, factor)


def test_repeated_halving_with_rounding_down_still_gives_the_power():
    shape = (9911, 9274)
    sides = list(shape)
    for k in range(1, 7):
        sides = [side // 2 for side in sides]
        assert level_factor(shape, tuple(sides)) == (2.0**k, 2.0**k)


def test_a_factor_that_nothing_simple_explains_is_the_quotient():
    assert level_factor((10_000, 20_000), (3001, 6333)) == (
        10_000 / 3001,
        20_000 / 6333,
    )


@pytest.mark.real_data
def test_the_real_slides_open_with_what_they_state(shared_data):
    slides = shared_data / "slides"
    with open_slide(slides / "CMU-1-Small-Region.svs") as slide:
        assert slide.mpp == (0.499, 0.499)
        assert slide.resolution.verified
        assert slide.properties["objective"] == "20"
        assert set(slide.associated) == {"label", "macro", "thumbnail"}
    with open_slide(slides / "her2st-C2.tif") as slide:
        assert slide.mpp == pytest.approx((0.69, 0.69))
        assert [v.downsample[0] for v in slide.levels] == [1, 2, 4, 8, 16, 32, 64]
    with open_slide(slides / "OS-1-detail.ome.tif") as slide:
        assert slide.mpp == pytest.approx((0.2271, 0.2271), abs=1e-4)
    wrong = slides / "CMU-1-Small-Region.jpeg.tiff"
    likely = pytest.raises(ResolutionError, match=r"--mpp 0\.499")
    with open_slide(wrong) as slide, likely:
        _ = slide.mpp
    with open_slide(wrong, mpp=0.499) as slide:
        assert slide.mpp == (0.499, 0.499)


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["CMU-1-Small-Region.svs", "her2st-C2.tif"])
def test_real_pixels_equal_those_of_openslide(shared_data, name):
    import openslide

    path = shared_data / "slides" / name
    rng = np.random.default_rng(1)
    with open_slide(path) as slide, openslide.OpenSlide(path) as reference:
        assert slide.reader == "tifffile"
        rows, cols = slide.levels[0].shape
        for _ in range(12):
            y, x = int(rng.integers(rows - 100)), int(rng.integers(cols - 100))
            height, width = min(500, rows - y), min(400, cols - x)
            theirs = reference.read_region((x, y), 0, (width, height))
            ours = slide.read_region(0, y, x, height, width)
            np.testing.assert_array_equal(ours, np.asarray(theirs)[:, :, :3])


@pytest.mark.real_data
def test_every_level_of_a_real_pyramid_equals_tifffile(shared_data):
    path = shared_data / "slides" / "her2st-C2.tif"
    with open_slide(path) as slide:
        for number, level in enumerate(slide.levels[2:], 2):
            theirs = tifffile.imread(path, level=number)
            ours = slide.read_region(number, 0, 0, *level.shape)
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.real_data
def test_label_and_macro_are_read_only_when_asked(shared_data, monkeypatch):
    path = shared_data / "slides" / "CMU-1-Small-Region.svs"
    read = []
    asarray = tifffile.TiffPageSeries.asarray
    monkeypatch.setattr(
        tifffile.TiffPageSeries,
        "asarray",
        lambda self, *a, **k: read.append(self.name) or asarray(self, *a, **k),
    )
    with open_slide(path) as slide:
        slide.read_region(0, 0, 0, 100, 100)
        assert read == []
        assert slide.read_associated("label").shape == (463, 387, 3)
    assert read == ["Label"]
