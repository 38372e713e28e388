"""The tissue between the nuclei: collagen, cytoplasm, fat, necrosis, blood, lumina.

Each is a pair of dye amounts, eosin and haematoxylin, laid over the one before with
a soft border. Everything is a function of the place on the slide, so blocks meet
without a seam.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from napari_gimp.synthetic.noise import F32, periodic, stream

TEXTURE_PX = 512
_FIBRE_SIDE = 1024  # a power of two: places wrap by a mask
_ACROSS_UM, _ALONG_UM = 0.3, 0.6  # one px of the fibre texture

Dye = NDArray[np.floating] | float
Layer = Callable[["Place"], tuple[Dye, Dye]]


class Place:
    """What is known of one block: fields and textures at every pixel.

    A field is spread to pixels when it is first asked for: most blocks lack most
    tissues.

    Parameters
    ----------
    cells
        Fields by name on coarse cells, and `squeeze`: how much closer than in the
        fibre texture the fibres lie.
    spread
        Turns a field on cells into one on pixels (side, side).
    fine, clumps
        Textures (side, side) of grain and of clumps, mean 0, sd 1.
    """

    def __init__(
        self,
        cells: Mapping[str, F32],
        spread: Callable[[F32], F32],
        fine: F32,
        clumps: F32,
    ) -> None:
        self.fine, self.clumps = fine, clumps
        self._cells, self._spread = cells, spread
        self._pixels: dict[str, F32] = {}

    def __getitem__(self, name: str) -> F32:
        if name not in self._pixels:
            self._pixels[name] = self._spread(self._cells[name])
        return self._pixels[name]

    def peak(self, name: str) -> float:
        """Return the highest value of a field in and near the block."""
        return float(self._cells[name].max())


def ground_dyes(place: Place) -> F32:
    """Return haematoxylin and eosin (2, side, side) of everything but nuclei."""
    eosin, haem = _collagen(place)
    for name, width_um, layer in _LAYERS:
        if place.peak(name) <= -width_um / 2:
            continue
        share = soft(place[name], width_um)
        e, h = layer(place)
        eosin += share * (e - eosin)
        haem += share * (h - haem)
    cover = soft(place["tissue"], 2.0) * (1 + np.float32(0.09) * place["thick"])
    return np.stack([haem * cover, eosin * cover]).clip(0)


def soft(field: F32, width_um: float) -> F32:
    """Return 0 outside and 1 inside of a field, with a border `width_um` wide."""
    return np.asarray(np.clip(field * np.float32(1 / width_um) + 0.5, 0, 1))


def textures(mpp: float) -> tuple[F32, F32]:
    """Return periodic grain and clumps (512, 512) at a resolution, um/px."""
    return _grain(0.32 / mpp), _grain(1.1 / mpp)


@lru_cache(maxsize=8)
def _grain(sigma_px: float) -> F32:
    rng = np.random.default_rng(stream("grain"))
    return periodic(rng, (TEXTURE_PX, TEXTURE_PX), (sigma_px, sigma_px))


@lru_cache(maxsize=1)
def _fibre_textures() -> tuple[F32, F32]:
    """Return collagen's tone (mean 0, sd 1) and openness (0 closed, 1 cleft).

    Clefts run where a long-stretched noise crosses zero: thin, branching, of even
    width, as the cracks between bundles do.
    """
    rng = np.random.default_rng(stream("fibre"))

    def noise(across_um: float, along_um: float) -> F32:
        sigma = (across_um / _ACROSS_UM, along_um / _ALONG_UM)
        return periodic(rng, (_FIBRE_SIDE, _FIBRE_SIDE), sigma)

    tone = 0.7 * noise(4.5, 20) + 0.6 * noise(1.6, 9) + 0.5 * noise(0.8, 4)
    crack = np.exp(-((noise(3.4, 13) / 0.2) ** 2))
    crack = np.maximum(crack, 0.75 * np.exp(-((noise(1.9, 7) / 0.2) ** 2)))
    open_ = np.clip(0.45 + 0.75 * noise(9, 24), 0, 1)
    return np.asarray(tone / tone.std(), np.float32), np.asarray(
        crack * open_, np.float32
    )


def _collagen(place: Place) -> tuple[F32, F32]:
    tone_map, crack_map = _fibre_textures()
    frayed = place["across"] + np.float32(0.55) * place.clumps
    rows = np.floor(frayed * np.float32(1 / _ACROSS_UM)).astype(np.int32)
    cols = np.floor(place["along"] * np.float32(1 / _ALONG_UM)).astype(np.int32)
    rows &= _FIBRE_SIDE - 1
    cols &= _FIBRE_SIDE - 1
    flat = rows * _FIBRE_SIDE + cols
    tone, crack = tone_map.take(flat), crack_map.take(flat)
    loose = place["loose"]
    # Where fibres are squeezed, a crack is thinner than a pixel and would alias.
    width = np.clip(1.9 - 0.75 * place["squeeze"], 0, 1)
    closed = 1 - np.clip(crack * width * (0.75 + 0.5 * loose), 0, 0.93)
    eosin = closed * (0.58 - 0.2 * loose + 0.19 * tone + 0.06 * place.fine)
    haem = closed * (0.09 + 0.05 * loose + 0.02 * tone + 0.03 * place.clumps)
    return np.asarray(eosin, np.float32), np.asarray(haem, np.float32)


def _gland(place: Place) -> tuple[Dye, Dye]:
    grain = 0.05 * place.fine + 0.05 * place.clumps
    return 0.47 + grain, 0.25 + grain


def _tumour(place: Place) -> tuple[Dye, Dye]:
    grain = 0.07 * place.fine + 0.07 * place.clumps
    return 0.45 + grain, 0.24 + grain


def _lymph(place: Place) -> tuple[Dye, Dye]:
    grain = 0.06 * place.fine + 0.05 * place.clumps
    return 0.36 + grain, 0.21 + grain


def _necrosis(place: Place) -> tuple[Dye, Dye]:
    crumbs = np.clip(place.clumps, -1.2, 2)
    eosin = 0.58 + 0.13 * crumbs + 0.08 * place.fine
    return eosin, 0.16 + 0.06 * crumbs + 0.03 * place.fine


def _fat(place: Place) -> tuple[Dye, Dye]:
    membrane = np.exp(-((place["cell"] + 0.4 * place.clumps) ** 2) / 1.1)
    return 0.03 + 0.5 * membrane, 0.015 + 0.09 * membrane


def _wall(place: Place) -> tuple[Dye, Dye]:
    return 0.62 + 0.05 * place.fine, 0.15 + 0.04 * place.clumps


def _lumen(place: Place) -> tuple[Dye, Dye]:
    """Return empty lumina, some with thin pink secretion."""
    secretion = np.clip(place["loose"] - 0.55, 0, 0.45) * 0.5
    return 0.012 + secretion * (1 + 0.2 * place.clumps), 0.008 + 0.15 * secretion


def _cleft(place: Place) -> tuple[Dye, Dye]:
    return 0.05, 0.02


_LAYERS: tuple[tuple[str, float, Layer], ...] = (
    ("vessel", 2.0, _wall),
    ("fat", 2.0, _fat),
    ("cleft", 1.6, _cleft),
    ("gland", 1.6, _gland),
    ("tumour", 2.4, _tumour),
    ("lymph", 16.0, _lymph),
    ("necrosis", 25.0, _necrosis),
    ("lumen", 1.2, _lumen),
    ("tear", 2.0, _cleft),
)
