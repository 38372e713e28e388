"""DICOM slides: pixels, levels and channels against wsidicom and what was written."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from dicom_files import (
    LOSSLESS,
    MPP,
    SYNTAXES,
    TILE,
    Instance,
    by_wsidicom,
    damage_frame,
    rewritten,
    whole,
    write_concatenation,
    write_dicom,
    write_instance,
    write_other,
)
from napari_gimp.errors import SlideError
from napari_gimp.slide.dicom import DicomSource, is_dicom
from napari_gimp.slide.source import open_slide
from napari_gimp.slide.tiles import tile_cache
from planted_slides import averaged
from tiff_files import halved, picture


@pytest.fixture(autouse=True)
def _empty_cache():
    tile_cache().clear()


@pytest.fixture(scope="module")
def levels() -> list[np.ndarray]:
    return halved(picture(300, 420), 3)


@pytest.fixture(scope="module")
def grey() -> np.ndarray:
    return picture(300, 420, 1, np.uint16)[:, :, 0]


@pytest.mark.parametrize("syntax", LOSSLESS)
def test_lossless_levels_come_back_as_written(tmp_path, levels, syntax):
    folder = write_dicom(tmp_path / "slide", levels, syntax=syntax)
    for number, level in enumerate(levels):
        np.testing.assert_array_equal(whole(folder, number), level)


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize(
    "box",
    [(0, 0, 300, 420), (100, 100, 60, 70), (128, 256, 128, 128), (290, 410, 10, 10)],
)
def test_regions_are_those_that_wsidicom_reads(tmp_path, levels, syntax, box):
    folder = write_dicom(tmp_path / "slide", levels, syntax=syntax)
    with DicomSource(folder) as slide:
        found = slide.read_region(0, *box)
    np.testing.assert_array_equal(found, by_wsidicom(folder, 0, box))


@pytest.mark.parametrize("factor", ["2", "4", "5/2"])
def test_levels_have_the_factor_they_were_made_with(tmp_path, factor):
    finest = picture(611, 733)
    coarse = averaged(finest, Fraction(factor))
    folder = write_dicom(tmp_path / "s", [finest, coarse], factor=Fraction(factor))
    with DicomSource(folder) as slide:
        assert [level.shape for level in slide.levels] == [(611, 733), coarse.shape[:2]]
        times = float(Fraction(factor))
        assert slide.levels[1].downsample == (times, times)
        assert slide.levels[1].tile == TILE
    np.testing.assert_array_equal(whole(folder, 1), coarse)


def test_tiles_may_differ_in_size_between_levels(tmp_path, levels):
    write_instance(tmp_path / "a.dcm", levels[0], Instance(tile=(64, 96)))
    write_instance(tmp_path / "b.dcm", levels[1], Instance(tile=(50, 40), mpp=1.0))
    for number in (0, 1):
        np.testing.assert_array_equal(whole(tmp_path, number), levels[number])


def test_frames_left_out_of_one_channel_are_black(tmp_path, grey):
    for number, missing in enumerate((frozenset({(1, 0)}), frozenset())):
        how = replace(fluorescence(number), missing=missing)
        write_instance(tmp_path / f"{number}.dcm", grey, how)
    wanted = np.stack([grey, grey], axis=2)
    wanted[128:256, :128, 0] = 0
    np.testing.assert_array_equal(whole(tmp_path), wanted)


@pytest.mark.parametrize("missing", [None, frozenset({(0, 0)})])
def test_focal_planes_of_several_files_may_be_sparse(tmp_path, levels, missing):
    for number in range(3):
        how = Instance(z_um=2.0 * number, missing=missing)
        write_instance(tmp_path / f"{number}.dcm", levels[0] // (number + 1), how)
    wanted = levels[0] // 2
    if missing:
        wanted[:128, :128] = 255
    np.testing.assert_array_equal(whole(tmp_path), wanted)


def test_a_concatenation_is_one_level(tmp_path, levels):
    how = Instance(syntax="jpeg2000")
    folder = write_concatenation(tmp_path / "slide", levels[0], 3, how)
    assert len(list(folder.iterdir())) == 3
    np.testing.assert_array_equal(whole(folder), levels[0])


@pytest.mark.parametrize(("fragments", "table"), [(1, True), (1, False), (3, True)])
def test_frames_are_found_however_they_are_packed(tmp_path, levels, fragments, table):
    how = Instance("rle", fragments=fragments, offset_table=table)
    path = write_instance(tmp_path / "a.dcm", levels[0], how)
    np.testing.assert_array_equal(whole(path), levels[0])


def test_every_file_and_the_folder_are_the_same_slide(tmp_path, levels):
    folder = write_dicom(tmp_path / "slide", levels, syntax="jpeg")
    write_instance(folder / "label.dcm", levels[2], Instance(flavour="LABEL"))
    prints = set()
    for path in (folder, *folder.iterdir()):
        with open_slide(path) as slide:
            assert slide.reader == "wsidicom"
            assert slide.path == path
            assert len(slide.levels) == 3
            prints.add(slide.fingerprint)
    assert len(prints) == 1


def test_a_fingerprint_names_the_content(tmp_path, levels):
    folder = write_dicom(tmp_path / "slide", levels)
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    (copy / "level-0.dcm").rename(copy / "renamed.dcm")
    other = write_dicom(tmp_path / "other", [255 - level for level in levels])
    prints = []
    for path in (folder, copy, other):
        with DicomSource(path) as slide:
            prints.append(slide.fingerprint)
    assert prints[0] == prints[1] != prints[2]


def test_other_series_in_the_folder_are_left_alone(tmp_path, levels):
    folder = write_dicom(tmp_path / "slide", levels[:2])
    other = Instance(series="2", mpp=0.25)
    write_instance(folder / "other.dcm", levels[2], other)
    write_other(folder / "capture.dcm")
    (folder / "notes.txt").write_text("no DICOM")
    with DicomSource(folder / "level-1.dcm") as slide:
        assert [level.shape for level in slide.levels] == [(300, 420), (150, 210)]
    with pytest.raises(SlideError, match=r"2 slides: give one file .*other\.dcm"):
        DicomSource(folder)


def test_resolution_is_the_pixel_spacing(tmp_path, levels):
    with DicomSource(write_dicom(tmp_path / "s", levels)) as slide:
        assert slide.mpp == pytest.approx((MPP, MPP))
        assert slide.resolution.origin == "DICOM PixelSpacing"
        assert slide.resolution.verified


def test_no_pixel_spacing_is_no_resolution(tmp_path, levels):
    path = write_instance(tmp_path / "a.dcm", levels[0], Instance(mpp=None))
    path = rewritten(path, ImagedVolumeWidth=1.0, ImagedVolumeHeight=1.0)
    with DicomSource(path) as slide:
        assert slide.resolution.mpp is None


def test_properties_tell_the_scanner_and_nothing_of_the_patient(tmp_path, levels):
    with DicomSource(write_dicom(tmp_path / "s", levels, syntax="jpeg")) as slide:
        assert slide.properties == {
            "vendor": "Acme",
            "scanner": "Scan 1",
            "objective": "20",
            "compression": "JPEG Baseline (Process 1)",
            "photometric": "YBR_FULL_422",
        }


def test_the_colour_profile_is_that_of_the_optical_path(tmp_path, levels):
    folder = write_dicom(tmp_path / "s", levels, icc=b"profile!")
    with DicomSource(folder) as slide:
        assert slide.icc == b"profile!"


GREY = [(s, t) for s in LOSSLESS for t in (np.uint8, np.uint16)]
GREY.remove(("rle", np.uint16))


@pytest.mark.parametrize(("syntax", "dtype"), GREY)
def test_grey_pixels_are_one_channel(tmp_path, grey, syntax, dtype):
    pixels = grey if dtype == np.uint16 else (grey >> 8).astype(np.uint8)
    path = write_instance(tmp_path / "a.dcm", pixels, Instance(syntax))
    with DicomSource(path) as slide:
        assert (slide.rgb, slide.channels, slide.fill) == (False, 1, 0)
        assert slide.dtype == dtype
    np.testing.assert_array_equal(whole(path)[:, :, 0], pixels)


STAINS = (("DAPI", (0, 0, 65535)), ("CD3", (0, 65535, 0)), ("CD20", (65535, 32896, 0)))


def fluorescence(number: int | slice) -> Instance:
    chosen = STAINS[number] if isinstance(number, slice) else STAINS[number:][:1]
    return Instance(
        syntax="jpeg2000",
        paths=tuple(name.lower() for name, _ in chosen),
        names=tuple(name for name, _ in chosen),
        colors=tuple(color for _, color in chosen),
    )


@pytest.mark.parametrize("together", [True, False])
def test_optical_paths_are_channels(tmp_path, grey, together):
    planes = [grey, grey[::-1].copy(), grey // 3]
    if together:
        write_instance(tmp_path / "a.dcm", planes, fluorescence(slice(3)))
    else:
        for number, plane in enumerate(planes):
            write_instance(tmp_path / f"{number}.dcm", plane, fluorescence(number))
    with DicomSource(tmp_path) as slide:
        assert slide.channel_names == ("DAPI", "CD3", "CD20")
        assert slide.channel_colors == ("#0000ff", "#00ff00", "#ff8000")
        assert not slide.rgb
    np.testing.assert_array_equal(whole(tmp_path), np.stack(planes, axis=2))


def test_a_level_that_lacks_a_channel_is_left_out(tmp_path, grey):
    write_instance(tmp_path / "a.dcm", [grey, grey // 2], fluorescence(slice(2)))
    half = replace(fluorescence(0), mpp=1.0)
    write_instance(tmp_path / "b.dcm", grey[::2, ::2], half)
    with DicomSource(tmp_path) as slide:
        assert [level.shape for level in slide.levels] == [(300, 420)]


@pytest.mark.parametrize("together", [True, False])
def test_the_middle_focal_plane_is_shown(tmp_path, levels, together):
    planes = [levels[0], 255 - levels[0], levels[0] // 2]
    if together:
        write_instance(tmp_path / "a.dcm", planes, Instance(focal_planes=3))
    else:
        for number, plane in enumerate(planes):
            how = Instance(z_um=2.0 * number)
            write_instance(tmp_path / f"{number}.dcm", plane, how)
    with DicomSource(tmp_path) as slide:
        assert slide.properties["focal plane"] == "2 of 3, at 2 um"
    np.testing.assert_array_equal(whole(tmp_path), planes[1])


def test_levels_of_another_place_on_the_glass_are_left_out(tmp_path, levels):
    write_dicom(tmp_path, levels[:1])
    far = Instance(mpp=1.0, origin_mm=(12.0, 20.0))
    write_instance(tmp_path / "far.dcm", levels[1], far)
    with DicomSource(tmp_path) as slide:
        assert [level.shape for level in slide.levels] == [(300, 420)]


def test_what_has_another_aspect_is_no_level(tmp_path, levels):
    write_dicom(tmp_path, levels[:1])
    write_instance(tmp_path / "strip.dcm", levels[0][:150, :400], Instance(mpp=1.0))
    with DicomSource(tmp_path) as slide:
        assert [level.shape for level in slide.levels] == [(300, 420)]


def test_ycbcr_that_no_codec_converts_becomes_rgb(tmp_path):
    from napari_gimp.slide.tiff_colour import ycbcr_to_rgb

    stored = picture(130, 140)
    how = Instance(syntax="rle", photometric="YBR_FULL")
    path = write_instance(tmp_path / "a.dcm", stored, how)
    np.testing.assert_array_equal(whole(path), ycbcr_to_rgb(stored))


def test_many_threads_read_what_one_does(tmp_path, levels):
    for syntax in SYNTAXES:
        folder = write_dicom(tmp_path / syntax, levels, syntax=syntax, tile=(64, 64))
        with DicomSource(folder) as slide, ThreadPoolExecutor(8) as pool:
            assert slide.thread_safe
            places = [(0, r, c) for r in range(5) for c in range(7)] * 3
            alone = [slide.decode_tile(*place) for place in places]
            found = pool.map(lambda place: slide.decode_tile(*place), places)
            for one, many in zip(alone, found, strict=True):
                np.testing.assert_array_equal(one, many)


def test_label_and_macro_are_decoded_only_when_asked_for(tmp_path, levels):
    folder = write_dicom(tmp_path / "s", levels, syntax="jpeg2000")
    kinds = {"LABEL": 0, "OVERVIEW": 1, "THUMBNAIL": 2}
    for flavour, number in kinds.items():
        how = Instance(syntax="jpeg2000", flavour=flavour)
        write_instance(folder / f"{flavour}.dcm", levels[number], how)
    damage_frame(folder / "LABEL.dcm", 0)
    with DicomSource(folder) as slide:
        assert slide.associated == ("label", "macro", "thumbnail")
        np.testing.assert_array_equal(slide.read_associated("macro"), levels[1])
        np.testing.assert_array_equal(slide.read_associated("thumbnail"), levels[2])
        with pytest.raises(SlideError):
            slide.read_associated("label")
        with pytest.raises(SlideError, match="no image called 'nothing'; it has label"):
            slide.read_associated("nothing")


def test_is_dicom_knows_files_and_folders(tmp_path, levels):
    folder = write_dicom(tmp_path / "s", levels[:1])
    (tmp_path / "empty").mkdir()
    assert is_dicom(folder)
    assert is_dicom(folder / "level-0.dcm")
    assert not is_dicom(tmp_path / "empty")
    assert not is_dicom(tmp_path / "absent.dcm")


@pytest.mark.real_data
def test_the_dicom_and_svs_forms_of_a_slide_lie_on_each_other(shared_data):
    """The DICOM form was compressed anew, so its pixels are near, not the same."""
    with (
        open_slide(shared_data / "slides" / "CMU-1-dicom") as dicom,
        open_slide(shared_data / "slides" / "CMU-1-Small-Region.svs") as svs,
    ):
        rows, cols = svs.levels[0].shape
        assert dicom.levels[0].shape == (rows, cols)
        assert dicom.mpp == pytest.approx(svs.mpp, rel=1e-3)
        assert dicom.associated == ("label", "macro", "thumbnail")
        wanted = svs.read_region(0, 1500, 900, 600, 600).mean(axis=2)
        found = dicom.read_region(0, 1500, 900, 600, 600).mean(axis=2)
    off = {
        (dy, dx): np.abs(np.roll(found, (dy, dx), (0, 1)) - wanted).mean()
        for dy in (-1, 0, 1)
        for dx in (-1, 0, 1)
    }
    aligned = off.pop((0, 0))
    assert aligned < 3
    assert min(off.values()) > 2 * aligned


@pytest.mark.real_data
def test_the_real_slide_is_read_as_wsidicom_reads_it(shared_data):
    path = shared_data / "slides" / "CMU-1-dicom"
    box = (1000, 900, 700, 800)
    with open_slide(path) as slide:
        found = slide.read_region(0, *box)
    np.testing.assert_array_equal(found, by_wsidicom(path, 0, box))
