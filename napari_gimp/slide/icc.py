"""From a scanner's colour profile to sRGB, which screens and models expect."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np

from napari_gimp.errors import SlideError
from napari_gimp.slide.source import Pixels


def to_srgb(profile: bytes, name: str) -> Callable[[Pixels], Pixels]:
    """Return a function from pixels (h, w, 3) uint8 in a profile to sRGB.

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
    from PIL import Image, ImageCms

    try:
        transform = ImageCms.buildTransform(
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
            "RGB",
            "RGB",
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError) as error:
        raise SlideError(
            f"The colour profile of {name} ({len(profile)} bytes) cannot be used "
            f"({error}): open the slide without converting it to sRGB."
        ) from error

    def convert(pixels: Pixels) -> Pixels:
        image = Image.fromarray(np.ascontiguousarray(pixels))
        converted: Pixels = np.array(ImageCms.applyTransform(image, transform))
        return converted

    return convert
