"""Sizes that a TIFF states for its tiles, checked before OpenSlide believes them.

OpenSlide takes the memory that a damaged tag asks for; where it gets none, it ends
the whole program, so that no error could be caught.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from napari_gimp.errors import SlideError
from napari_gimp.slide.tiff_levels import open_tiff

MAX_TILE_PX = 1 << 26
"""Larger tiles (256 MB of RGBA) are no tiles but a damaged tag."""
SEPARATE = 2
"""PlanarConfiguration: each sample has tiles of its own."""
SLACK_BYTES = 1 << 16
"""What a small tile's headers may add to twice its pixels."""


def check_tiles(path: Path) -> None:
    """Check that no tile of a TIFF is stated to be impossibly large.

    A file that tifffile cannot read passes: it has not been shown to be unsound.

    Raises
    ------
    SlideError
        If the directories form a ring, or number, sides or bytes of tiles cannot be
        true.
    """
    try:
        tiff = open_tiff(path)
    except SlideError as error:
        if error.__cause__ is None:  # what we found ourselves
            raise
        return
    with tiff:
        for page in tiff.pages:
            _check_page(page, path.name)


def _check_page(page: Any, name: str) -> None:
    page = page.aspage()
    if not page.is_tiled:
        return
    height, width = page.tilelength, page.tilewidth
    if height * width > MAX_TILE_PX:
        raise SlideError(
            f"{name} is damaged: it states tiles of {height} x {width} px; copy the "
            "file again from its source."
        )
    stated = len(page.dataoffsets)
    wanted = -(-page.imagelength // height) * -(-page.imagewidth // width)
    if page.planarconfig == SEPARATE:
        wanted *= page.samplesperpixel
    if stated != wanted:  # OpenSlide reads behind the end of the list
        raise SlideError(
            f"{name} is damaged: it lists {stated} tiles for {wanted} of {height} x "
            f"{width} px; copy the file again from its source."
        )
    bits = max(page.bitspersample if page.bitspersample else 8, 8)
    most = height * width * max(page.samplesperpixel, 4) * bits // 4 + SLACK_BYTES
    largest = max(page.databytecounts, default=0)
    if largest > most:
        raise SlideError(
            f"{name} is damaged: it states a tile of {largest} bytes for {height} x "
            f"{width} px; copy the file again from its source."
        )
