"""Nuclei, drawn once per slide and kind as small stamps, and where they lie.

A stamp holds how much it covers (0 to 1) and the haematoxylin and eosin it brings;
the painter lays stamps over the tissue one by one. Sizes are um, stamps are px.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_gimp.synthetic.layout import Fields
from napari_gimp.synthetic.noise import F32, stream, uniform
from napari_gimp.synthetic.patient import Habit

ANGLES = 24
VARIANTS = 10


@dataclass(frozen=True, slots=True)
class Kind:
    """How one kind of nucleus looks, and how densely its places lie.

    Parameters
    ----------
    length_um, aspect
        Long axis, and long over short axis.
    spread
        Sd of the logarithm of the size.
    ragged
        Irregularity of the outline, 0 to about 0.2.
    dark, rim, clump, nucleoli
        Haematoxylin in the middle, extra at the membrane, chromatin contrast, number.
    pitch_um
        Mean distance of neighbouring places.
    """

    length_um: float
    aspect: float
    spread: float
    ragged: float
    dark: float
    rim: float
    clump: float
    nucleoli: int
    pitch_um: float


def kinds(habit: Habit) -> dict[str, Kind]:
    """Return the kinds of nuclei of a patient, in the order in which they are laid."""
    size, odd = habit.nucleus_um, habit.pleomorphism
    return {
        "fibroblast": Kind(13.0, 4.2, 0.18, 0.06, 1.25, 0.2, 0.15, 0, 17.0),
        "gland": Kind(8.6, 1.45, 0.08, 0.04, 0.95, 0.3, 0.22, 1, 6.6),
        "tumour": Kind(
            size * 1.12, 1.25, odd, 0.04 + 0.25 * odd, 0.78, 0.35, 0.3, 2, size * 1.22
        ),
        "ghost": Kind(6.0, 1.3, 0.3, 0.12, 0.5, 0.0, 0.3, 0, 13.0),
        "lymphocyte": Kind(6.2, 1.08, 0.07, 0.04, 1.7, 0.1, 0.3, 0, 7.0),
        "mitosis": Kind(9.0, 2.2, 0.15, 0.2, 2.3, 0.0, 0.2, 0, 0.0),
    }


@dataclass(frozen=True, slots=True)
class Stamps:
    """Stamps of one kind: `keep` (K, S, S) = 1 - cover, `bring` (K, 2, S, S).

    K = variants x angles, the angle running fastest.
    """

    keep: F32
    bring: F32


def draw_stamps(kind: Kind, seed: int, name: str, mpp: float) -> Stamps:
    """Return the stamps of a kind at a resolution, um/px."""
    rng = np.random.default_rng([seed, stream(name), stream("stamps")])
    count = VARIANTS * ANGLES
    scale = np.exp(kind.spread * rng.standard_normal(VARIANTS)).clip(0.6, 1.8)
    half = int(np.ceil(0.62 * kind.length_um * scale.max() / mpp)) + 2
    grid = (np.arange(-half, half + 1) * mpp).astype(np.float32)
    y, x = np.meshgrid(grid, grid, indexing="ij")
    variant, turn = np.divmod(np.arange(count), ANGLES)
    angle = (turn * np.pi / ANGLES)[:, None, None]
    along = x * np.cos(angle) + y * np.sin(angle)
    across = y * np.cos(angle) - x * np.sin(angle)
    inside = _outline(kind, rng, scale, variant, along, across)
    cover = np.clip(inside / mpp + 0.5, 0, 1)
    h = _chromatin(kind, rng, variant, along, across, inside)
    bring = np.stack([cover * h, cover * 0.22], 1)
    return Stamps(np.asarray(1 - cover, np.float32), np.asarray(bring, np.float32))


def _outline(
    kind: Kind,
    rng: np.random.Generator,
    scale: NDArray[np.float64],
    variant: NDArray[np.int64],
    along: F32,
    across: F32,
) -> F32:
    """Return the distance to the outline (K, S, S), um, positive inside."""
    squash = np.exp(rng.normal(0, 0.12, VARIANTS))
    long = (kind.length_um / 2 * scale)[variant][:, None, None]
    short = long / (kind.aspect * squash[variant])[:, None, None]
    theta = np.arctan2(across / short, along / long)
    wave = np.zeros_like(theta)
    for order in (2, 3, 4, 5):
        gain, phase = (
            rng.normal(0, kind.ragged / order**0.5, VARIANTS),
            rng.random(VARIANTS),
        )
        shift = (2 * np.pi * phase)[variant][:, None, None]
        wave += gain[variant][:, None, None] * np.cos(order * theta + shift)
    radius = np.hypot(along / long, across / short)
    return np.asarray((1 + wave - radius) * short, np.float32)


def _chromatin(
    kind: Kind,
    rng: np.random.Generator,
    variant: NDArray[np.int64],
    along: F32,
    across: F32,
    inside: F32,
) -> F32:
    """Return haematoxylin (K, S, S): membrane, clumps and nucleoli."""
    tone = np.exp(rng.normal(0, 0.1, VARIANTS))[variant][:, None, None]
    h = kind.dark * tone * np.ones_like(inside)
    for _ in range(7):
        ky, kx = rng.normal(0, 2.0, (2, VARIANTS, 1, 1))
        phase = rng.uniform(0, 2 * np.pi, (VARIANTS, 1, 1))
        h += (
            kind.dark
            * kind.clump
            * 0.45
            * np.cos(along * kx[variant] + across * ky[variant] + phase[variant])
        )
    h += kind.rim * np.exp(-((inside - 0.5) ** 2) / 0.4)
    for _ in range(kind.nucleoli):
        place = rng.normal(0, 0.13 * kind.length_um, (2, VARIANTS, 1, 1))[:, variant]
        gap = (along - place[0]) ** 2 + (across - place[1]) ** 2
        h += 0.9 * np.exp(-gap / 0.7)
    return np.asarray(h.clip(0.1), np.float32)


@dataclass(frozen=True, slots=True)
class Sites:
    """Nuclei of one kind: places y, x (M,) um and the stamp (M,) of each."""

    y: F32
    x: F32
    stamp: NDArray[np.int64]


def lattice(
    seed: int, name: str, pitch_um: float, window: tuple[float, ...]
) -> tuple[F32, F32, Mapping[str, F32]]:
    """Return jittered places y, x (M,) in a window (y0, x0, y1, x1), um, and chances.

    The chances are further random numbers of the same places, by name.
    """
    y0, x0, y1, x1 = window
    tall = pitch_um * 0.866
    rows = np.arange(np.floor(y0 / tall) - 1, np.ceil(y1 / tall) + 1).astype(np.int64)
    cols = np.arange(np.floor(x0 / pitch_um) - 1, np.ceil(x1 / pitch_um) + 1)
    row, col = (
        part.ravel() for part in np.meshgrid(rows, cols.astype(np.int64), indexing="ij")
    )
    chance = {k: uniform(seed, f"{name}/{k}", row, col) for k in ("y", "x", "in", "at")}
    y = (row + 0.5 + 0.75 * (chance["y"] - 0.5)) * tall
    x = (col + 0.5 * (row % 2) + 0.75 * (chance["x"] - 0.5)) * pitch_um
    near = (y >= y0) & (y < y1) & (x >= x0) & (x < x1)
    kept = {key: value[near] for key, value in chance.items()}
    return y[near].astype(np.float32), x[near].astype(np.float32), kept


def density(name: str, fields: Fields, habit: Habit) -> F32:
    """Return the chance, 0 to 1, that a place of the lattice bears this kind."""
    solid = (fields.lumen < -2) & (fields.tissue > 3) & (fields.necrosis < 0)
    free = solid & (fields.fat < 0)
    if name == "tumour":
        return (0.95 * (free & (fields.tumour > 3))).astype(np.float32)
    if name == "gland":
        return (0.97 * (free & (fields.gland > 2) & (fields.gland < 9))).astype(
            np.float32
        )
    if name == "fibroblast":
        bare = free & (fields.tumour < 0) & (fields.gland < -2)
        return (bare * np.where(fields.bed > 0, 0.8, 0.45)).astype(np.float32)
    if name == "ghost":
        return (0.5 * ((fields.necrosis > 0) & (fields.tissue > 3))).astype(np.float32)
    dense = np.clip(fields.lymph / 12, 0, 1) * 0.92
    stray = np.where(fields.gland > 0, 0.004, 0.03) * (0.2 + habit.lymphocytes)
    return np.asarray(free * np.maximum(dense, stray), np.float32)
