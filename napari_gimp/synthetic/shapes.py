"""Scattered shapes on jittered lattices: ellipses, and cells around points.

One shape per lattice cell, made from the cell's own random numbers, so any part of
the plane can be asked for at any time. Lengths are um.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from napari_gimp.synthetic.noise import F32, uniform


def ellipses(
    seed: int, name: str, pitch_um: float, share: float, y: F32, x: F32
) -> tuple[F32, F32]:
    """Return the nearest of scattered ellipses: signed distance and size, um.

    One ellipse per cell of a jittered lattice of `pitch_um`, a `share` of them there.
    """
    best = np.full(y.shape, -1e3, np.float32)
    size = np.full(y.shape, pitch_um / 3, np.float32)
    flats, cells = _neighbours(seed, name, pitch_um, share, y, x)
    for cell in cells:
        away = _inside_ellipse([part[cell] for part in flats], y, x)
        size = np.where(away > best, flats[2][cell], size)
        best = np.maximum(away, best)
    return best, size


def _neighbours(
    seed: int, name: str, pitch_um: float, share: float, y: F32, x: F32
) -> tuple[list[F32], Iterator[NDArray[np.int64]]]:
    """Return the lattice's ellipses, flat, and for each place its 9 nearest cells."""
    row = np.floor(y / pitch_um).astype(np.int64)
    col = np.floor(x / pitch_um).astype(np.int64)
    top, left = int(row.min()) - 1, int(col.min()) - 1
    rows, cols = np.arange(top, row.max() + 2), np.arange(left, col.max() + 2)
    lattice = np.meshgrid(rows, cols, indexing="ij")
    table = ellipse_of(seed, name, pitch_um, share, *lattice)
    flat = (row - top) * cols.size + (col - left)
    steps = (dr * cols.size + dc for dr in (-1, 0, 1) for dc in (-1, 0, 1))
    return [part.ravel() for part in table], (flat + step for step in steps)


def ellipse_of(
    seed: int,
    name: str,
    pitch_um: float,
    share: float,
    row: NDArray[np.int64],
    col: NDArray[np.int64],
) -> tuple[F32, ...]:
    """Return centre y, x, radius (um; < 0 if absent), stretch, cos, sin of cells."""
    u = [uniform(seed, f"{name}{k}", row, col) for k in range(6)]
    y = (row + 0.5 + 0.62 * (u[0] - 0.5)) * np.float32(pitch_um)
    x = (col + 0.5 + 0.62 * (u[1] - 0.5)) * np.float32(pitch_um)
    radius = np.where(u[2] < share, pitch_um * (0.2 + 0.3 * u[3]), -1e3)
    angle, stretch = np.float32(np.pi) * u[5], np.sqrt(1 + 0.75 * u[4])
    parts = (y, x, radius, stretch, np.cos(angle), np.sin(angle))
    return tuple(part.astype(np.float32) for part in parts)


def _inside_ellipse(shape: Sequence[F32], y: F32, x: F32) -> F32:
    cy, cx, radius, stretch, cos, sin = shape
    dy, dx = y - cy, x - cx
    long, short = (dx * cos + dy * sin) / stretch, (dy * cos - dx * sin) * stretch
    return np.asarray(radius - np.sqrt(long * long + short * short), np.float32)


def nearest_two(
    seed: int, name: str, pitch_um: float, y: F32, x: F32
) -> tuple[F32, F32]:
    """Return distances, um, to the two nearest points of a jittered lattice."""
    near = np.full(y.shape, 1e3, np.float32)
    next_ = near.copy()
    flats, cells = _neighbours(seed, name, pitch_um, 1.0, y, x)
    for cell in cells:
        away = np.hypot(y - flats[0][cell], x - flats[1][cell])
        next_ = np.minimum(next_, np.maximum(near, away))
        near = np.minimum(near, away)
    return near, next_
