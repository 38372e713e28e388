"""The chain of readers: the next that can, named, and what the others said."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import tifffile

from dicom_files import write_dicom
from napari_gimp.errors import SlideError
from napari_gimp.slide import opening
from napari_gimp.slide.openslide import OpenSlideSource
from napari_gimp.slide.source import open_slide
from napari_gimp.slide.tiled import TiledSource
from opening_errors import one_sentence
from vendor_philips import write_philips


def retag(path: Path, **values: int) -> None:
    """Overwrite tags of a TIFF's first page."""
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        for name, value in values.items():
            tiff.pages.first.tags[name].overwrite(value)


def test_a_tiff_cut_short_is_told_by_every_reader(write, texture):
    path = write([texture], compression="deflate")
    path.write_bytes(path.read_bytes()[:3000])
    text = one_sentence(path)
    assert "copy it again from its source" in text
    for reader in ("tifffile", "OpenSlide", "Pillow"):
        assert text.count(f"{reader}: it ") == 1


def test_what_nobody_reads_comes_with_a_command_that_can_be_pasted(write, texture):
    path = write([texture], name="my slide.tif")
    retag(path, Compression=52479)
    text = one_sentence(path)
    assert "vips tiffsave 'my slide.tif' out.tif --tile --pyramid" in text
    assert (
        "OpenSlide: it cannot be opened (Unsupported TIFF compression: 52479)" in text
    )


def test_a_compression_that_only_openslide_knows_falls_back_to_it(write, texture):
    """LogLuv in 24 bits: its pixels are any three bytes."""
    path = write([texture])
    retag(path, Compression=34677, PhotometricInterpretation=32845)
    with open_slide(path) as slide:
        assert slide.reader == "openslide"
        (said,) = slide.refused
        assert slide.read_region(0, 0, 0, 300, 300).std() > 10
    assert said.startswith("tifffile: it is compressed with SGILOG24 (34677)")
    assert said.endswith(".")
    assert path.name not in said


def test_a_compression_that_openslide_refuses_is_read_without_a_word(write, texture):
    path = write([texture], compression="jpegxl", compressionargs={"level": 95})
    with pytest.raises(SlideError, match="Unsupported TIFF compression"):
        OpenSlideSource(path)
    with open_slide(path) as slide:
        assert (slide.reader, slide.refused) == ("tifffile", ())


def refusing(name: str, error: Exception) -> opening.Reader:
    def refuse(path: Path) -> TiledSource:
        raise error

    return opening.Reader(name, refuse)


def test_refusals_are_kept_in_the_order_asked(tmp_path, texture, monkeypatch):
    tifffile.imwrite(tmp_path / "a.tif", texture, photometric="rgb")
    first = refusing("tifffile", SlideError("a.tif is odd; do this or that."))
    second = refusing("OpenSlide", ValueError("no such thing"))
    monkeypatch.setattr(opening, "TIFFFILE", first)
    monkeypatch.setattr(opening, "OPENSLIDE", second)
    with open_slide(tmp_path / "a.tif") as slide:
        assert slide.reader == "tifffile"  # as a picture in strips
        assert slide.refused == ("tifffile: it is odd.", "OpenSlide: no such thing.")


def test_whatever_a_library_raises_becomes_a_clear_error(write, texture, monkeypatch):
    for name in ("TIFFFILE", "OPENSLIDE", "PILLOW"):
        reader = refusing(name.title(), struct.error("unpack requires 4 bytes"))
        monkeypatch.setattr(opening, name, reader)
    assert "Tifffile: unpack requires 4 bytes; Openslide" in one_sentence(
        write([texture])
    )


def test_a_vendors_tiff_is_openslides_without_a_refusal(tmp_path, texture):
    with open_slide(write_philips(tmp_path / "a.tiff", [texture])) as slide:
        assert (slide.reader, slide.refused) == ("openslide", ())


def test_a_vendors_tiff_that_openslide_refuses_is_not_read_as_a_picture(
    tmp_path, texture
):
    """Its tiles may overlap, and its um/px would be lost."""
    path = write_philips(tmp_path / "a.tiff", [texture])
    path.write_bytes(path.read_bytes().replace(b"PIM_DP_SCANNED", b"PIM_DP_SCANNEX"))
    text = one_sentence(path)
    assert "Expected one WSI image" in text
    assert "Pillow" not in text


def test_a_stack_of_images_is_refused_by_all(tmp_path):
    path = tmp_path / "a.tif"
    stack = np.zeros((5, 256, 256), np.uint8)
    tifffile.imwrite(path, stack, tile=(128, 128), photometric="minisblack")
    assert "is a stack of 5 images" in one_sentence(path)


@pytest.mark.real_data
@pytest.mark.parametrize("place", ["file", "folder"])
def test_dicom_that_wsidicom_refuses_is_openslides(shared_data, monkeypatch, place):
    path = shared_data / "slides" / "CMU-1-dicom"
    with open_slide(path) as slide:
        assert slide.reader == "wsidicom"
        wanted = slide.read_region(0, 1000, 900, 300, 200)
    monkeypatch.setattr(opening, "WSIDICOM", refusing("wsidicom", SlideError("no.")))
    with open_slide(path if place == "folder" else sorted(path.iterdir())[0]) as slide:
        assert (slide.reader, slide.refused) == ("openslide", ("wsidicom: no.",))
        found = slide.read_region(0, 1000, 900, 300, 200)
        assert slide.mpp == pytest.approx((0.499, 0.499))
    np.testing.assert_allclose(found, wanted, atol=3)


@pytest.mark.real_data
def test_any_file_of_a_dicom_slide_has_openslides_one_fingerprint(shared_data):
    found = set()
    for path in sorted((shared_data / "slides" / "CMU-1-dicom").iterdir()):
        with OpenSlideSource(path) as slide:
            found.add(slide.fingerprint)
    assert len(found) == 1


def test_a_folder_of_two_dicom_slides_is_no_readers_to_choose_from(tmp_path, texture):
    write_dicom(tmp_path / "one", [texture])
    write_dicom(tmp_path / "two", [texture], series="2")
    both = tmp_path / "both"
    both.mkdir()
    for name in ("one", "two"):
        shutil.copy(tmp_path / name / "level-0.dcm", both / f"{name}.dcm")
    text = one_sentence(both)
    assert "holds 2 slides: give one file" in text
    assert "QuPath" not in text


def test_a_picture_that_is_cut_off_says_what_to_do(tmp_path):
    path = tmp_path / "cut.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n")
    text = one_sentence(path)
    assert "copy it again from its source" in text
    assert text.endswith("(Pillow: it is no picture: cannot identify image file).")


def test_the_only_reader_of_a_format_gives_its_own_advice(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    own = SlideError("a.png is of a rare kind: convert it to RGB.")
    monkeypatch.setattr(opening, "PILLOW", refusing("Pillow", own))
    assert one_sentence(tmp_path / "a.png") == str(own)
    rare = refusing("Pillow", KeyError("PLTE"))
    monkeypatch.setattr(opening, "PILLOW", rare)
    assert "it may be incomplete (Pillow: 'PLTE')." in one_sentence(tmp_path / "a.png")
