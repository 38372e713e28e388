"""A TIFF whose directories lead back to themselves is refused at once."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
import tifffile

from napari_gimp.errors import SlideError
from napari_gimp.slide.tiff import TiffSource
from tiff_files import halved, picture, write_tiled


def join_to_a_ring(path: Path, *, first: int) -> None:
    """Let the last directory of a small TIFF be followed by an earlier one."""
    with tifffile.TiffFile(path) as tiff:
        offsets = [page.offset for page in tiff.pages]
        count = len(tiff.pages[-1].tags)
    with path.open("r+b") as file:
        file.seek(offsets[-1] + 2 + 12 * count)
        file.write(struct.pack("<I", offsets[first]))


@pytest.mark.timeout(20)
@pytest.mark.parametrize("first", [0, 1, -1])
def test_directories_in_a_ring_are_refused(tmp_path, first):
    path = write_tiled(tmp_path / "a.tif", halved(picture()))
    join_to_a_ring(path, first=first)
    with pytest.raises(SlideError, match=r"directory at byte \d+ comes after itself"):
        TiffSource(path)


def test_directories_in_a_row_are_not(tmp_path):
    path = write_tiled(tmp_path / "a.tif", halved(picture(), 5), bigtiff=True)
    with TiffSource(path) as slide:
        assert len(slide.levels) == 5
