"""Opening: resolution, factors, and one clear sentence where there is no slide."""

from __future__ import annotations

import math
import os
import shutil
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
from opening_errors import one_sentence
from vendor_mrxs import write_mrxs
from vendor_vms import write_vms
from vendor_vmu import write_vmu

NO_SLIDES = {
    "notes.txt": b"not a slide\n",
    "noise.tif": b"\x01\x02\x03" * 500,
    "list.json": b'{"slides": []}',
}


@pytest.mark.parametrize("name", NO_SLIDES)
def test_a_file_that_is_no_slide_says_so(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(NO_SLIDES[name])
    assert "is not a slide: give an SVS" in one_sentence(path)


@pytest.mark.parametrize("name", ["a.lif", "b.isyntax"])
def test_a_scanners_format_that_nobody_reads_is_named(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"\x70\0\0\0" + bytes(500))
    assert "which none of the readers knows: convert it to" in one_sentence(path)


def test_the_overview_in_an_olympus_file_is_not_shown_as_the_slide(write, texture):
    assert "in the format Olympus VSI" in one_sentence(write([texture], name="a.vsi"))


def test_an_empty_file_says_so(tmp_path):
    path = tmp_path / "a.svs"
    path.touch()
    assert "is empty (0 bytes): copy" in one_sentence(path)


def test_a_missing_file_says_so(tmp_path):
    assert "There is no file" in one_sentence(tmp_path / "gone.svs")


def test_a_file_behind_a_broken_link_says_so(tmp_path):
    path = tmp_path / "a.svs"
    path.symlink_to(tmp_path / "gone.svs")
    assert "There is no file" in one_sentence(path)


def test_a_file_one_may_not_read_says_so(tmp_path, monkeypatch):
    path = tmp_path / "a.svs"
    path.write_bytes(b"II*\0")

    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    assert "(Permission denied): ask for access" in one_sentence(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no such files")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.svs")
    assert "is a device, not a file" in one_sentence(tmp_path / "a.svs")


def test_a_folder_of_something_else_says_so(tmp_path):
    (tmp_path / "a.txt").write_text("no slide")
    assert "is a folder, but holds neither DICOM nor" in one_sentence(tmp_path)


def test_a_mirax_cover_without_its_folder_is_not_shown_as_the_slide(tmp_path, texture):
    path = write_mrxs(tmp_path / "case.mrxs", [texture])
    shutil.rmtree(tmp_path / "case")
    text = one_sentence(path)
    assert "a folder called 'case' beside it" in text
    assert f"{tmp_path} has no such folder: copy it there" in text


def test_a_mirax_folder_without_its_list_says_so(tmp_path, texture):
    path = write_mrxs(tmp_path / "case.mrxs", [texture])
    (tmp_path / "case" / "Slidedat.ini").unlink()
    assert "needs the file Slidedat.ini in the folder 'case'" in one_sentence(path)


def test_a_mirax_folder_with_a_damaged_index_names_the_reader(tmp_path, texture):
    path = write_mrxs(tmp_path / "case.mrxs", [texture])
    (tmp_path / "case" / "Index.dat").write_bytes(b"x" * 200)
    assert "(OpenSlide: it cannot be opened (Index.dat" in one_sentence(path)


@pytest.mark.parametrize(
    ("lost", "told"),
    [
        (["case_map2.jpg"], "needs case_map2.jpg beside it"),
        (["case(1,0).jpg", "case(0,1).jpg"], "needs case(1,0).jpg and case(0,1).jpg"),
        (
            ["case.jpg", "case(1,0).jpg", "case(0,1).jpg", "case_map2.jpg"],
            "case(1,0).jpg, case(0,1).jpg and 1 more file beside it",
        ),
    ],
)
def test_a_vms_without_its_pictures_names_them(tmp_path, texture, lost, told):
    path = write_vms(tmp_path / "case.vms", [texture, texture[::2, ::2]])
    for name in lost:
        (tmp_path / name).unlink(missing_ok=True)
    assert told in one_sentence(path)


@pytest.mark.parametrize(
    ("stated", "instead"),
    [("BitsPerPixel=36", "BitsPerPixel=24"), ("PixelOrder=RGB", "PixelOrder=BGR")],
)
def test_a_vmu_of_another_kind_is_refused_before_openslide_crashes(
    tmp_path, texture, stated, instead
):
    """OpenSlide knows the list whatever the file is called."""
    path = write_vmu(tmp_path / "a.vmu", [texture, texture[::2, ::2]])
    path.write_text(path.read_text().replace(stated, instead))
    assert "only 36 in the order RGB are read" in one_sentence(path)
    path = path.rename(tmp_path / "a.txt")
    assert "only 36 in the order RGB are read" in one_sentence(path)


def test_a_vmu_with_fewer_pixels_than_it_states_is_refused(tmp_path, texture):
    path = write_vmu(tmp_path / "a.vmu", [texture, texture[::2, ::2]])
    pixels = tmp_path / "a.ngr"
    pixels.write_bytes(pixels.read_bytes()[:-1000])
    with pytest.raises(SlideError, match=r"a\.ngr is damaged: it states 700 x"):
        open_slide(path)


def test_converting_colours_changes_nothing_where_there_is_no_profile(write, texture):
    path = write([texture])
    with open_slide(path) as plain, open_slide(path, srgb=True) as asked:
        assert not asked.srgb
        assert asked.fingerprint == plain.fingerprint
        np.testing.assert_array_equal(
            asked.read_region(0, 0, 0, 99, 99), plain.read_region(0, 0, 0, 99, 99)
        )


@pytest.mark.real_data
def test_broken_real_files_say_so(shared_data):
    slides = shared_data / "slides"
    text = one_sentence(slides / "unreadable.svs")
    assert "tifffile: it is damaged: tile row" in text
    text = one_sentence(slides / "unopenable.tiff")
    assert "Unsupported TIFF compression: 52479" in text


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
