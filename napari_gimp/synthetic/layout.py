"""Where each tissue lies on a synthetic slide: the ground truth the pixels follow.

Every tissue is a signed field over the plane, positive inside and roughly the
distance to its border in um. Pixels, nuclei and the truth mask are all made from the
same fields, so they agree by construction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from napari_gimp.geometry import YX, Grid
from napari_gimp.synthetic.noise import F32, Noise, stream, uniform
from napari_gimp.synthetic.patient import Patient

TRUTH_UM = 8.0
_SURVEY = 128  # cells per side of the survey that turns shares into thresholds


class Tissue(IntEnum):
    """Codes of the truth mask. Fat counts as stroma, a lumen as its gland."""

    GLASS = 0
    STROMA = 1
    TUMOUR = 2
    LYMPHOCYTES = 3
    NECROSIS = 4
    GLAND = 5
    PEN = 6


@dataclass(frozen=True, slots=True)
class Fields:
    """Signed fields at some places, all of one shape; positive inside, about um.

    `tissue` piece outline; `bed` tumour bed; `tumour` nests of it; `lymph`
    infiltrates; `necrosis`; `gland` normal glands; `lumen` holes of glands and
    tubules; `fat`; `pen`; `along`, `across` the fibre coordinates.
    """

    tissue: F32
    bed: F32
    tumour: F32
    lymph: F32
    necrosis: F32
    gland: F32
    lumen: F32
    fat: F32
    pen: F32
    along: F32
    across: F32

    def codes(self) -> NDArray[np.uint8]:
        """Return the tissue codes: what lies on top wins."""
        codes = np.full(self.tissue.shape, Tissue.STROMA, np.uint8)
        codes[self.gland > 0] = Tissue.GLAND
        codes[self.tumour > 0] = Tissue.TUMOUR
        codes[self.lymph > 0] = Tissue.LYMPHOCYTES
        codes[self.necrosis > 0] = Tissue.NECROSIS
        codes[self.tissue <= 0] = Tissue.GLASS
        codes[self.pen > 0] = Tissue.PEN
        return codes


class Layout:
    """The plan of one slide.

    Parameters
    ----------
    patient
        Whose slide.
    size_um
        Height and width of the slide, um.
    """

    def __init__(self, patient: Patient, size_um: YX) -> None:
        self.patient, self.size_um = patient, size_um
        self.noise = Noise(patient.seed)
        rng = np.random.default_rng([patient.seed, stream("layout")])
        self._sides = _polygon(rng, size_um)
        self._pen = _pen_stroke(rng, size_um)
        self._bed_um = max(0.38 * min(size_um), 450.0)
        self._cuts = self._survey()

    def _survey(self) -> dict[str, float]:
        """Return the thresholds at which shares of the tissue are as planned."""
        habit = self.patient.habit
        y, x = _centres((_SURVEY, _SURVEY), np.array(self.size_um) / _SURVEY)
        inside = self._tissue(y, x) > 0
        bed = self._bed(y, x)[inside]
        cuts = {"bed": _cut(bed, habit.tumour)}
        deep = bed > cuts["bed"]
        rot = self.noise.fractal("necrosis", 320, y, x)[inside][deep]
        cuts["necrosis"] = _cut(rot, habit.necrosis)
        return cuts

    def at(self, y_um: F32, x_um: F32) -> Fields:
        """Return the fields at places (any one shape), um."""
        habit, noise, y, x = self.patient.habit, self.noise, y_um, x_um
        tissue = self._tissue(y, x)
        rough = 5 * noise("rough", 28, y, x)
        bed = (self._bed(y, x) - self._cuts["bed"]) * self._bed_um * 0.2
        along, across = self._fibres(y, x)
        nest = noise.fractal("nest", habit.nest_um, y, x) + 0.35 * noise(
            "band", habit.nest_um * 2.5, across * 2.0, along * 0.7
        )
        nests = (nest / 1.06 + _probit(habit.solid)) * habit.nest_um * 0.17
        tumour = np.minimum(nests + rough * 0.6, bed + rough)
        necrosis = (noise.fractal("necrosis", 320, y, x) - self._cuts["necrosis"]) * 50
        necrosis = np.minimum(necrosis + rough, bed - 25)
        lymph = self._lymph(y, x, bed, tumour) + rough
        lobule = (noise("lobule", 420, y, x) + _probit(habit.glands)) * 70
        glands, lumen = self._glands(y, x, np.minimum(lobule, -bed - 20), rough)
        tubule = self._tubules(y, x, tumour, rough)
        fat = (noise("fat", 520, y, x) + _probit(habit.fat)) * 80 + rough
        fat = np.minimum(fat, np.minimum(-lobule - 10, -bed - 15))
        return Fields(
            tissue=tissue,
            bed=bed,
            tumour=tumour,
            lymph=np.minimum(lymph, -np.maximum(glands, fat)),
            necrosis=necrosis,
            gland=glands,
            lumen=np.maximum(lumen, np.minimum(tubule, -necrosis)),
            fat=fat,
            pen=self._pen_field(y, x),
            along=along,
            across=across,
        )

    def _tissue(self, y: F32, x: F32) -> F32:
        edge = np.full(y.shape, np.inf, np.float32)
        for ny, nx, offset in self._sides:
            edge = np.minimum(edge, offset - ny * y - nx * x)
        side = min(self.size_um)
        wide = 0.07 * side * self.noise.fractal("outline", 0.4 * side, y, x)
        fine = 7 * self.noise.fractal("fray", 60, y, x)
        return np.asarray(edge + wide + fine, np.float32)

    def _bed(self, y: F32, x: F32) -> F32:
        return self.noise.fractal("bed", self._bed_um, y, x)

    def _fibres(self, y: F32, x: F32) -> tuple[F32, F32]:
        """Return coordinates along and across the collagen: a warped plane."""
        noise = self.noise
        across = y + 130 * noise("warp", 620, y, x) + 22 * noise("wave", 150, y, x)
        along = x + 110 * noise("slip", 700, y, x)
        return along, np.asarray(across + 2.2 * noise("crimp", 34, y, x), np.float32)

    def _lymph(self, y: F32, x: F32, bed: F32, tumour: F32) -> F32:
        """Return infiltrates: aggregates, likelier at the margin of the tumour."""
        amount = self.patient.habit.lymphocytes
        margin = np.exp(-((bed / 90) ** 2)) if self.patient.habit.tumour else 0.0
        field = self.noise.fractal("lymph", 170, y, x) + 0.9 * margin
        inside = np.where(tumour > 0, 0.8, 0.0)
        return np.asarray((field - inside - 2.3 + 1.3 * amount) * 26, np.float32)

    def _glands(self, y: F32, x: F32, room: F32, rough: F32) -> tuple[F32, F32]:
        """Return normal glands and their lumina within lobules (`room` > 0)."""
        body, size = ellipses(self.patient.seed, "gland", 74.0, 0.95, y, x)
        body = np.minimum(body + 0.45 * rough, room + 12)
        thick = np.clip(0.42 * size, 9.5, 15.0)
        return body, np.asarray(body - thick + 0.15 * rough, np.float32)

    def _tubules(self, y: F32, x: F32, tumour: F32, rough: F32) -> F32:
        share = self.patient.habit.tubules
        body, size = ellipses(self.patient.seed, "tubule", 58.0, share, y, x)
        hole = body - 0.56 * size + 0.5 * rough
        return np.asarray(np.minimum(hole, tumour - 9), np.float32)

    def _pen_field(self, y: F32, x: F32) -> F32:
        if not self.patient.pen:
            return np.full(y.shape, -1e3, np.float32)
        cy, cx, radius, width = self._pen
        wobble = 0.05 * radius * self.noise("pen", 2.2 * radius, y, x)
        away = np.abs(np.hypot(y - cy, x - cx) - radius + wobble * 3)
        return np.asarray(width / 2 - away, np.float32)


def truth_codes(layout: Layout) -> tuple[NDArray[np.uint8], Grid]:
    """Return the tissue code mask (rows, cols) of a slide at 8 um, and its grid."""
    rows, cols = (int(np.ceil(side / TRUTH_UM - 1e-6)) for side in layout.size_um)
    codes = np.empty((rows, cols), np.uint8)
    for top in range(0, rows, 256):
        count = min(256, rows - top)
        y, x = _centres((count, cols), np.array((TRUTH_UM, TRUTH_UM)), top)
        codes[top : top + count] = layout.at(y, x).codes()
    return codes, Grid((rows, cols), (TRUTH_UM, TRUTH_UM))


def ellipses(
    seed: int, name: str, pitch_um: float, share: float, y: F32, x: F32
) -> tuple[F32, F32]:
    """Return the nearest of scattered ellipses: signed distance and size, um.

    One ellipse per cell of a jittered lattice of `pitch_um`, a `share` of them there.
    """
    row = np.floor(y / pitch_um).astype(np.int64)
    col = np.floor(x / pitch_um).astype(np.int64)
    top, left = row.min() - 1, col.min() - 1
    rows, cols = np.arange(top, row.max() + 2), np.arange(left, col.max() + 2)
    table = ellipse_of(
        seed, name, pitch_um, share, *np.meshgrid(rows, cols, indexing="ij")
    )
    flat = (row - top) * cols.size + (col - left)
    flats = [part.ravel() for part in table]
    best = np.full(y.shape, -1e3, np.float32)
    size = np.full(y.shape, pitch_um / 3, np.float32)
    for dr in (-1, 0, 1):
        for dc in (-1, 0, 1):
            cell = flat + (dr * cols.size + dc)
            away = _inside_ellipse([part[cell] for part in flats], y, x)
            size = np.where(away > best, flats[2][cell], size)
            best = np.maximum(away, best)
    return best, size


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
    y = (row + 0.5 + 0.42 * (u[0] - 0.5)) * np.float32(pitch_um)
    x = (col + 0.5 + 0.42 * (u[1] - 0.5)) * np.float32(pitch_um)
    radius = np.where(u[2] < share, pitch_um * (0.27 + 0.24 * u[3]), -1e3)
    angle, stretch = np.float32(np.pi) * u[5], np.sqrt(1 + 0.75 * u[4])
    parts = (y, x, radius, stretch, np.cos(angle), np.sin(angle))
    return tuple(part.astype(np.float32) for part in parts)


def _inside_ellipse(shape: Sequence[F32], y: F32, x: F32) -> F32:
    cy, cx, radius, stretch, cos, sin = shape
    dy, dx = y - cy, x - cx
    long, short = (dx * cos + dy * sin) / stretch, (dy * cos - dx * sin) * stretch
    return np.asarray(radius - np.sqrt(long * long + short * short), np.float32)


def _polygon(
    rng: np.random.Generator, size_um: YX
) -> tuple[tuple[float, float, float], ...]:
    """Return the half-planes (ny, nx, offset) of an irregular piece of tissue."""
    count = int(rng.integers(5, 8))
    turns = (np.arange(count) + rng.uniform(-0.3, 0.3, count)) / count + rng.random()
    sides = []
    for turn in 2 * np.pi * turns:
        ny, nx = float(np.sin(turn)), float(np.cos(turn))
        reach = float(rng.uniform(0.36, 0.5)) * min(size_um)
        middle = (ny * size_um[0] + nx * size_um[1]) / 2
        stretch = abs(ny) * size_um[0] + abs(nx) * size_um[1]
        reach *= stretch / (abs(ny) + abs(nx)) / min(size_um)
        sides.append((ny, nx, middle + reach))
    return tuple(sides)


def _pen_stroke(
    rng: np.random.Generator, size_um: YX
) -> tuple[float, float, float, float]:
    """Return centre y, x, radius and width of a pen's ring, um."""
    side = min(size_um)
    cy, cx = (float(s * rng.uniform(0.2, 0.8)) for s in size_um)
    width = max(0.012 * side, 25.0)
    return cy, cx, float(side * rng.uniform(0.3, 0.5)), width


def _centres(
    shape: tuple[int, int], cell: NDArray[np.float64], top: int = 0
) -> tuple[F32, F32]:
    y = (np.arange(top, top + shape[0], dtype=np.float32) + 0.5) * np.float32(cell[0])
    x = (np.arange(shape[1], dtype=np.float32) + 0.5) * np.float32(cell[1])
    return tuple(np.meshgrid(y, x, indexing="ij"))  # type: ignore[return-value]


def _cut(values: F32, share: float) -> float:
    """Return the threshold above which `share` of the values lie."""
    if share <= 0 or not values.size:
        return 1e3
    return float(np.quantile(values, 1 - share))


def _probit(share: float) -> float:
    from scipy.special import ndtri

    return float(ndtri(min(max(share, 0.001), 0.999)))
