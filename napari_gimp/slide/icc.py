"""From a scanner's colour profile to sRGB, which screens and models expect."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from napari_gimp.errors import SlideError
from napari_gimp.slide.source import Pixels

RELATIVE_COLORIMETRIC = 1
BLACK_POINT = 0x2000
NO_CACHE = 0x0040
"""Without its memory of the last colour a transform may serve several threads."""


def to_srgb(profile: bytes, name: str) -> Callable[[Pixels], Pixels]:
    """Return a function from pixels (h, w, 3) uint8 or uint16 in a profile to sRGB.

    The rendering is relative colorimetric with black point compensation, as picture
    viewers do it. The function may be called from several threads.

    Parameters
    ----------
    profile
        The ICC profile as it stands in the file.
    name
        The slide's file name, for the error.

    Raises
    ------
    SlideError
        If the profile cannot be read or is not one of RGB.
    """
    from PIL import ImageCms

    try:
        transform = ImageCms.buildTransform(
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
            "RGB",
            "RGB",
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            flags=ImageCms.Flags(BLACK_POINT | NO_CACHE),
        )
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError) as error:
        raise SlideError(
            f"The colour profile of {name} ({len(profile)} bytes) cannot be used "
            f"({error}): open the slide without converting it to sRGB."
        ) from error
    return partial(_converted, profile, transform)


def _converted(profile: bytes, transform: Any, pixels: Pixels) -> Pixels:
    if pixels.dtype == np.uint16:
        return _converted_16(profile, pixels)
    from PIL import Image, ImageCms

    image = Image.fromarray(np.ascontiguousarray(pixels))
    converted: Pixels = np.array(ImageCms.applyTransform(image, transform))
    return converted


def _converted_16(profile: bytes, pixels: Pixels) -> Pixels:
    """Convert 16 bits, which Pillow has no pictures for; twice the time."""
    import imagecodecs

    converted: Pixels = imagecodecs.cms_transform(
        np.ascontiguousarray(pixels),
        profile,
        imagecodecs.cms_profile("srgb"),
        colorspace="rgb",
        outcolorspace="rgb",
        intent=RELATIVE_COLORIMETRIC,
        flags=BLACK_POINT | NO_CACHE,
    )
    return converted
