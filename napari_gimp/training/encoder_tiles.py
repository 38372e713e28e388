"""Tiles on which an encoder is trained: cut from the tissue of any slides.

Tiles are larger than an encoder's input, so that crops of one tile differ, and
they remember their slide: batches are drawn from few slides, lest the network
learn to tell slides apart instead of tissues.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_gimp.errors import PatchError, RunError
from napari_gimp.patches.grid import PatchGrid, lay_patches
from napari_gimp.patches.tissue import find_tissue
from napari_gimp.slide.source import SlideSource, open_slide

SIDE_PX = 160
MPP = 1.0


@dataclass(frozen=True, slots=True)
class TileSet:
    """Tiles and the slides they are from.

    Parameters
    ----------
    pixels
        (T, 160, 160, 3) uint8 at 1 um/px.
    slide
        (T,) int64, which of `names`.
    names
        The slides' names.
    """

    pixels: NDArray[np.uint8]
    slide: NDArray[np.int64]
    names: tuple[str, ...]

    def __len__(self) -> int:
        """Return T."""
        return len(self.pixels)


@dataclass(frozen=True, slots=True)
class SlideSpec:
    """A slide to cut, or a folder of images that count as one slide.

    `mpp` is the um/px where the files do not say (None: they do).
    """

    path: Path
    mpp: float | None = None

    @classmethod
    def parse(cls, text: str) -> SlideSpec:
        """Return the meaning of `PATH` or `PATH@MPP`.

        Raises
        ------
        RunError
            If what follows the @ is no number.
        """
        path, mark, mpp = text.rpartition("@")
        if not mark:
            return cls(Path(text))
        try:
            return cls(Path(path), float(mpp))
        except ValueError as error:
            raise RunError(
                f"{text!r} should be PATH or PATH@MPP, but {mpp!r} is no number; write "
                "for example slide.jpg@0.69"
            ) from error


def cut_tiles(
    slides: Sequence[SlideSpec],
    *,
    per_slide: int,
    seed: int,
    cache: Path | None = None,
) -> TileSet:
    """Return up to `per_slide` tiles of each slide, drawn without repetition.

    Parameters
    ----------
    slides
        What to cut; a slide with less tissue than one tile is an error.
    per_slide
        Most tiles of a slide.
    seed
        Which tiles are drawn.
    cache
        An .npz file: read if it is there, else written; None keeps nothing. It is
        not checked against `slides`.
    """
    if cache is not None and cache.exists():
        return _load(cache)
    rng = np.random.default_rng(seed)
    cut = [_cut(spec, per_slide, rng) for spec in slides]
    owner = np.repeat(np.arange(len(cut)), [len(tiles) for tiles in cut])
    tiles = TileSet(np.concatenate(cut), owner, tuple(s.path.name for s in slides))
    if cache is not None:
        np.savez(cache, pixels=tiles.pixels, slide=tiles.slide, names=tiles.names)
    return tiles


def _load(cache: Path) -> TileSet:
    with np.load(cache, allow_pickle=False) as file:
        return TileSet(file["pixels"], file["slide"], tuple(file["names"].tolist()))


def _cut(
    spec: SlideSpec, per_slide: int, rng: np.random.Generator
) -> NDArray[np.uint8]:
    if not spec.path.is_dir():
        return _cut_file(spec, per_slide, rng)
    parts = []
    for path in sorted(spec.path.iterdir()):
        with suppress(PatchError):  # an image of the folder may show little tissue
            parts.append(_cut_file(SlideSpec(path, spec.mpp), per_slide, rng))
    if not parts:
        raise PatchError(f"no image in {spec.path} has tissue for one tile")
    return np.concatenate(parts)


def _cut_file(
    spec: SlideSpec, per_slide: int, rng: np.random.Generator
) -> NDArray[np.uint8]:
    from napari_gimp.patches.brightfield import read_rgb

    with open_slide(spec.path, mpp=spec.mpp) as source:
        corners = _lay(source).corners_um
        drawn = rng.permutation(len(corners))[:per_slide]
        tiles = [
            read_rgb(source, y, x, (SIDE_PX, SIDE_PX), MPP)
            for y, x in corners[np.sort(drawn)].tolist()
        ]
    return np.stack(tiles).astype(np.uint8)


def _lay(source: SlideSource) -> PatchGrid:
    """Lay tiles that overlap by half and show some tissue."""
    side = SIDE_PX * MPP
    try:
        return lay_patches(
            find_tissue(source), patch_um=side, stride_um=side / 2, min_tissue=0.3
        )
    except PatchError as error:
        raise PatchError(f"{source.path} has no tile: {error}") from error
