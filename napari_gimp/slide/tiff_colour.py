"""How the samples of a TIFF page become pixels: colour, grey, palette, alpha.

What is stored is shown as what it is: 16 bits stay 16 bits, separate channels stay
separate. Only what no screen or model can take is changed: transparency lies on
white, WhiteIsZero is turned round, 1 to 7 bits are spread over 8.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_gimp.errors import SlideError
from napari_gimp.slide.source import Pixels

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR = 0, 1, 2, 3, 5, 6
ASSOCIATED_ALPHA, ALPHA = 1, 2
JPEG = 7
APERIO_J2K_YCBCR = 33003
COLOUR_TYPES = (np.dtype(np.uint8), np.dtype(np.uint16))
Finish = Callable[[Pixels], Pixels]


class ForeignKindError(SlideError):
    """The file is sound, but its colours or samples are of a kind not read here."""


@dataclass(frozen=True, slots=True)
class Look:
    """What a reader makes of a page's samples.

    Parameters
    ----------
    channels, dtype, rgb
        As in `SlideSource`.
    finish
        From the stored samples (h, w, S) to pixels (h, w, channels); None where
        they are the same.
    """

    channels: int
    dtype: np.dtype[np.generic]
    rgb: bool
    finish: Finish | None


def look(pages: list[Any], name: str) -> Look:
    """Return what becomes of the samples of a level's pages.

    Parameters
    ----------
    pages
        The one page of the level, or one of a single sample for each channel.
    name
        The file's, for the error.

    Raises
    ------
    ForeignKindError
        If its colours, sample kind or bits are not known here.
    """
    page, dtype = pages[0], _dtype(pages[0], name)
    samples = page.samplesperpixel
    if len(pages) > 1 and samples == 1:
        one = _grey(page, dtype, name)
        return Look(len(pages), dtype, False, one.finish)
    if page.photometric in (WHITE_IS_ZERO, BLACK_IS_ZERO) or _is_lookup(page):
        return _grey(page, dtype, name)
    if page.photometric == PALETTE and samples == 1:
        table = _palette(page, dtype, name)
        return Look(3, np.dtype(np.uint8), True, partial(_looked_up, table))
    if page.photometric == CMYK and samples == 4 and dtype == np.uint8:
        if page.compression != JPEG:  # Adobe's are stored the other way round
            return Look(3, dtype, True, cmyk_to_rgb)
    elif samples >= 3 and _comes_as_rgb(page):
        return _colour(page, dtype)
    kind = getattr(page.photometric, "name", page.photometric)
    raise ForeignKindError(
        f"{name} stores colours as {kind} in {samples} x {dtype} with compression "
        f"{getattr(page.compression, 'name', page.compression)}; RGB, grey, palette, "
        "CMYK and YCbCr in JPEG are read here."
    )


def _dtype(page: Any, name: str) -> np.dtype[np.generic]:
    bits = page.bitspersample
    if page.dtype is None or isinstance(bits, tuple) or page.dtype.kind not in "buif":
        raise ForeignKindError(
            f"{name} has samples of {bits} bits in format {page.sampleformat}, which "
            "are not read: convert it to 8 or 16 bits per sample."
        )
    native: np.dtype[np.generic] = page.dtype.newbyteorder("=")
    return np.dtype(np.uint8) if native.kind == "b" else native


def _is_lookup(page: Any) -> bool:
    """Whether a palette only tells how to show what was measured."""
    return page.photometric == PALETTE and bool(page.parent.is_imagej)


def _comes_as_rgb(page: Any) -> bool:
    """Whether samples are RGB, or become so by the codec or by us."""
    in_codec = page.compression in (JPEG, APERIO_J2K_YCBCR, 33004, 33005, 34712)
    return page.photometric == RGB or (page.photometric == YCBCR and in_codec)


def _grey(page: Any, dtype: np.dtype[np.generic], name: str) -> Look:
    bits, extra = page.bitspersample, page.extrasamples
    steps: list[Finish] = [partial(_spread, bits=bits)] if bits < 8 else []
    if page.photometric == WHITE_IS_ZERO:
        if dtype.kind != "u" or extra:
            raise ForeignKindError(
                f"{name} is WhiteIsZero in {page.samplesperpixel} x {dtype}, which is "
                "not read: convert it to BlackIsZero."
            )
        steps.append(partial(np.subtract, dtype.type((1 << max(8, bits)) - 1)))
    alpha = extra[0] if page.samplesperpixel == 2 and extra else 0
    if alpha in (ASSOCIATED_ALPHA, ALPHA) and dtype in COLOUR_TYPES:
        premultiplied = alpha == ASSOCIATED_ALPHA
        steps.append(partial(on_white, premultiplied=premultiplied))
        return Look(1, dtype, False, _in_turn(steps))
    return Look(page.samplesperpixel, dtype, False, _in_turn(steps))


def _colour(page: Any, dtype: np.dtype[np.generic]) -> Look:
    if dtype not in COLOUR_TYPES:
        return Look(3, dtype, False, _first_three)
    if page.samplesperpixel > 4:  # not a picture with alpha but many channels
        return Look(page.samplesperpixel, dtype, False, None)
    steps: list[Finish] = []
    if page.bitspersample not in (8, 16):
        steps.append(partial(_spread, bits=page.bitspersample))
    if page.samplesperpixel == 4:
        kind = page.extrasamples[0] if page.extrasamples else 0
        if kind in (ASSOCIATED_ALPHA, ALPHA):
            steps.append(partial(on_white, premultiplied=kind == ASSOCIATED_ALPHA))
        else:
            steps.append(_first_three)
    return Look(3, dtype, True, _in_turn(steps))


def _in_turn(steps: list[Finish]) -> Finish | None:
    if len(steps) < 2:
        return steps[0] if steps else None

    def finish(pixels: Pixels) -> Pixels:
        for step in steps:
            pixels = step(pixels)
        return pixels

    return finish


def _first_three(pixels: Pixels) -> Pixels:
    return np.ascontiguousarray(pixels[:, :, :3])


def _spread(pixels: Pixels, *, bits: int) -> Pixels:
    """Return samples of `bits` bits over the whole range of 8 or 16."""
    wide = np.uint8 if bits < 8 else np.uint16
    full, top = np.iinfo(wide).max, (1 << bits) - 1
    scale = np.rint(np.arange(top + 1) * (full / top)).astype(wide)
    spread: Pixels = scale[pixels.astype(np.uint16) & top]
    return spread


def on_white(pixels: Pixels, *, premultiplied: bool = False) -> Pixels:
    """Return colours (h, w, C) of colours with alpha (h, w, C + 1) over white.

    Parameters
    ----------
    pixels
        uint8 or uint16; the last channel is alpha.
    premultiplied
        Whether the colours are multiplied by alpha already.
    """
    full = int(np.iinfo(pixels.dtype.str).max)
    if pixels[:, :, -1].min(initial=full) == full:
        return np.ascontiguousarray(pixels[:, :, :-1])
    wide = pixels.astype(np.uint32)
    colours, alpha = wide[:, :, :-1], wide[:, :, -1:]
    if premultiplied:
        mixed = np.minimum(colours + (full - alpha), full)
    else:
        mixed = (colours * alpha + full * (full - alpha) + full // 2) // full
    whole: Pixels = mixed.astype(pixels.dtype)
    return whole


def cmyk_to_rgb(pixels: Pixels) -> Pixels:
    """Return RGB (h, w, 3) of CMYK (h, w, 4) uint8, as printed without a profile."""
    left = 255 - pixels.astype(np.uint32)
    rgb: Pixels = ((left[:, :, :3] * left[:, :, 3:] + 127) // 255).astype(np.uint8)
    return rgb


def ycbcr_to_rgb(pixels: Pixels) -> Pixels:
    """Return RGB (h, w, 3) of full-range YCbCr uint8 (ITU-R BT.601, as in JFIF)."""
    y, cb, cr = np.moveaxis(pixels.astype(np.float32), 2, 0)
    cb, cr = cb - 128, cr - 128
    rgb = np.stack(
        (y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb), axis=2
    )
    rounded: Pixels = np.clip(np.rint(rgb), 0, 255).astype(np.uint8)
    return rounded


def _palette(page: Any, dtype: np.dtype[np.generic], name: str) -> NDArray[np.uint8]:
    """Return the colours (2**bits, 3) of a page's palette."""
    colors = page.colormap
    if colors is None or dtype.kind != "u" or len(colors) != 3:
        raise ForeignKindError(f"{name} has palette pixels, but no palette.")
    table = np.asarray(colors).T
    if table.max(initial=0) > 255:  # some writers state 8 bits, the standard 16
        table = table >> 8
    return np.ascontiguousarray(table, np.uint8)


def _looked_up(table: NDArray[np.uint8], pixels: Pixels) -> Pixels:
    colours: Pixels = table[pixels[:, :, 0].astype(np.intp)]
    return colours
