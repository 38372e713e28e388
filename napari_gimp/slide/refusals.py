"""Why a reader leaves a file to others, where that is more than a failure."""

from __future__ import annotations

from napari_gimp.errors import SlideError


class NoReaderError(SlideError):
    """The content is none that a slide has, so no other reader is to be tried."""


class OpenSlideOnlyError(SlideError):
    """The TIFF is for OpenSlide: what that reader says of it counts."""


class PictureOnlyError(SlideError):
    """The TIFF is a plain picture: what the picture reader says of it counts."""


class UnknownFormatError(SlideError):
    """The reader does not know the format at all."""
