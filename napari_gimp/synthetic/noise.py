"""Smooth random fields and per-place random numbers that need no memory.

Both are pure functions of a seed and a place, so that two neighbouring blocks of a
slide, painted in any order, on any thread, agree where they touch. Lengths are um.
"""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]

_SIDE = 256
_WAVE = 16  # texture px per wavelength; linear interpolation is then smooth enough
_GAMMA = np.uint64(0x9E3779B97F4A7C15)


def stream(name: str) -> int:
    """Return the fixed number of a named stream of random values."""
    return zlib.crc32(name.encode())


def uniform(seed: int, name: str, row: I64, col: I64) -> F32:
    """Return random numbers in [0, 1) that belong to lattice places.

    Parameters
    ----------
    seed, name
        Which numbers: equal arguments, equal numbers.
    row, col
        Lattice indices, of one common shape; they may be negative.
    """
    with np.errstate(over="ignore"):
        state = np.full(np.broadcast(row, col).shape, seed & (2**63 - 1), np.uint64)
        for part in (np.uint64(stream(name)), _unsigned(row), _unsigned(col)):
            state = _mixed(state ^ part)
    return ((state >> np.uint64(40)).astype(np.float32)) / np.float32(2**24)


def _unsigned(index: I64) -> NDArray[np.uint64]:
    return np.asarray(index, np.int64).astype(np.uint64)


def _mixed(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Splitmix64's step: every bit of the input reaches every bit of the output."""
    state = state + _GAMMA
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


class Noise:
    """Smooth Gaussian random fields over the plane, mean 0 and sd 1.

    One periodic texture is sampled at any scale; fields of different names are
    shifted and turned against each other. The period is 16 wavelengths.

    Parameters
    ----------
    seed
        Names the family of fields.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        rng = np.random.default_rng([seed, stream("texture")])
        self._texture = _bilinear(periodic(rng, (_SIDE, _SIDE), (_WAVE / 4, _WAVE / 4)))

    def __call__(self, name: str, wave_um: float, y_um: F32, x_um: F32) -> F32:
        """Return the field `name`, of structures about `wave_um` apart, at places."""
        rng = np.random.default_rng([self.seed, stream(name)])
        angle, oy, ox = rng.random(3) * (2 * np.pi, _SIDE, _SIDE)
        cos = np.float32(np.cos(angle) * _WAVE / wave_um)
        sin = np.float32(np.sin(angle) * _WAVE / wave_um)
        v = (y_um * cos - x_um * sin + np.float32(oy)).ravel()
        u = (y_um * sin + x_um * cos + np.float32(ox)).ravel()
        return self._at(v, u).reshape(y_um.shape)

    def _at(self, v: F32, u: F32) -> F32:
        """Return the texture at its own coordinates (M,), interpolated linearly."""
        row, col = np.floor(v), np.floor(u)
        v, u = v - row, u - col
        mask = _SIDE - 1
        cell = (row.astype(np.int32) & mask) * _SIDE + (col.astype(np.int32) & mask)
        c = self._texture.take(cell, axis=0)
        return np.asarray(c[:, 0] + c[:, 1] * v + u * (c[:, 2] + c[:, 3] * v))

    def fractal(self, name: str, wave_um: float, y_um: F32, x_um: F32) -> F32:
        """Return three octaves of a field, the finest at a quarter of `wave_um`."""
        parts = [
            self(f"{name}{k}", wave_um / 2**k, y_um, x_um) * 0.5**k for k in range(3)
        ]
        return np.asarray(sum(parts) / 1.15, np.float32)


def _bilinear(texture: F32) -> F32:
    """Return for each texel the coefficients (T, 4) of 1, v, u, uv within it."""
    down, right = np.roll(texture, -1, 0), np.roll(texture, -1, 1)
    both = np.roll(down, -1, 1) - down - right + texture
    return np.stack([texture, down - texture, right - texture, both], -1).reshape(-1, 4)


def periodic(
    rng: np.random.Generator, shape: tuple[int, int], sigma_px: tuple[float, float]
) -> F32:
    """Return noise (shape), mean 0, sd 1, smoothed by sigma (y, x), without seams."""
    fy = np.fft.fftfreq(shape[0])[:, None] * sigma_px[0]
    fx = np.fft.rfftfreq(shape[1])[None] * sigma_px[1]
    spectrum = np.fft.rfft2(rng.standard_normal(shape))
    field = np.fft.irfft2(spectrum * np.exp(-2 * np.pi**2 * (fy**2 + fx**2)), shape)
    return np.asarray((field - field.mean()) / field.std(), np.float32)
