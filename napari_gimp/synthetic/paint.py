"""Paints blocks of a slide: dyes first, then light through them (Beer-Lambert).

A block is a function of the patient and its place only. Fields are evaluated on
cells of 4 px that all blocks share, textures repeat in slide pixels, nuclei belong
to places of a global lattice and are drawn whole beyond the border of the block: so
blocks meet without a seam whatever the order in which they are painted.
"""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import fields as fields_of

import numpy as np
from numpy.typing import NDArray

from napari_gimp.synthetic.layout import Fields, Layout
from napari_gimp.synthetic.noise import F32, periodic, stream
from napari_gimp.synthetic.nuclei import (
    ANGLES,
    VARIANTS,
    Stamps,
    density,
    draw_stamps,
    kinds,
    lattice,
)

CELL_PX = 4
_TEXTURE_PX = 1024
_MARGIN_UM = 16.0


@dataclass(frozen=True, slots=True)
class Window:
    """Fields over one block, on cells of 4 px, `pad` cells more on every side."""

    cells: Fields
    gradient_y: F32
    gradient_x: F32
    top: int
    left: int
    side_px: int
    pad: int


class Painter:
    """Paints the slide of a layout at `mpp` um/px.

    Parameters
    ----------
    layout
        The plan.
    mpp
        um/px.
    """

    def __init__(self, layout: Layout, mpp: float) -> None:
        self.layout, self.mpp = layout, mpp
        patient = layout.patient
        self._kinds = kinds(patient.habit)
        self._stamps = {
            name: draw_stamps(kind, patient.seed, name, mpp)
            for name, kind in self._kinds.items()
        }
        rng = np.random.default_rng([patient.seed, stream("paint")])
        square = (_TEXTURE_PX, _TEXTURE_PX)
        self._fine = periodic(rng, square, (0.7 * 0.5 / mpp, 0.7 * 0.5 / mpp))
        self._clumps = periodic(rng, square, (2.2 * 0.5 / mpp, 2.2 * 0.5 / mpp))
        self._fibre = _fibre_texture(rng)
        self._sensor = (rng.standard_normal((*square, 1)) * 1.3).astype(np.float32)

    def block(self, top: int, left: int, side: int) -> NDArray[np.uint8]:
        """Return pixels (side, side, 3) whose upper left corner is (top, left), px.

        All three must be multiples of 4 px.
        """
        window = self._window(top, left, side)
        if window.cells.tissue.max() < -4 and window.cells.pen.max() < -4:
            return self._light(np.zeros((2, side, side), np.float32), window)
        margin = self._margin_px()
        dyes = np.zeros((2, side + 2 * margin, side + 2 * margin), np.float32)
        inner = dyes[:, margin:-margin, margin:-margin]
        inner[:] = self._ground(window)
        for name in self._stamps:
            self._lay(name, dyes, window)
        return self._light(inner, window)

    def _margin_px(self) -> int:
        largest: int = max(stamps.keep.shape[-1] for stamps in self._stamps.values())
        return CELL_PX * (largest // CELL_PX + 1)

    def _window(self, top: int, left: int, side: int) -> Window:
        pad = self._margin_px() // CELL_PX + 2
        count = side // CELL_PX + 2 * pad
        cell_um = np.float32(CELL_PX * self.mpp)
        rows = np.arange(count) + (top // CELL_PX - pad)
        cols = np.arange(count) + (left // CELL_PX - pad)
        y, x = np.meshgrid(
            ((rows + 0.5) * cell_um).astype(np.float32),
            ((cols + 0.5) * cell_um).astype(np.float32),
            indexing="ij",
        )
        cells = self.layout.at(y, x)
        gy, gx = np.gradient(cells.across)
        return Window(cells, gy, gx, top, left, side, pad)

    def _spread(self, cells: F32, window: Window) -> F32:
        """Return a field of a window at every pixel (side, side), bilinearly."""
        from PIL import Image

        first, count = window.pad, window.side_px // CELL_PX
        box = (first, first, first + count, first + count)
        image = Image.fromarray(cells, mode="F")
        size = (window.side_px, window.side_px)
        return np.asarray(image.resize(size, Image.Resampling.BILINEAR, box=box))

    def _ground(self, window: Window) -> F32:
        """Return dyes (2, side, side) of everything but nuclei."""
        spread = {
            f.name: self._spread(getattr(window.cells, f.name), window)
            for f in fields_of(Fields)
            if f.name not in ("bed", "pen")
        }
        fine, clumps = (
            self._tiled(self._fine, window),
            self._tiled(self._clumps, window),
        )
        fibre = self._fibres(spread["along"], spread["across"])
        eosin = 0.42 + 0.30 * fibre
        haem = 0.10 + 0.03 * fibre
        gap = np.clip((fibre + 0.9) * 2.5, 0.12, 1)
        eosin, haem = eosin * gap, haem * gap

        def over(name: str, width: float, e: F32 | float, h: F32 | float) -> None:
            nonlocal eosin, haem
            share = np.clip(spread[name] / width + 0.5, 0, 1)
            eosin = eosin + share * (e - eosin)
            haem = haem + share * (h - haem)

        grain = 0.06 * fine + 0.06 * clumps
        over("gland", 2.0, 0.45 + grain, 0.22 + grain)
        over("tumour", 3.0, 0.42 + grain, 0.27 + grain)
        over("lymph", 14.0, 0.28 + grain, 0.22 + grain)
        over("necrosis", 25.0, 0.68 + 2.2 * grain, 0.10 + 0.06 * clumps)
        over("lumen", 1.2, 0.015, 0.01)
        cover = np.clip(spread["tissue"] / 2.0 + 0.5, 0, 1)
        return np.stack([haem * cover, eosin * cover]).clip(0)

    def _tiled(self, texture: F32, window: Window) -> F32:
        """Return a periodic texture at the block's place in the slide."""
        rows = (np.arange(window.side_px) + window.top) % texture.shape[0]
        cols = (np.arange(window.side_px) + window.left) % texture.shape[1]
        return texture[rows[:, None], cols[None]]

    def _fibres(self, along: F32, across: F32) -> F32:
        """Return the fibre texture at fibre coordinates (side, side), um."""
        rows = np.rint(across * 4).astype(np.int32) % self._fibre.shape[0]
        cols = np.rint(along * 2).astype(np.int32) % self._fibre.shape[1]
        return self._fibre[rows, cols]

    def _lay(self, name: str, dyes: F32, window: Window) -> None:
        kind, stamps = self._kinds[name], self._stamps[name]
        if not kind.pitch_um:
            return
        margin = self._margin_px()
        reach = (margin - stamps.keep.shape[-1] // 2 - 1) * self.mpp
        y0, x0 = window.top * self.mpp, window.left * self.mpp
        size = window.side_px * self.mpp
        bounds = (y0 - reach, x0 - reach, y0 + size + reach, x0 + size + reach)
        y, x, chance = lattice(self.layout.patient.seed, name, kind.pitch_um, bounds)
        at = self._cell_of(y, x, window)
        here = density(name, _pick(window.cells, at), self.layout.patient.habit)
        keep = chance["in"] < here
        turn = self._turns(name, at, chance["at"], window)
        variant = (chance["at"] * 7919 % 1 * VARIANTS).astype(np.int64)
        stamp = variant * ANGLES + turn
        half = stamps.keep.shape[-1] // 2
        py = np.rint(y / self.mpp - 0.5).astype(int) - window.top + margin - half
        px = np.rint(x / self.mpp - 0.5).astype(int) - window.left + margin - half
        _stamp(dyes, stamps, py[keep], px[keep], stamp[keep])

    def _cell_of(self, y: F32, x: F32, window: Window) -> tuple[NDArray[np.int64], ...]:
        cell = CELL_PX * self.mpp
        row = np.floor(y / cell).astype(np.int64) - window.top // CELL_PX + window.pad
        col = np.floor(x / cell).astype(np.int64) - window.left // CELL_PX + window.pad
        return row, col

    def _turns(
        self, name: str, at: tuple[NDArray[np.int64], ...], chance: F32, window: Window
    ) -> NDArray[np.int64]:
        """Return the angle number of each nucleus: spindles follow the fibres."""
        if name != "fibroblast":
            return (chance * ANGLES).astype(np.int64)
        gy, gx = window.gradient_y[at], window.gradient_x[at]
        angle = np.arctan2(-gx, gy) + 0.5 * (chance - 0.5)
        return np.rint(angle / np.pi * ANGLES).astype(np.int64) % ANGLES

    def _light(self, dyes: F32, window: Window) -> NDArray[np.uint8]:
        """Return what the camera sees (side, side, 3) behind dyes (2, side, side)."""
        stain = self.layout.patient.stain
        haem, eosin = dyes
        noise = self._tiled(self._sensor, window)[..., 0]
        out = np.empty((*haem.shape, 3), np.uint8)
        pen = np.clip(self._spread(window.cells.pen, window) / 8 + 0.5, 0, 1)
        ink = (2.2, 0.75, 0.35)
        for band in range(3):
            depth = haem * stain.haematoxylin[band] + eosin * stain.eosin[band]
            depth += pen * ink[band]
            light = stain.glass[band] * np.exp(-depth) + noise
            out[..., band] = np.clip(light + 0.5, 0, 255)
        return out


def _pick(fields: Fields, at: tuple[NDArray[np.int64], ...]) -> Fields:
    return Fields(**{f.name: getattr(fields, f.name)[at] for f in fields_of(Fields)})


def _stamp(
    dyes: F32,
    stamps: Stamps,
    top: NDArray[np.int64],
    left: NDArray[np.int64],
    which: NDArray[np.int64],
) -> None:
    """Lay stamps over the dyes (2, H, W), each over what lay there before."""
    side = stamps.keep.shape[-1]
    for y, x, k in zip(top.tolist(), left.tolist(), which.tolist(), strict=True):
        under = dyes[:, y : y + side, x : x + side]
        under *= stamps.keep[k]
        under += stamps.bring[k]


def _fibre_texture(rng: np.random.Generator) -> F32:
    """Return collagen (1024 across at 0.25 um, 2048 along at 0.5 um), mean 0, sd 1."""
    shape = (1024, 2048)
    bundles = periodic(rng, shape, (14, 90))
    fibres = periodic(rng, shape, (4, 40))
    threads = periodic(rng, shape, (1.6, 16))
    mixed = 0.7 * bundles + 0.6 * fibres + 0.4 * threads
    return np.asarray(mixed / mixed.std(), np.float32)
