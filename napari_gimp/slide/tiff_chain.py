"""The chain of directories in a TIFF, walked before tifffile does: it may be a loop."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

from napari_gimp.errors import SlideError


def check_chain(tiff: Any, name: str) -> None:
    """Check that a TIFF's directories come to an end.

    tifffile follows a damaged link back to a former directory again and again.

    Parameters
    ----------
    tiff
        An open `tifffile.TiffFile`.
    name
        The slide's file name, for the error.

    Raises
    ------
    SlideError
        If a directory leads back to one before it.
    """
    seen = set()
    for offset in _directories(tiff):
        if offset in seen:
            raise SlideError(
                f"{name} is damaged: its directory at byte {offset} comes after "
                "itself; copy the file again from its source."
            )
        seen.add(offset)


def _directories(tiff: Any) -> Iterator[int]:
    """Yield where each directory starts, as far as they can be read."""
    layout, file = tiff.tiff, tiff.filehandle
    offset = tiff.pages.first.offset
    while 0 < offset < file.size:
        yield offset
        try:
            file.seek(offset)
            (count,) = struct.unpack(layout.tagnoformat, file.read(layout.tagnosize))
            file.seek(offset + layout.tagnosize + count * layout.tagsize)
            link = file.read(layout.offsetsize)
            (offset,) = struct.unpack(layout.offsetformat, link)
        except (struct.error, OSError):
            return
