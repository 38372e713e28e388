"""A slide in memory and a plain encoder, so that tests need no file and no network."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_gimp.slide.damage import Damage
from napari_gimp.slide.source import Level, Resolution


class ArraySlide:
    """A slide of one level, held in memory; counts what is read of it."""

    reader = "array"
    thread_safe = True
    rgb = True
    channels = 3
    channel_names: tuple[str, ...] = ()
    dtype = np.dtype(np.uint8)
    properties: dict[str, str] = {}  # noqa: RUF012 # as the protocol has it
    associated = ()

    def __init__(self, pixels: NDArray[np.uint8], mpp: float) -> None:
        self.path = Path("array.tif")
        self.pixels = pixels
        height, width = pixels.shape[:2]
        self.levels = (Level((height, width), (64, 64), (1.0, 1.0)),)
        self.resolution = Resolution((mpp, mpp), "test", True)
        self.fingerprint = f"{hash(pixels.tobytes()):x}"
        self.damage = Damage("array.tif")
        self.pixels_read = 0
        self.threads: set[str] = set()

    @property
    def mpp(self) -> tuple[float, float]:
        assert self.resolution.mpp is not None
        return self.resolution.mpp

    def passing(self, budget_bytes: int) -> AbstractContextManager[None]:
        del budget_bytes
        return nullcontext()

    def read_region(
        self, level: int, y: int, x: int, height: int, width: int
    ) -> NDArray[np.uint8]:
        self.pixels_read += height * width
        self.threads.add(threading.current_thread().name)
        out = np.full((height, width, 3), 255, np.uint8)
        rows, cols = self.pixels.shape[:2]
        y0, x0 = max(y, 0), max(x, 0)
        y1, x1 = min(y + height, rows), min(x + width, cols)
        if y1 > y0 and x1 > x0:
            out[y0 - y : y1 - y, x0 - x : x1 - x] = self.pixels[y0:y1, x0:x1]
        return out


class MeanEncoder:
    """Features anyone can check by hand: mean and first pixel of each channel."""

    name, fingerprint, width = "mean", "mean-1", 6
    input_px, mpp, patch_um = 16, 1.0, 16.0

    def __init__(self) -> None:
        self.patches_seen = 0

    def to(self, device: str) -> MeanEncoder:
        return self

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.patches_seen += len(pixels)
        return np.concatenate(
            [pixels.mean((1, 2)), pixels[:, 0, 0].astype(float)], axis=1
        ).astype(np.float32)


@pytest.fixture
def make_slide() -> Callable[..., ArraySlide]:
    """A factory of slides: `make_slide(pixels, mpp=...)`."""

    def make(pixels: NDArray[np.uint8], mpp: float = 1.0) -> ArraySlide:
        return ArraySlide(pixels, mpp)

    return make


@pytest.fixture
def noise_slide(make_slide: Callable[..., ArraySlide]) -> ArraySlide:
    """A slide of 256 x 320 um full of noise, every patch different."""
    rng = np.random.default_rng(0)
    return make_slide(rng.integers(0, 255, (256, 320, 3), dtype=np.uint8))


@pytest.fixture
def encoder() -> MeanEncoder:
    """An encoder of 16 px patches whose features can be checked by hand."""
    return MeanEncoder()
