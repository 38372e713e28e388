"""Patch pixels are means of the next finer level, never of a coarser one.

For every format there is a writer for, with its own layout of levels: which level
is read, and that the pixels are the plain mean of what the library reads of it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest

import formats
from napari_gimp.slide.resample import SLACK, read_at
from napari_gimp.slide.source import SlideSource
from slide_file import SlideFile

MPP = 0.5
"""Given to every format, also to those that do not say it."""
SIDE = 24
every_format = pytest.mark.parametrize(
    "slide_file",
    [pytest.param(form, id=form.name) for form in formats.EVERY],
    indirect=True,
    scope="module",
)


class Watched:
    """A slide that notes which levels are read."""

    def __init__(self, source: SlideSource) -> None:
        self._source = source
        self.mpp = (MPP, MPP)
        self.read: set[int] = set()

    def __getattr__(self, name: str) -> object:
        return getattr(self._source, name)

    def read_region(self, level: int, *window: int) -> np.ndarray:
        self.read.add(level)
        return self._source.read_region(level, *window)


@pytest.fixture
def watched(slide_file: SlideFile) -> Iterator[Watched]:
    with slide_file.open(slide_file.path) as source:
        yield Watched(source)


def asked(source: Watched) -> list[float]:
    """um/px just at, just below, between and beyond the stored levels."""
    cells = [MPP * max(level.downsample) for level in source.levels]
    between = [(a * b) ** 0.5 for a, b in itertools.pairwise(cells)]
    return [0.8 * cells[0], *cells, *(0.99 * c for c in cells[1:]), *between, 7.3]


@every_format
def test_the_level_read_is_the_next_finer_one(watched):
    cells = [MPP * max(level.downsample) for level in watched.levels]
    for mpp in asked(watched):
        watched.read.clear()
        read_at(watched, 20.0, 30.0, (SIDE, SIDE), mpp)
        (level,) = watched.read
        assert cells[level] <= mpp * SLACK or level == 0
        coarser = [n for n, cell in enumerate(cells) if cells[level] < cell <= mpp]
        assert not coarser, f"{mpp} um/px: level {level} read, {coarser} are enough"


@every_format
def test_pixels_are_the_plain_mean_of_that_level(slide_file, watched):
    for mpp in asked(watched):
        watched.read.clear()
        pixels = read_at(watched, 20.3, 30.7, (SIDE, SIDE), mpp)
        (level,) = watched.read
        truth = slide_file.truth(level)
        cell = MPP * np.asarray(watched.levels[level].downsample)
        edges = [
            (corner + mpp * np.arange(SIDE + 1)) / side
            for corner, side in zip((20.3, 30.7), cell, strict=True)
        ]
        rows, cols = (
            int((borders <= side).sum()) - 1
            for borders, side in zip(edges, truth.shape[:2], strict=True)
        )
        wanted = plain_mean(truth, *edges)
        difference = pixels.astype(float)[:rows, :cols] - wanted[:rows, :cols]
        # borders are rounded to 1/1024 of a pixel; means to whole numbers
        largest = float(truth.max()) / 512
        assert np.abs(difference).max(initial=0) <= 0.51 + largest + slide_file.apart


def plain_mean(pixels: np.ndarray, ys: np.ndarray, xs: np.ndarray) -> np.ndarray:
    """The mean between edges, by the integral over the whole level."""
    total = along(along(pixels.astype(float), ys).swapaxes(0, 1), xs).swapaxes(0, 1)
    return total / (np.diff(ys)[:, None, None] * np.diff(xs)[None, :, None])


def along(pixels: np.ndarray, edges: np.ndarray) -> np.ndarray:
    integral = np.concatenate([np.zeros_like(pixels[:1]), pixels.cumsum(0)])
    at = edges.clip(0, len(pixels))
    low = np.minimum(at.astype(int), len(pixels) - 1)
    part = (at - low)[:, None, None]
    return np.diff((1 - part) * integral[low] + part * integral[low + 1], axis=0)
