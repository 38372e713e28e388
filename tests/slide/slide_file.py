"""A slide on disk with what reading it must give, and places to read in it."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import psutil
from hypothesis import strategies as st

from napari_gimp.slide.source import SlideSource

Window = tuple[int, int, int, int]
"""y, x, height, width; may reach over the level, or lie outside."""
WHOLE_PX = 3_000_000
"""Levels up to this size are compared whole, larger ones in windows."""
MAX_TILE_PX = 4096 * 4096
MARGIN = 70
"""px that random rectangles may begin before a level, or end behind it."""


@dataclass(frozen=True)
class SlideFile:
    """A slide on disk, and what reading it must give.

    Parameters
    ----------
    path
        What the reader is given.
    open
        Opens it.
    reader
        The name the reader calls itself.
    read
        From a level's number to its pixels (h, w, C), as the library reads it.
    written
        The levels that were written, (h, w, C), by factor; {} where nobody knows.
    padded
        Whether the canvas may be larger than what was written, and have more levels.
    left
        Level-0 px between the canvas' left edge and what was written.
    loss
        Largest mean difference from `written`; 0 where the compression is lossless.
    apart
        Largest difference from what the library reads; 0 but where both convert
        colours, each with its own rounding.
    mpp
        um/px; None where the file does not say, or nothing plausible.
    rgb
        Whether it is one colour picture.
    alone
        Whether nothing of what lies beside it belongs to it.
    associated
        Names of further images in it; None where they do not matter.
    """

    path: Path
    open: Callable[[Path], SlideSource]
    reader: str
    read: Callable[[int], np.ndarray]
    written: dict[float, np.ndarray] = field(default_factory=dict)
    padded: bool = False
    left: int = 0
    loss: float = 0.0
    apart: int = 0
    mpp: float | None = 0.5
    rgb: bool = True
    alone: bool = False
    associated: tuple[str, ...] | None = ()

    @cached_property
    def _levels(self) -> dict[int, np.ndarray]:
        return {}

    def truth(self, level: int) -> np.ndarray:
        """Return a whole level (h, w, C) as the library behind the reader reads it."""
        if level not in self._levels:
            self._levels[level] = self.read(level)
        return self._levels[level]


def expected(truth: np.ndarray, window: Window, fill: int) -> np.ndarray:
    """Return a window of a level (h, w, C); what lies outside is `fill`."""
    y, x, height, width = window
    out = np.full((height, width, truth.shape[2]), fill, truth.dtype)
    y0, x0 = max(y, 0), max(x, 0)
    y1, x1 = min(y + height, truth.shape[0]), min(x + width, truth.shape[1])
    if y1 > y0 and x1 > x0:
        out[y0 - y : y1 - y, x0 - x : x1 - x] = truth[y0:y1, x0:x1]
    return out


def windows(shape: tuple[int, int]) -> list[Window]:
    """Return the whole level, or of a large one its corners, edges and middle."""
    rows, cols = shape
    if rows * cols <= WHOLE_PX:
        return [(0, 0, rows, cols)]
    side = 600
    return [
        (y, x, side, side)
        for y in (0, (rows - side) // 2, rows - side)
        for x in (0, (cols - side) // 2, cols - side)
    ]


def over_the_edges(shape: tuple[int, int]) -> list[Window]:
    """Return windows over each corner and each edge of a level."""
    rows, cols = shape
    ys, xs = (-13, rows // 2, rows - 17), (-11, cols // 2, cols - 19)
    return [(y, x, 31, 37) for y in ys for x in xs]


def beside(shape: tuple[int, int]) -> list[Window]:
    """Return windows outside a level, some of which touch it."""
    rows, cols = shape
    spots = [(-40, 0), (0, -40), (rows, 0), (0, cols), (-5000, -5000), (9 * rows, 3)]
    return [(y, x, 40, 40) for y, x in spots]


@st.composite
def rectangles(draw: st.DrawFn, shapes: list[tuple[int, int]]) -> tuple[int, Window]:
    """Draw a level and a window that may reach over it or be empty."""
    level = draw(st.integers(0, len(shapes) - 1))
    sides = []
    for side in shapes[level]:
        start = draw(st.integers(-MARGIN, side + MARGIN))
        sides.append((start, draw(st.integers(0, min(side, 900) + MARGIN))))
    (y, height), (x, width) = sides
    return level, (y, x, height, width)


def tiles_of(source: SlideSource, level: int) -> Iterator[tuple[int, int, Window]]:
    """Yield row, column and place of every tile of a level."""
    (rows, cols), (th, tw) = source.levels[level].shape, source.levels[level].tile
    for y in range(0, rows, th):
        for x in range(0, cols, tw):
            yield y // th, x // tw, (y, x, min(th, rows - y), min(tw, cols - x))


def open_files(under: Path) -> list[str]:
    """Return the files that this process holds open at or under a path."""
    held = [file.path for file in psutil.Process().open_files()]
    return sorted(name for name in held if Path(name).is_relative_to(under))


def coarsest_of(pickled: bytes) -> tuple[str, np.ndarray]:
    """Return fingerprint and coarsest level (h, w, C) of a pickled slide."""
    with pickle.loads(pickled) as source:
        last = len(source.levels) - 1
        region = source.read_region(last, 0, 0, *source.levels[last].shape)
        return source.fingerprint, region


def assert_equal(found: np.ndarray, wanted: np.ndarray, apart: int = 0) -> None:
    """Compare kind, shape and every pixel."""
    assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
    if apart == 0:
        np.testing.assert_array_equal(found, wanted)
    else:
        np.testing.assert_allclose(found.astype(int), wanted, atol=apart, rtol=0)


def copied(slide_file: SlideFile, folder: Path) -> Path:
    """Copy a slide, and what belongs to it, into a folder; return the copy."""
    path = slide_file.path
    if slide_file.alone and path.is_file():
        return Path(shutil.copyfile(path, folder / path.name))
    if slide_file.alone:
        return Path(shutil.copytree(path, folder / path.name))
    return Path(shutil.copytree(path.parent, folder / "copy")) / path.name


def change(path: Path) -> None:
    """Make a file longer; of a folder, change one bit amid the largest file."""
    if path.is_file():
        path.write_bytes(path.read_bytes() + b"\0")
        return
    files = [file for file in path.rglob("*") if file.is_file()]
    largest = max(files, key=lambda file: (file.stat().st_size, str(file)))
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)


def bands(shape: tuple[int, int]) -> list[Window]:
    """Return wide windows from the top to the bottom of a level."""
    rows, cols = shape
    width = min(cols, 1500)
    return [(y, (cols - width) // 2, 61, width) for y in range(0, min(rows, 900), 53)]
