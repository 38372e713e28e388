"""DICOM slides that are damaged, incomplete or none: what is marked, and refused."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest

from dicom_files import (
    PATIENT,
    Instance,
    damage_frame,
    rewritten,
    whole,
    write_concatenation,
    write_dicom,
    write_instance,
    write_other,
)
from napari_gimp.errors import SlideError
from napari_gimp.slide.dicom import DicomSource
from napari_gimp.slide.source import open_slide
from napari_gimp.slide.tiles import tile_cache
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


def test_frames_that_were_left_out_are_white(tmp_path, levels):
    missing = frozenset({(0, 1), (2, 3)})
    folder = write_dicom(tmp_path / "slide", levels[:1], missing=missing)
    wanted = levels[0].copy()
    wanted[:128, 128:256] = 255
    wanted[256:, 384:] = 255
    with DicomSource(folder) as slide:
        np.testing.assert_array_equal(slide.read_region(0, 0, 0, 300, 420), wanted)
        assert len(slide.damage) == 0


def test_a_part_of_a_concatenation_that_is_missing_is_marked(tmp_path, levels):
    folder = write_concatenation(tmp_path / "slide", levels[0], 3, Instance())
    (folder / "part-1.dcm").unlink()
    with DicomSource(folder) as slide:
        found = slide.read_region(0, 0, 0, 300, 420)
        assert slide.damage.places == ((0, 1, 0), (0, 1, 1), (0, 1, 2), (0, 1, 3))
    wanted = levels[0].copy()
    wanted[128:256] = 255
    np.testing.assert_array_equal(found, wanted)


def test_fragments_that_nothing_tells_apart_are_refused(tmp_path, levels):
    how = Instance("rle", fragments=3, offset_table=False)
    path = write_instance(tmp_path / "a.dcm", levels[0], how)
    with pytest.raises(SlideError, match="more fragments 36 than NumberOfFrames 12"):
        DicomSource(path)


def test_a_compression_that_wsidicom_lacks_is_named(tmp_path, grey):
    path = write_instance(tmp_path / "a.dcm", grey, Instance("rle"))
    with pytest.raises(SlideError, match="RLE Lossless, MONOCHROME2, 1 samples of 16"):
        DicomSource(path)


@pytest.mark.parametrize("syntax", ["jpeg", "jpeg2000", "rle"])
def test_a_damaged_frame_is_marked_and_the_rest_is_read(tmp_path, levels, syntax):
    folder = write_dicom(tmp_path / "s", levels[:1], syntax=syntax)
    before = whole(folder)
    tile_cache().clear()
    damage_frame(folder / "level-0.dcm", 5)
    with DicomSource(folder) as slide:
        after = slide.read_region(0, 0, 0, 300, 420)
        assert slide.damage.places == ((0, 1, 1),)
    before[128:256, 128:256] = 255
    np.testing.assert_array_equal(after, before)


def test_a_frame_that_claims_to_be_huge_is_never_decoded(tmp_path, levels):
    path = write_instance(tmp_path / "a.dcm", levels[2], Instance(syntax="jpeg2000"))
    stored = bytearray(path.read_bytes())
    at = stored.index(b"\xff\x4f\xff\x51") + 12
    stored[at] = 1  # the height gains 2 ** 24
    path.write_bytes(stored)
    with DicomSource(path) as slide:
        assert (slide.read_region(0, 0, 0, 75, 105) == 255).all()
        assert slide.damage.places == ((0, 0, 0),)
        with pytest.raises(ValueError, match="it says that it holds 16777344 x 128"):
            slide.decode_tile(0, 0, 0)


@pytest.mark.parametrize("syntax", ["jpeg", "raw"])
def test_tiles_beyond_the_end_of_a_cut_off_file_are_marked(tmp_path, levels, syntax):
    path = write_instance(tmp_path / "a.dcm", levels[0], Instance(syntax=syntax))
    with DicomSource(path) as slide:
        offset, count = slide._planes[0][0].image._frames[0].places[-1].tolist()
    tile_cache().clear()
    path.write_bytes(path.read_bytes()[: offset + count // 2])
    with DicomSource(path) as slide:
        slide.read_region(0, 0, 0, 300, 420)
        assert slide.damage.places == ((0, 2, 3),)


def test_a_file_that_vanishes_is_an_error_and_no_damage(tmp_path, levels, monkeypatch):
    from napari_gimp.slide.tiff_bytes import FileBytes

    def unplugged(*_: object) -> bytes:
        raise OSError(5, "Input/output error")

    with DicomSource(write_dicom(tmp_path / "s", levels)) as slide:
        monkeypatch.setattr(FileBytes, "read", unplugged)
        with pytest.raises(SlideError, match=r"can no longer be read.*drive"):
            slide.read_region(0, 0, 0, 300, 420)
        assert len(slide.damage) == 0


def test_a_closed_slide_says_so(tmp_path, levels):
    slide = DicomSource(write_dicom(tmp_path / "s", levels))
    slide.close()
    with pytest.raises(SlideError, match="closed"):
        slide.read_region(0, 0, 0, 10, 10)
    with pytest.raises(SlideError, match="closed"):
        slide.read_associated("label")


def test_a_dicom_file_that_is_no_slide_is_refused(tmp_path):
    path = write_other(tmp_path / "capture.dcm")
    with pytest.raises(SlideError, match=r"no slide .Secondary Capture") as caught:
        open_slide(path)
    assert PATIENT not in str(caught.value)
    with pytest.raises(SlideError, match="1 DICOM files but no slide"):
        open_slide(tmp_path)


def test_a_label_without_levels_is_refused(tmp_path, levels):
    path = write_instance(tmp_path / "a.dcm", levels[2], Instance(flavour="LABEL"))
    with pytest.raises(SlideError, match="no level"):
        DicomSource(path)


@pytest.mark.parametrize("kept", [140, 400, 900])
def test_a_header_that_is_cut_off_is_refused(tmp_path, levels, kept):
    folder = write_dicom(tmp_path / "s", levels[:2])
    path = folder / "level-1.dcm"
    path.write_bytes(path.read_bytes()[:kept])
    for given in (folder, path, folder / "level-0.dcm"):
        with pytest.raises(SlideError) as caught:
            DicomSource(given)
        assert "level-1.dcm" in str(caught.value)
        assert PATIENT not in str(caught.value)


def test_a_damaged_header_tells_nothing_of_the_patient(tmp_path, levels, recwarn):
    """Lengths that are wrong make a value run on into the patient's name."""
    path = write_instance(tmp_path / "a.dcm", levels[2])
    sound = path.read_bytes()
    name_at = sound.index(PATIENT.encode())
    rng = np.random.default_rng(3)
    told = []
    for at in rng.integers(132, name_at, 80):
        damaged = bytearray(sound)
        damaged[at] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        try:
            with DicomSource(path) as slide:
                told.append(str(slide.properties))
        except SlideError as error:
            told.append(str(error))
    told += [str(warning.message) for warning in recwarn]
    assert any("damaged" in text for text in told)
    assert not [text for text in told if PATIENT in text]


