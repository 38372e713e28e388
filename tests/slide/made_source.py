"""A slide made of arrays in memory, whose decoding a test can hold up and watch."""

from __future__ import annotations

import threading
from itertools import count
from pathlib import Path

import numpy as np

from napari_gimp.errors import SlideError, TileError
from napari_gimp.slide.source import Level, Resolution
from napari_gimp.slide.tiled import SlideFacts, TiledSource

NUMBERS = count()
Place = tuple[int, int, int]


class MadeSource(TiledSource):
    """Levels (h, w, C) cut into tiles; `gate` closed, decoding waits."""

    def __init__(
        self, arrays: list[np.ndarray], *, tile: int = 64, rgb: bool = True
    ) -> None:
        rows = arrays[0].shape[0]
        levels = tuple(
            Level(a.shape[:2], (tile, tile), (round(rows / len(a)),) * 2)
            for a in arrays
        )
        super().__init__(
            SlideFacts(
                path=Path(f"made-{next(NUMBERS)}.tif"),
                reader="made",
                levels=levels,
                resolution=Resolution((0.5, 0.5), "made", True),
                fingerprint=f"made-{next(NUMBERS)}",
                channels=arrays[0].shape[2],
                dtype=arrays[0].dtype,
                rgb=rgb,
            )
        )
        self.arrays, self.side = arrays, tile
        self.decoded: list[Place] = []
        self.broken: set[Place] = set()
        self.gone = False
        self.gate = threading.Event()
        self.gate.set()
        self.begun = threading.Semaphore(0)

    def forget(self) -> None:
        """Count what is decoded from here on."""
        self.decoded.clear()
        self.begun = threading.Semaphore(0)

    def decode_tile(self, level: int, row: int, col: int) -> np.ndarray:
        self.decoded.append((level, row, col))
        self.begun.release()
        assert self.gate.wait(20), "nobody opened the gate"
        if self.gone:
            raise SlideError("made.tif cannot be read any more: plug its drive in.")
        if (level, row, col) in self.broken:
            raise TileError(f"tile {level} {row} {col} is damaged")
        y, x = row * self.side, col * self.side
        return self.arrays[level][y : y + self.side, x : x + self.side].copy()

    def read_associated(self, name: str) -> np.ndarray:
        raise SlideError(f"There is no image {name}.")


def pyramid_of(
    rows: int, cols: int, channels: int = 3, dtype: str = "u1", seed: int = 0
) -> list[np.ndarray]:
    """Return random levels, each half of the one before, down to less than 200 px."""
    rng = np.random.default_rng(seed)
    coarse = rng.random((rows // 8, cols // 8, channels))
    top = 255 if dtype == "u1" else 4000
    image = (coarse.repeat(8, 0).repeat(8, 1) * top).astype(dtype)
    levels = [image]
    while max(levels[-1].shape[:2]) > 200:
        levels.append(np.ascontiguousarray(levels[-1][::2, ::2]))
    return levels
