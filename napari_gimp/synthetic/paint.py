"""Paints blocks of a slide: dyes first, then light through them (Beer-Lambert).

A block is a function of the patient and its place only. Fields are evaluated on
cells of 4 px that all blocks share, textures repeat in slide pixels, nuclei belong
to places of a global lattice and are drawn whole beyond the border of the block: so
blocks meet without a seam whatever the order in which they are painted.
"""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import fields as fields_of
from functools import partial

import numpy as np
from numpy.typing import NDArray

from napari_gimp.synthetic.ground import (
    TEXTURE_PX,
    Place,
    ground_dyes,
    soft,
    textures,
)
from napari_gimp.synthetic.layout import Fields, Layout
from napari_gimp.synthetic.noise import F32, I64, stream
from napari_gimp.synthetic.nuclei import (
    ANGLES,
    LATTICE,
    VARIANTS,
    Stamps,
    chances,
    draw_stamps,
    kinds,
    lattice,
)

CELL_PX = 4
_INK = (2.0, 0.75, 0.38)  # optical density (R, G, B) of a blue felt pen
_PEN_EDGE_UM = 8.0


@dataclass(frozen=True, slots=True)
class Window:
    """Fields over one block, on cells of 4 px, `pad` cells more on every side."""

    cells: Fields
    across_slope: tuple[F32, F32]
    gland_slope: tuple[F32, F32]
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
        largest = max(stamps.keep.shape[-1] for stamps in self._stamps.values())
        self._margin = CELL_PX * (largest // CELL_PX + 1)
        self._textures = textures(mpp)
        rng = np.random.default_rng(stream("sensor"))
        self._sensor = rng.normal(0, 1.3, (TEXTURE_PX, TEXTURE_PX)).astype(np.float32)

    def block(self, top: int, left: int, side: int) -> NDArray[np.uint8]:
        """Return pixels (side, side, 3) whose upper left corner is (top, left), px.

        All three must be multiples of 4 px.
        """
        window = self._window(top, left, side)
        if window.cells.tissue.max() < -4 and window.cells.pen.max() < -4:
            return self._light(np.zeros((2, side, side), np.float32), window)
        margin = self._margin
        dyes = np.zeros((2, side + 2 * margin, side + 2 * margin), np.float32)
        inner = dyes[:, margin:-margin, margin:-margin]
        inner[:] = self._ground(window)
        for name in self._stamps:
            self._lay(name, dyes, window)
        return self._light(inner, window)

    def _window(self, top: int, left: int, side: int) -> Window:
        pad = self._margin // CELL_PX + 2
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
        slopes = _slope(cells.across), _slope(cells.gland)
        return Window(cells, *slopes, top, left, side, pad)

    def _spread(self, cells: F32, window: Window) -> F32:
        """Return a field of a window at every pixel (side, side), bilinearly."""
        from PIL import Image

        first, count = window.pad, window.side_px // CELL_PX
        box = (first, first, first + count, first + count)
        image = Image.fromarray(cells)
        size = (window.side_px, window.side_px)
        return np.asarray(image.resize(size, Image.Resampling.BILINEAR, box=box))

    def _ground(self, window: Window) -> F32:
        """Return dyes (2, side, side) of everything but nuclei."""
        cells = {f.name: getattr(window.cells, f.name) for f in fields_of(Fields)}
        squeeze = np.hypot(*window.across_slope) / (CELL_PX * self.mpp)
        cells["squeeze"] = np.asarray(squeeze, np.float32)
        grain, clumps = (self._tiled(texture, window) for texture in self._textures)
        spread = partial(self._spread, window=window)
        return ground_dyes(Place(cells, spread, grain, clumps))

    def _tiled(self, texture: F32, window: Window) -> F32:
        """Return a periodic texture at the block's place in the slide."""
        rows = (np.arange(window.side_px) + window.top) % texture.shape[0]
        cols = (np.arange(window.side_px) + window.left) % texture.shape[1]
        return np.asarray(texture[rows[:, None], cols[None]])

    def _lay(self, name: str, dyes: F32, window: Window) -> None:
        """Lay all nuclei of a kind that touch the block over its dyes."""
        kind, stamps = self._kinds[name], self._stamps[name]
        seed, habit = self.layout.patient.seed, self.layout.patient.habit
        margin, half = self._margin, stamps.keep.shape[-1] // 2
        bounds = self._bounds(window, margin - half - 1)
        y, x, chance = lattice(seed, LATTICE.get(name, name), kind.pitch_um, bounds)
        at = self._cell_of(y, x, window)
        low, high = chances(name, _pick(window.cells, at), habit)
        keep = (chance["in"] >= low) & (chance["in"] < high)
        turn = self._turns(name, at, chance["at"], window)
        stamp = (chance["kind"] * VARIANTS).astype(np.int64) * ANGLES + turn
        py = np.rint(y / self.mpp - 0.5).astype(int) - window.top + margin - half
        px = np.rint(x / self.mpp - 0.5).astype(int) - window.left + margin - half
        _stamp(dyes, stamps, py[keep], px[keep], stamp[keep])

    def _bounds(self, window: Window, reach_px: int) -> tuple[float, ...]:
        """Return the block's y0, x0, y1, x1 in um, `reach_px` wider on each side."""
        corner = np.array((window.top, window.left))
        low, high = corner - reach_px, corner + window.side_px + reach_px
        return tuple(float(v) * self.mpp for v in (*low, *high))

    def _cell_of(self, y: F32, x: F32, window: Window) -> tuple[I64, I64]:
        cell = CELL_PX * self.mpp
        row = np.floor(y / cell).astype(np.int64) - window.top // CELL_PX + window.pad
        col = np.floor(x / cell).astype(np.int64) - window.left // CELL_PX + window.pad
        return row, col

    def _turns(
        self, name: str, at: tuple[I64, I64], chance: F32, window: Window
    ) -> I64:
        """Return the angle number of each nucleus.

        Spindles lie along the fibres, gland nuclei stand on the wall of the gland.
        """
        if name == "fibroblast":
            gy, gx = window.across_slope
            angle = np.arctan2(-gx[at], gy[at]) + 0.5 * (chance - 0.5)
        elif name == "gland":
            gy, gx = window.gland_slope
            angle = np.arctan2(gy[at], gx[at]) + 0.9 * (chance - 0.5)
        else:
            angle = chance * np.float32(np.pi)
        return np.asarray(np.rint(angle / np.pi * ANGLES) % ANGLES, np.int64)

    def _light(self, dyes: F32, window: Window) -> NDArray[np.uint8]:
        """Return what the camera sees (side, side, 3) behind dyes (2, side, side)."""
        stain = self.layout.patient.stain
        haem, eosin = dyes
        noise = self._tiled(self._sensor, window)
        ink = self._ink(window)
        out = np.empty((*haem.shape, 3), np.uint8)
        for band in range(3):
            depth = haem * np.float32(stain.haematoxylin[band])
            depth += eosin * np.float32(stain.eosin[band])
            if ink is not None:
                depth += ink * np.float32(_INK[band])
            light = np.float32(stain.glass[band]) * np.exp(-depth) + noise
            out[..., band] = np.clip(light + 0.5, 0, 255)
        return out

    def _ink(self, window: Window) -> F32 | None:
        """Return how much felt pen lies on each pixel, denser where it dragged."""
        if window.cells.pen.max() < -_PEN_EDGE_UM:
            return None
        field = self._spread(window.cells.pen, window)
        streaks = 0.85 + 0.13 * self._tiled(self._textures[1], window)
        return np.asarray(soft(field, _PEN_EDGE_UM) * streaks, np.float32)


def _slope(field: F32) -> tuple[F32, F32]:
    down, right = np.gradient(field)
    return np.asarray(down), np.asarray(right)


def _pick(fields: Fields, at: tuple[I64, I64]) -> Fields:
    return Fields(**{f.name: getattr(fields, f.name)[at] for f in fields_of(Fields)})


def _stamp(
    dyes: F32,
    stamps: Stamps,
    top: I64,
    left: I64,
    which: I64,
) -> None:
    """Lay stamps over the dyes (2, H, W), each over what lay there before."""
    side = stamps.keep.shape[-1]
    for y, x, k in zip(top.tolist(), left.tolist(), which.tolist(), strict=True):
        under = dyes[:, y : y + side, x : x + side]
        under *= stamps.keep[k]
        under += stamps.bring[k]
