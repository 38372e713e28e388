"""The size that a compressed stream states is read without decoding it."""

from __future__ import annotations

import imagecodecs
import numpy as np
import pytest

from napari_gimp.slide.codestream import stated_shape
from tiff_files import picture


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "encode",
    [
        imagecodecs.jpeg8_encode,
        imagecodecs.jpeg2k_encode,
        lambda pixels: imagecodecs.jpeg2k_encode(pixels, codecformat="j2k"),
        lambda pixels: imagecodecs.jpeg8_encode(pixels, lossless=True),
    ],
    ids=["jpeg", "jp2", "j2k", "lossless"],
)
def test_the_stated_shape_is_that_of_the_pixels(encode, channels):
    pixels = np.squeeze(picture(37, 61, channels))
    assert stated_shape(bytes(encode(pixels))) == (37, 61)


def test_other_bytes_state_nothing():
    assert stated_shape(b"") is None
    assert stated_shape(bytes(1000)) is None
    assert stated_shape(bytes(imagecodecs.png_encode(picture(20, 20)))) is None


@pytest.mark.parametrize("kept", range(0, 60, 7))
def test_a_cut_off_stream_is_no_error(kept):
    for encode in (imagecodecs.jpeg8_encode, imagecodecs.jpeg2k_encode):
        shape = stated_shape(bytes(encode(picture(37, 61)))[:kept])
        assert shape in (None, (37, 61))
