"""JPEGs with restart markers, as Hamamatsu writes them, and levels padded for them."""

from __future__ import annotations

import io

import numpy as np

MCU_PX = 8


def jpeg_with_restarts(image: np.ndarray, tile_px: int) -> bytes:
    """Return a 4:4:4 JPEG of (h, w, 3) with a restart marker every `tile_px` columns.

    Each run of blocks between two markers decodes alone: a tile of 8 x `tile_px` px.
    """
    from PIL import Image

    assert image.shape[1] % tile_px == 0
    assert image.shape[0] % MCU_PX == 0
    out = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(
        out,
        "JPEG",
        quality=95,
        subsampling=0,
        restart_marker_blocks=tile_px // MCU_PX,
    )
    return out.getvalue()


def run_starts(jpeg: bytes) -> list[int]:
    """Return where each run between restart markers starts in a JPEG."""
    at = 2
    while jpeg[at + 1] != 0xDA:
        at += 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
    starts = [at + 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")]
    return starts + [
        k + 2
        for k in range(starts[0], len(jpeg) - 1)
        if jpeg[k] == 0xFF and 0xD0 <= jpeg[k + 1] <= 0xD7
    ]


def padded(levels: list[np.ndarray], tile: tuple[int, int]) -> list[np.ndarray]:
    """Return levels with white added right and below, so that all are whole tiles.

    Every level gets the same white area, so that the factors between them stay.
    """
    factors = [levels[0].shape[0] // level.shape[0] for level in levels]
    whole = [
        -(-side // (step * factors[-1])) * step * factors[-1]
        for side, step in zip(levels[0].shape, tile, strict=False)
    ]
    return [
        _filled(level, (whole[0] // factor, whole[1] // factor))
        for level, factor in zip(levels, factors, strict=True)
    ]


def _filled(level: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    out = np.full((*shape, 3), 255, np.uint8)
    out[: level.shape[0], : level.shape[1]] = level[: shape[0], : shape[1]]
    return out
