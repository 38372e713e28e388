"""A TIFF that states impossible tiles is refused before OpenSlide takes the memory."""

from __future__ import annotations

import pytest

from napari_gimp.errors import SlideError
from napari_gimp.slide.openslide import OpenSlideSource
from napari_gimp.slide.tiff_sizes import check_tiles
from tiff_files import change_tag, halved, picture, write_planar, write_tiled
from vendor_scn import write_scn


@pytest.mark.parametrize("page", [0, 2])
def test_a_tile_of_gigapixels_is_refused(tmp_path, page):
    path = write_tiled(tmp_path / "a.tif", halved(picture()))
    change_tag(path, "TileWidth", 1 << 29, page=page)
    with pytest.raises(SlideError, match="tiles of 128 x 536870912 px"):
        OpenSlideSource(path)


def test_a_tile_of_gigabytes_is_refused(tmp_path):
    path = write_scn(tmp_path / "a.scn", halved(picture(512, 512)))
    counts = [3000, 1 << 31, 3000, 3000] * 4
    change_tag(path, "TileByteCounts", counts)
    with pytest.raises(SlideError, match="a tile of 2147483648 bytes for 128 x 128"):
        OpenSlideSource(path)


@pytest.mark.parametrize("rows", [1, 1 << 28])
def test_a_picture_that_needs_other_tiles_than_are_listed_is_refused(tmp_path, rows):
    path = write_tiled(tmp_path / "a.tif", halved(picture()))
    change_tag(path, "ImageLength", rows)
    with pytest.raises(SlideError, match="it lists 12 tiles for"):
        OpenSlideSource(path)


def test_sound_files_and_other_formats_pass(tmp_path):
    check_tiles(write_tiled(tmp_path / "a.tif", halved(picture()), compression="lzw"))
    check_tiles(write_planar(tmp_path / "b.tif", halved(picture())))
    (tmp_path / "a.mrxs").write_bytes(b"\xff\xd8\xff\xe0 no TIFF")
    check_tiles(tmp_path / "a.mrxs")
