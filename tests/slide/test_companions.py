"""A damaged list of files beside a slide names what cannot be a file's name."""

from __future__ import annotations

import pytest

from napari_gimp.errors import SlideError
from napari_gimp.slide.source import open_slide
from planted_slides import smooth_noise
from vendor_vms import write_vms


def test_a_name_that_no_file_can_have_counts_as_missing(tmp_path):
    finest = smooth_noise((256, 256), 3)
    path = write_vms(tmp_path / "a.vms", [finest, finest[::2, ::2].copy()])
    path.write_text(path.read_text().replace("a(1,0).jpg", "n" * 300))
    with pytest.raises(SlideError, match=r"a\.vms needs n{300} beside it"):
        open_slide(path)


@pytest.mark.parametrize("name", ["a(0,1).jpg", "a(1,0).jpg", "a(1,1).jpg"])
@pytest.mark.parametrize("byte", [5, 7], ids=["height", "width"])
def test_a_picture_that_does_not_fit_the_others_is_named(tmp_path, name, byte):
    """OpenSlide would end the program at the first tile that lies beyond the grid."""
    finest = smooth_noise((256, 256), 3)
    path = write_vms(tmp_path / "a.vms", [finest, finest[::2, ::2].copy()])
    jpeg = bytearray((tmp_path / name).read_bytes())
    jpeg[jpeg.index(b"\xff\xc0") + byte] = 1
    (tmp_path / name).write_bytes(jpeg)
    with pytest.raises(SlideError, match="does not fit the other pictures"):
        open_slide(path)


def test_a_sound_grid_passes(tmp_path):
    finest = smooth_noise((200, 264), 3)
    path = write_vms(tmp_path / "a.vms", [finest, finest[::2, ::2].copy()])
    with open_slide(path) as slide:
        assert slide.reader == "openslide"
