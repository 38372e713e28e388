"""Where each tissue lies on a synthetic slide: the ground truth the pixels follow.

Every tissue is a signed field over the plane, positive inside and roughly the
distance to its border in um. Pixels, nuclei and the truth mask are all made from the
same fields, so they agree by construction.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from napari_gimp.geometry import YX, Grid
from napari_gimp.synthetic.noise import F32, Noise, stream
from napari_gimp.synthetic.patient import Patient
from napari_gimp.synthetic.shapes import ellipses, nearest_two

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

    `tissue` outline of the piece; `bed` tumour bed; `tumour` nests of it; `lymph`
    infiltrates; `necrosis`; `gland` normal glands; `lumen` holes of glands, tubules
    and vessels; `vessel`; `blood` in vessels; `fat`, and `cell` the distance to the
    border of a fat cell; `cleft` between nests and stroma; `tear` of the section;
    `pen`. Not signed: `along`, `across` the fibre coordinates (um); `loose` 0 dense
    to 1 loose stroma; `thick` the section's thickness, mean 0 and sd 1.
    """

    tissue: F32
    bed: F32
    tumour: F32
    lymph: F32
    necrosis: F32
    gland: F32
    lumen: F32
    vessel: F32
    blood: F32
    fat: F32
    cell: F32
    cleft: F32
    tear: F32
    pen: F32
    along: F32
    across: F32
    loose: F32
    thick: F32

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
        self._grain = float(rng.uniform(0, np.pi))
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
        rough = 5 * noise("rough", 28, y, x)
        bed = (self._bed(y, x) - self._cuts["bed"]) * self._bed_um * 0.2 + rough
        along, across = self._warp(y, x)
        tumour = self._nests(y, x, along, across, rough)
        tumour = np.minimum(tumour, bed)
        necrosis = self._necrosis(y, x, bed, rough)
        lobule = (noise("lobule", 420, y, x) + _probit(habit.glands)) * 70
        gland, hole = self._glands(y, x, np.minimum(lobule, -bed - 20), rough)
        fat = self._fat(y, x, lobule, bed) + rough
        vessel = self._vessels(y, x, rough, np.maximum(np.maximum(tumour, gland), fat))
        lymph = self._lymph(y, x, bed, tumour) + rough
        hole = np.maximum(hole, self._tubules(y, x, tumour, necrosis, rough))
        slow = noise("loose", 210, y, x)
        return Fields(
            tissue=self._tissue(y, x),
            bed=bed,
            tumour=tumour,
            lymph=np.minimum(lymph, -np.maximum(gland, fat)),
            necrosis=necrosis,
            gland=gland,
            lumen=np.maximum(hole, vessel - 3.5),
            vessel=vessel,
            blood=np.minimum(vessel - 5, 12 * slow + 6),
            fat=fat,
            cell=_fat_cells(self.patient.seed, y + rough, x - rough, fat),
            cleft=1.3 + 2 * slow - np.abs(tumour + 2.5),
            tear=self._tears(across, along) - np.maximum(tumour, gland) * 0.2,
            pen=self._pen_field(y, x),
            along=along,
            across=across + _wrap(gland, 26) + _wrap(tumour, 34) + _wrap(vessel, 20),
            loose=np.clip(0.45 + 0.4 * slow + np.clip(lobule / 90, -0.3, 0.35), 0, 1),
            thick=noise("thick", 300, y, x),
        )

    def _nests(self, y: F32, x: F32, along: F32, across: F32, rough: F32) -> F32:
        """Return tumour nests and cords, drawn out somewhat along the fibres."""
        wide = self.patient.habit.nest_um
        band = self.noise("band", 2.5 * wide, across * 2, along * 0.7)
        nest = (self.noise.fractal("nest", wide, y, x) + 0.35 * band) / 1.06
        inside = (nest + _probit(self.patient.habit.solid)) * wide * 0.17
        return np.asarray(inside + 0.6 * rough, np.float32)

    def _necrosis(self, y: F32, x: F32, bed: F32, rough: F32) -> F32:
        rot = self.noise.fractal("necrosis", 320, y, x) - self._cuts["necrosis"]
        return np.asarray(np.minimum(rot * 50 + rough, bed - 25), np.float32)

    def _fat(self, y: F32, x: F32, lobule: F32, bed: F32) -> F32:
        fat = (self.noise("fat", 520, y, x) + _probit(self.patient.habit.fat)) * 80
        return np.asarray(
            np.minimum(fat, np.minimum(-lobule - 10, -bed - 15)), np.float32
        )

    def _vessels(self, y: F32, x: F32, rough: F32, taken: F32) -> F32:
        body, _ = ellipses(self.patient.seed, "vessel", 130.0, 0.3, y, x)
        return np.asarray(
            np.minimum(0.5 * body + 0.3 * rough - 8, -taken - 4), np.float32
        )

    def _tears(self, across: F32, along: F32) -> F32:
        """Return cracks of the section, which open along the fibres."""
        line = np.abs(self.noise("tear", 260, across * 1.7, along * 0.5)) * 60
        return np.asarray(
            4 * self.noise("gape", 330, across, along) - 5 - line, np.float32
        )

    def _tissue(self, y: F32, x: F32) -> F32:
        edge = np.full(y.shape, np.inf, np.float32)
        for ny, nx, offset in self._sides:
            edge = np.minimum(edge, offset - ny * y - nx * x)
        side = min(self.size_um)
        wide = 0.07 * side * self.noise.fractal("outline", 0.4 * side, y, x)
        fine = 7 * self.noise.fractal("fray", 60, y, x)
        frame = np.minimum(np.minimum(y, self.size_um[0] - y), x)
        frame = np.minimum(frame, self.size_um[1] - x) - np.float32(0.03 * side)
        return np.asarray(np.minimum(edge + wide, frame + 0.3 * wide) + fine)

    def _bed(self, y: F32, x: F32) -> F32:
        return self.noise.fractal("bed", self._bed_um, y, x)

    def _warp(self, y: F32, x: F32) -> tuple[F32, F32]:
        """Return coordinates along and across the collagen: a warped plane."""
        noise = self.noise
        cos, sin = np.float32(np.cos(self._grain)), np.float32(np.sin(self._grain))
        across = y * cos - x * sin + 230 * noise("sweep", 1700, y, x)
        across = across + 80 * noise("warp", 560, y, x) + 13 * noise("wave", 150, y, x)
        along = y * sin + x * cos + 90 * noise("slip", 700, y, x)
        return along, np.asarray(across + 2.6 * noise("crimp", 36, y, x), np.float32)

    def _lymph(self, y: F32, x: F32, bed: F32, tumour: F32) -> F32:
        """Return infiltrates: aggregates, likelier at the margin of the tumour."""
        amount = self.patient.habit.lymphocytes
        margin = np.exp(-((bed / 90) ** 2)) if self.patient.habit.tumour else 0.0
        field = self.noise.fractal("lymph", 170, y, x) + 0.9 * margin
        inside = np.where(tumour > 0, 0.8, 0.0)
        return np.asarray((field - inside - 2.3 + 1.3 * amount) * 26, np.float32)

    def _glands(self, y: F32, x: F32, room: F32, rough: F32) -> tuple[F32, F32]:
        """Return normal glands and their lumina within lobules (`room` > 0)."""
        body, size = ellipses(self.patient.seed, "gland", 66.0, 0.9, y, x)
        body = np.minimum(body + 0.5 * rough, room + 12)
        thick = np.clip(0.5 * size, 10.5, 14.5)
        return body, np.asarray(body - thick + 0.2 * rough, np.float32)

    def _tubules(self, y: F32, x: F32, tumour: F32, necrosis: F32, rough: F32) -> F32:
        share = self.patient.habit.tubules
        body, size = ellipses(self.patient.seed, "tubule", 58.0, share, y, x)
        hole = body - 0.56 * size + 0.5 * rough
        return np.asarray(
            np.minimum(hole, np.minimum(tumour - 9, -necrosis)), np.float32
        )

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


def _fat_cells(seed: int, y: F32, x: F32, fat: F32) -> F32:
    """Return the distance to the nearest border between fat cells, um."""
    if fat.max() < -8:
        return np.full(y.shape, 1e3, np.float32)
    near, next_ = nearest_two(seed, "fat", 52.0, y, x)
    return np.asarray((next_ - near) / 2, np.float32)


def _wrap(field: F32, reach_um: float) -> F32:
    """Return what bends fibres around a structure, within `reach_um` of it."""
    return np.asarray(
        np.float32(1.3) * np.clip(field + np.float32(reach_um), 0, None), np.float32
    )


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
    rows, cols = np.meshgrid(y, x, indexing="ij")
    return rows, cols


def _cut(values: F32, share: float) -> float:
    """Return the threshold above which `share` of the values lie."""
    if share <= 0 or not values.size:
        return 1e3
    return float(np.quantile(values, 1 - share))


def _probit(share: float) -> float:
    from scipy.special import ndtri

    return float(ndtri(min(max(share, 0.001), 0.999)))
