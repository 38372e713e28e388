"""Who is painted: the class, the tissue's habit, and the stain of one patient.

One hidden number, `drive`, moves nuclear size, growth and necrosis from the luminal
to the basal end; its overlap between the two classes is why the image alone cannot
tell them apart. Lengths are um.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from napari_gimp.synthetic.noise import stream

CLASSES = ("benign", "luminal-like", "basal-like")
CLASS_DRIVE = {"benign": 0.0, "luminal-like": -1.0, "basal-like": 1.0}
"""Mean of the drive, whose sd is 1: the best guess from it is right in 84 of 100."""
SITES = ("north", "harbour", "valley")

Vector = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Stain:
    """How a laboratory's H&E absorbs: optical density per unit of each dye.

    Parameters
    ----------
    haematoxylin, eosin
        Optical density (R, G, B) of one unit of dye.
    glass
        The light (R, G, B) that comes through empty glass, 0 to 255.
    """

    haematoxylin: Vector
    eosin: Vector
    glass: Vector


@dataclass(frozen=True, slots=True)
class Habit:
    """What a tumour or benign tissue looks like.

    Parameters
    ----------
    tumour
        Share of the tissue that is tumour bed.
    nest_um
        Width of tumour nests.
    solid
        Share of a tumour bed that is tumour cells rather than stroma.
    tubules
        Share of tumour nests with a lumen.
    nucleus_um
        Mean diameter of tumour nuclei.
    pleomorphism
        Sd of the logarithm of their diameter.
    mitoses
        Share of tumour cells in mitosis.
    necrosis
        Share of the tumour bed.
    lymphocytes
        0 (few) to 1 (dense infiltrates).
    fat, glands
        Share of the tissue outside the bed in fat, in lobules.
    """

    tumour: float
    nest_um: float
    solid: float
    tubules: float
    nucleus_um: float
    pleomorphism: float
    mitoses: float
    necrosis: float
    lymphocytes: float
    fat: float
    glands: float


@dataclass(frozen=True, slots=True)
class Patient:
    """One synthetic patient: everything their slide and genes are made from."""

    name: str
    seed: int
    label: str
    site: str
    drive: float
    habit: Habit
    stain: Stain
    pen: bool


def draw_patient(name: str, seed: int, label: str, site: str) -> Patient:
    """Return the patient of that name: equal arguments, equal patient."""
    rng = np.random.default_rng([seed, stream(name), stream("patient")])
    drive = float(CLASS_DRIVE[label] + rng.standard_normal())
    own = int(rng.integers(2**62))
    habit = _benign(rng) if label == "benign" else _tumour(rng, drive)
    stain = _stain(rng, site)
    return Patient(name, own, label, site, drive, habit, stain, rng.random() < 0.2)


def _benign(rng: np.random.Generator) -> Habit:
    return Habit(
        tumour=0.0,
        nest_um=100.0,
        solid=0.5,
        tubules=0.0,
        nucleus_um=8.0,
        pleomorphism=0.1,
        mitoses=0.0,
        necrosis=0.0,
        lymphocytes=_within(rng.normal(0.15, 0.12), 0.0, 0.6),
        fat=rng.uniform(0.05, 0.3),
        glands=rng.uniform(0.35, 0.65),
    )


def _tumour(rng: np.random.Generator, drive: float) -> Habit:
    """Return a tumour's habit; each trait follows the drive with noise of its own."""
    trait = 0.8 * drive + 0.6 * rng.standard_normal(8)
    return Habit(
        tumour=float(rng.uniform(0.25, 0.85)),
        nest_um=_within(120 * 1.35 ** trait[0], 60, 280),
        solid=_within(0.58 + 0.08 * trait[1], 0.35, 0.85),
        tubules=_within(0.40 - 0.19 * trait[2], 0.0, 0.9),
        nucleus_um=_within(9.4 * 1.09 ** trait[3], 7.2, 13.5),
        pleomorphism=_within(0.15 * 1.35 ** trait[4], 0.07, 0.36),
        mitoses=_within(0.005 * 1.8 ** trait[5], 0.0005, 0.03),
        necrosis=_within(0.05 + 0.05 * trait[6], 0.0, 0.25),
        lymphocytes=_within(0.38 + 0.14 * trait[7], 0.05, 0.95),
        fat=float(rng.uniform(0.0, 0.2)),
        glands=float(rng.uniform(0.1, 0.4)),
    )


# Macenko's reference vectors, moved by site and by patient.
_HAEMATOXYLIN = np.array([0.610, 0.700, 0.370])
_EOSIN = np.array([0.190, 0.820, 0.500])
_SITE_SHIFT = {
    "north": ((0.00, 0.00, 0.00), (0.00, 0.00, 0.00), 1.0, 1.0),
    "harbour": ((0.03, -0.01, -0.04), (0.03, 0.02, -0.07), 1.07, 0.9),
    "valley": ((0.01, 0.01, 0.01), (-0.05, 0.00, 0.02), 0.94, 1.1),
}


def _stain(rng: np.random.Generator, site: str) -> Stain:
    shift_h, shift_e, gain_h, gain_e = _SITE_SHIFT.get(site, _SITE_SHIFT["north"])
    gains = np.exp(rng.normal(0, 0.07, 2)) * (gain_h, gain_e)
    h = (_HAEMATOXYLIN + shift_h + rng.normal(0, 0.012, 3)) * gains[0]
    e = (_EOSIN + shift_e + rng.normal(0, 0.012, 3)) * gains[1]
    glass = np.array([243.0, 242.0, 244.0]) + rng.normal(0, 1.2, 3)
    return Stain(_vector(h), _vector(e), _vector(glass))


def _vector(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> Vector:
    r, g, b = (float(v) for v in values)
    return r, g, b


def _within(value: float, low: float, high: float) -> float:
    return float(min(max(value, low), high))
