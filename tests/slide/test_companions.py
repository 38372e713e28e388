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
