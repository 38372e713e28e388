"""How one stored segment of a TIFF, a tile or a strip, is decoded.

Codecs of pictures are called directly with an array of the stated size to decode
into: that is faster than through tifffile, and a damaged header that states another
size is refused before any memory is taken. All else goes through tifffile.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import prod
from typing import Any

import numpy as np

from napari_gimp.slide.source import Pixels
from napari_gimp.slide.tiff_colour import APERIO_J2K_YCBCR, JPEG, ycbcr_to_rgb

Decoder = Callable[[bytes, int], Pixels]
"""From the bytes of a segment and its index to its samples (h, w, S)."""
JPEG_2000 = (APERIO_J2K_YCBCR, 33004, 33005, 34712)
WEBP = 50001
JPEG_XL = (50002, 52546)
JPEG_XR = (22610, 34934)
PNG = 34933
JFIF_BYTES = 16
J2K_START = b"\xff\x4f\xff\x51"
J2K_CB_STEP = 46
"""From there to the step in x of the second component (ISO 15444-1, A.5.1)."""


def decoder(page: Any) -> Decoder:
    """Return the function that decodes the segments of a page.

    A tile may come back whole or cut off at the edge of the image.

    Parameters
    ----------
    page
        A tifffile page that holds 8 to 64 bits per sample, or 1 to 7.
    """
    codec = _picture_codec(page)
    if codec is None:
        return partial(_decode_by_tifffile, page.decode, page.jpegtables)
    if page.compression == APERIO_J2K_YCBCR:
        return _then_rgb(_into_array(page, codec))
    return _into_array(page, codec)


def segment_shape(page: Any, index: int) -> tuple[int, int]:
    """Return height and width of a stored segment, px."""
    if page.is_tiled:
        return page.tilelength, page.tilewidth
    strips = -(-page.imagelength // page.rowsperstrip)
    left = page.imagelength - index % strips * page.rowsperstrip
    return min(page.rowsperstrip, left), page.imagewidth


def empty_off_line(shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> Pixels:
    """Return an uninitialised array whose address is 16 more than a multiple of 32.

    libjpeg-turbo passes by the processor's cache when it writes to addresses that
    are multiples of 32: decoding takes a third longer then, and so does reading.
    """
    memory = np.empty(prod(shape) * dtype.itemsize + 32, np.uint8)
    start = (16 - memory.__array_interface__["data"][0]) % 32
    return np.ndarray(shape, dtype, memory, start)


def _into_array(page: Any, codec: Callable[..., Any]) -> Decoder:
    samples = page.samplesperpixel if page.planarconfig == 1 else 1
    dtype = page.dtype.newbyteorder("=")

    def decode(stored: bytes, index: int) -> Pixels:
        pixels = empty_off_line((*segment_shape(page, index), samples), dtype)
        codec(stored, out=pixels)
        return pixels

    def decode_tile(stored: bytes, index: int) -> Pixels:
        pixels = empty_off_line(whole, dtype)
        try:
            codec(stored, out=pixels)
        except ValueError:  # the size is another
            pixels = empty_off_line((*_within_image(page, index), samples), dtype)
            if pixels.shape == whole:
                raise
            codec(stored, out=pixels)
        return pixels

    whole = (*segment_shape(page, 0), samples)
    return decode_tile if page.is_tiled else decode


def _within_image(page: Any, index: int) -> tuple[int, int]:
    """Return the size of the part of a tile that lies in the image.

    Some writers store no more of the tiles at the edge, though they should.
    """
    columns = -(-page.imagewidth // page.tilewidth)
    rows = -(-page.imagelength // page.tilelength)
    row, column = divmod(index % (rows * columns), columns)
    return (
        min(page.tilelength, page.imagelength - row * page.tilelength),
        min(page.tilewidth, page.imagewidth - column * page.tilewidth),
    )


def _then_rgb(decode: Decoder) -> Decoder:
    """Make RGB of JPEG 2000 in YCbCr, unless the codec has done so.

    It has where the colours are stored at half the width, as in most such slides.
    """

    def decode_ycbcr(stored: bytes, index: int) -> Pixels:
        pixels = decode(stored, index)
        start = stored.find(J2K_START, 0, 256)
        halved = start >= 0 and stored[start + J2K_CB_STEP] > 1
        return pixels if halved else ycbcr_to_rgb(pixels)

    return decode_ycbcr


def _picture_codec(page: Any) -> Callable[..., Any] | None:
    """Return imagecodecs' function that takes bytes and `out`, if there is one."""
    import imagecodecs

    if page.compression == JPEG and page.bitspersample in (8, 12):
        return _jpeg_codec(page)
    if page.compression in JPEG_2000:
        return partial(imagecodecs.jpeg2k_decode)
    if page.compression == WEBP:
        return partial(imagecodecs.webp_decode, hasalpha=page.samplesperpixel == 4)
    if page.compression in JPEG_XL:
        return partial(imagecodecs.jpegxl_decode)
    if page.compression in JPEG_XR:
        return partial(imagecodecs.jpegxr_decode)
    return partial(imagecodecs.png_decode) if page.compression == PNG else None


def _jpeg_codec(page: Any) -> Callable[..., Any]:
    import imagecodecs
    from tifffile.tifffile import jpeg_decode_colorspace

    stored, wanted = jpeg_decode_colorspace(
        page.photometric, page.planarconfig, page.extrasamples, _is_jfif(page)
    )
    return partial(
        imagecodecs.jpeg8_decode,
        tables=page.jpegtables,
        colorspace=stored,
        outcolorspace=wanted,
    )


def _is_jfif(page: Any) -> bool:
    """Whether a JPEG states YCbCr by its marker, whatever the TIFF's tags say."""
    file = page.parent.filehandle
    places = zip(page.dataoffsets, page.databytecounts, strict=False)
    stored = (o for o, count in places if count > JFIF_BYTES and o < file.size)
    file.seek(next(stored, 0))
    return b"JFIF" in file.read(JFIF_BYTES)


def _decode_by_tifffile(
    decode: Callable[..., Any], tables: bytes | None, stored: bytes, index: int
) -> Pixels:
    pixels: Pixels = decode(stored, index, jpegtables=tables)[0][0]
    if pixels.dtype.isnative:
        return pixels
    return pixels.astype(pixels.dtype.newbyteorder("="))