@pytest.mark.parametrize(
    ("attribute", "value", "said"),
    [
        ("PhotometricInterpretation", "MONOCHROME1", "MONOCHROME1"),
        ("PixelRepresentation", 1, "8 bits"),
        ("NumberOfFrames", 3, "damaged"),
        ("TotalPixelMatrixRows", 2**31, "damaged"),
        ("Rows", 0, "damaged"),
    ],
)
def test_what_cannot_be_read_is_refused(tmp_path, levels, attribute, value, said):
    path = write_instance(tmp_path / "a.dcm", levels[0])
    rewritten(path, **{attribute: value})
    with pytest.raises(SlideError, match=said) as caught:
        DicomSource(path)
    assert PATIENT not in str(caught.value)


def test_twelve_bits_uncompressed_are_refused_by_name(tmp_path, grey):
    path = write_instance(tmp_path / "a.dcm", grey >> 4)
    rewritten(path, BitsStored=12, HighBit=11)
    with pytest.raises(SlideError, match="12 bits per sample uncompressed"):
        DicomSource(path)


def test_tiles_beside_the_grid_are_refused(tmp_path, levels):
    how = Instance(missing=frozenset())
    path = write_instance(tmp_path / "a.dcm", levels[0], how)
    dataset = pydicom.dcmread(path)
    place = dataset.PerFrameFunctionalGroupsSequence[5].PlanePositionSlideSequence[0]
    place.RowPositionInTotalImagePixelMatrix -= 30
    dataset.save_as(path)
    with pytest.raises(SlideError, match="1 tiles beside the grid of 128 x 128 px"):
        DicomSource(path)
