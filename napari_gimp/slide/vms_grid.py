"""The grid of JPEGs that make a VMS slide, checked before OpenSlide reads them.

OpenSlide looks a place up by the size of the first JPEG and ends the whole program
where the others do not fit that.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from napari_gimp.errors import SlideError

HEAD_BYTES = 1 << 16
FRAME_MARKERS = (0xC0, 0xC1, 0xC2)
Place = tuple[int, int]
"""Column and row of a JPEG."""


def check_grid(files: Mapping[Place, Path], name: str) -> None:
    """Check that all JPEGs but the last of a row or column are as large as the first.

    Files that are missing or no JPEG are passed over.

    Raises
    ------
    SlideError
        If one does not fit.
    """
    sizes = {place: size for place, file in files.items() if (size := jpeg_size(file))}
    if (0, 0) not in sizes:
        return
    last = max(col for col, _ in files), max(row for _, row in files)
    for (col, row), (height, width) in sizes.items():
        tall, wide = sizes.get((0, row)), sizes.get((col, 0))
        fits = (
            _fits(height, sizes[0, 0][0], tall and tall[0], is_last=row == last[1])
        ) and _fits(width, sizes[0, 0][1], wide and wide[1], is_last=col == last[0])
        if not fits:
            raise SlideError(
                f"{files[col, row].name} of {name} is damaged: it states {height:,} x "
                f"{width:,} px, which does not fit the other pictures of the slide; "
                "copy it again from its source."
            )


def _fits(side: int, first: int, neighbour: int | None, *, is_last: bool) -> bool:
    """Whether a side is that of the first picture, or less for the last ones."""
    same = neighbour is None or side == neighbour
    return same and (side <= first if is_last else side == first)


def jpeg_size(file: Path) -> tuple[int, int] | None:
    """Return height and width that a JPEG states, px; None if it is none."""
    try:
        with file.open("rb") as opened:
            head = opened.read(HEAD_BYTES)
    except OSError:
        return None
    at = 2
    while head[:2] == b"\xff\xd8" and at + 9 <= len(head) and head[at] == 0xFF:
        if head[at + 1] in FRAME_MARKERS:
            height, width = head[at + 5 : at + 7], head[at + 7 : at + 9]
            return int.from_bytes(height, "big"), int.from_bytes(width, "big")
        at += 2 + int.from_bytes(head[at + 2 : at + 4], "big")
    return None
