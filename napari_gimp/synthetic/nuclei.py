"""Nuclei, drawn once per slide and kind as small stamps, and where they lie.

A stamp holds how much it covers (0 to 1) and the haematoxylin and eosin it brings;
the painter lays stamps over the tissue one by one. Sizes are um, stamps are px.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_gimp.synthetic.ground import soft
from napari_gimp.synthetic.layout import Fields
from napari_gimp.synthetic.noise import F32, stream, uniform
from napari_gimp.synthetic.patient import Habit

ANGLES = 16
VARIANTS = 12
_CLUMPS = 18
_CHANCES = ("y", "x", "in", "at", "kind")


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
    pitch = size * 1.2
    return {
        "red": Kind(6.4, 1.1, 0.06, 0.02, 0.02, 0.0, 0.0, 0, 6.0),
        "cell": Kind(pitch * 1.35, 1.2, 0.1, 0.06, 0.2, 0.0, 0.2, 0, pitch),
        "fibroblast": Kind(11.5, 3.6, 0.3, 0.16, 1.55, 0.25, 0.3, 0, 15.0),
        "gland": Kind(8.2, 1.5, 0.1, 0.05, 1.0, 0.5, 0.55, 1, 6.4),
        "tumour": Kind(
            size * 1.12, 1.25, odd, 0.03 + 0.25 * odd, 0.9, 0.65, 0.65, 2, pitch
        ),
        "mitosis": Kind(9.5, 2.6, 0.15, 0.2, 2.6, 0.0, 0.2, 0, pitch),
        "ghost": Kind(5.5, 1.3, 0.35, 0.14, 0.55, 0.0, 0.5, 0, 9.0),
        "lymphocyte": Kind(6.0, 1.1, 0.08, 0.05, 1.75, 0.2, 0.3, 0, 6.8),
    }


# Kinds that share the places of another: a cell, its nucleus and its mitosis.
LATTICE = {"cell": "tumour", "mitosis": "tumour"}


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
    angle = _float(turn * np.pi / ANGLES)[:, None, None]
    along = x * np.cos(angle) + y * np.sin(angle)
    across = y * np.cos(angle) - x * np.sin(angle)
    inside = _outline(kind, rng, scale, variant, along, across)
    cover = soft(inside, 0.45 + 0.8 * mpp)
    h = _chromatin(kind, rng, variant, along, across, inside)
    cover, eosin = _body(name, cover, inside)
    bring = np.stack([cover * h, cover * eosin], 1)
    return Stamps(np.asarray(1 - cover, np.float32), np.asarray(bring, np.float32))


def _body(name: str, cover: F32, inside: F32) -> tuple[F32, F32 | float]:
    """Return how much a stamp covers, and its eosin: only nuclei are opaque."""
    if name == "red":
        return 0.9 * cover, 1.05 - 0.3 * soft(inside - 1.6, 2.0)
    if name == "cell":
        border = np.exp(-((inside - 0.4) ** 2) / 0.5)
        return 0.55 * cover, 0.46 - 0.3 * border
    return cover * (0.6 if name == "ghost" else 0.96), 0.25


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
    long = _float(kind.length_um / 2 * scale)[variant][:, None, None]
    short = long / _float(kind.aspect * squash)[variant][:, None, None]
    theta = np.arctan2(across / short, along / long)
    wave = np.zeros_like(theta)
    for order in (2, 3, 4, 5):
        gain, phase = (
            rng.normal(0, kind.ragged / order**0.5, VARIANTS),
            rng.random(VARIANTS),
        )
        shift = _float(2 * np.pi * phase)[variant][:, None, None]
        wave += _float(gain)[variant][:, None, None] * np.cos(order * theta + shift)
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
    tone = _float(np.exp(rng.normal(0, 0.16, VARIANTS)))[variant][:, None, None]
    h = np.float32(kind.dark) * tone * np.ones_like(inside)
    for _ in range(_CLUMPS if kind.clump else 0):
        h += kind.dark * kind.clump * _spot(kind, rng, variant, along, across)
    h += kind.rim * np.exp(-((inside - 0.45) ** 2) / 0.3)
    for _ in range(kind.nucleoli):
        place = _float(rng.normal(0, 0.13 * kind.length_um, (2, VARIANTS, 1, 1)))
        place = place[:, variant]
        gap = (along - place[0]) ** 2 + (across - place[1]) ** 2
        h += 0.8 * np.exp(-gap / 0.6)
    return np.asarray(h.clip(0.02), np.float32)


def _spot(
    kind: Kind,
    rng: np.random.Generator,
    variant: NDArray[np.int64],
    along: F32,
    across: F32,
) -> F32:
    """Return one clump of chromatin, or one clearing, per variant (K, S, S)."""
    reach = np.array((0.3, 0.3 / kind.aspect)) * kind.length_um
    place = _float(rng.normal(0, reach[:, None, None, None], (2, VARIANTS, 1, 1)))
    place = place[:, variant]
    sign, width = rng.choice((-1.0, 1.0), VARIANTS), rng.uniform(0.28, 0.75, VARIANTS)
    gap = (along - place[0]) ** 2 + (across - place[1]) ** 2
    spread, sign = (_float(v)[variant][:, None, None] for v in (width, sign))
    return np.asarray(sign * np.exp(-gap / (2 * spread**2)), np.float32)


def _float(values: NDArray[np.generic]) -> F32:
    return values.astype(np.float32)


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
    chance = {
        k: uniform(seed, f"{name}/{k}", row, col)
        for k in ("y", "x", "in", "at", "kind")
    }
    y = (row + 0.5 + 0.75 * (chance["y"] - 0.5)) * tall
    x = (col + 0.5 * (row % 2) + 0.75 * (chance["x"] - 0.5)) * pitch_um
    near = (y >= y0) & (y < y1) & (x >= x0) & (x < x1)
    kept = {key: value[near] for key, value in chance.items()}
    return y[near].astype(np.float32), x[near].astype(np.float32), kept


def chances(name: str, fields: Fields, habit: Habit) -> tuple[F32, F32]:
    """Return the span [low, high) of a place's chance in which it bears this kind.

    Kinds that share a lattice have disjoint spans, or the same one.
    """
    inside = (fields.tissue > 3) & (fields.tear < -3)
    free = inside & (fields.lumen < -2) & (fields.necrosis < 0) & (fields.fat < -2)
    none = np.zeros_like(fields.tissue)
    if name in ("tumour", "cell", "mitosis"):
        full = 0.96 * (free & (fields.tumour > 3)).astype(np.float32)
        divided = np.minimum(full, habit.mitoses)
        return {
            "tumour": (divided, full),
            "cell": (none, full),
            "mitosis": (none, divided),
        }[name]
    return none, _share(name, fields, habit, inside, free)


def _share(
    name: str,
    fields: Fields,
    habit: Habit,
    inside: NDArray[np.bool_],
    free: NDArray[np.bool_],
) -> F32:
    """Return the share of a lattice's places that bear a kind of its own."""
    bare = free & (fields.tumour < 0) & (fields.gland < -2)
    if name == "red":
        return 0.9 * (inside & (fields.blood > 0)).astype(np.float32)
    if name == "gland":
        ring = (fields.gland > 2) & (fields.gland < 9) & (fields.tumour < 0)
        return 0.95 * (free & ring).astype(np.float32)
    if name == "fibroblast":
        many = np.where(fields.bed > 0, 0.75, 0.2 + 0.3 * fields.loose)
        lining = np.abs(fields.vessel - 1.5) < 1.5
        return np.asarray(bare * np.maximum(many, 0.9 * lining), np.float32)
    if name == "ghost":
        return 0.5 * (inside & (fields.necrosis > 0)).astype(np.float32)
    dense = np.clip(fields.lymph / 12, 0, 1) * 0.9
    near = 0.12 * np.exp(-((fields.bed / 120) ** 2)) if habit.tumour else 0.0
    stray = np.where(fields.gland > 0, 0.004, 0.02 + near * fields.loose)
    return np.asarray(free * np.maximum(dense, stray * (0.2 + habit.lymphocytes)))
