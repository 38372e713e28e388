"""How long it takes to find the tissue of a slide, with its folds and what is blurred.

Slides of 5 x 5 to 40 x 40 mm at 0.5 um/px are made as JPEG pyramids with levels of 4x
and 16x (level 0 is glass: nothing of it is read). Half of each is tissue, with a fold,
a pen's stroke and a part out of focus. Reading is the processor time of the overview
and of the places where focus is judged; thinking is the rest. The limit is 3 s by the
clock on an idle machine of two cores; processor time also holds on a busy one.

Then, on made truth: which part of folds and of blurred tissue is left out, and which
part of sound tissue with them, which is worse.

    python benchmarks/bench_tissue.py [--sizes 5 10 25 40]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from napari_gimp.patches import brightfield, focus, tissue
from napari_gimp.patches.tissue import BLURRED, FOLDS, find_tissue
from napari_gimp.slide.source import open_slide

Rgb = NDArray[np.uint8]

LIMIT_S = 3.0
MPP, TILE, GLASS = 0.5, 512, 243
TILE_UM = TILE * MPP * 4
"""Of a tile at the level of 4x: 1 mm."""
HAEMATOXYLIN, EOSIN = np.array((0.65, 0.70, 0.29)), np.array((0.07, 0.99, 0.11))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[5, 10, 25, 40])
    sizes = parser.parse_args().sizes
    print(
        "| slide, mm | clock, s | processor, s | reading | thinking | limit "
        "| tissue, mm2 | folds | out of focus |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    pool = Pool()
    with tempfile.TemporaryDirectory() as folder:
        for side in sizes:
            path = Path(folder) / f"{side}.tif"
            truth = write_slide(path, side, pool)
            print(row(path, side, truth), flush=True)
            path.unlink()


@dataclass
class Pool:
    """Encoded tiles of each kind, at 2 um/px, and the same at 8 um/px as pixels."""

    kinds: tuple[str, ...] = ("glass", "tissue", "fold", "blurred", "ink")
    fine: dict[str, bytes] = field(default_factory=dict)
    coarse: dict[str, Rgb] = field(default_factory=dict)

    def __post_init__(self) -> None:
        plain = density()
        for kind in self.kinds:
            pixels = picture(plain, kind)
            self.fine[kind] = encode(pixels)
            means = pixels.reshape(TILE // 4, 4, TILE // 4, 4, 3).mean((1, 3))
            self.coarse[kind] = means.round().astype(np.uint8)


def density() -> NDArray[np.float64]:
    """Optical density of nuclei in stroma, 1 mm2 at 2 um/px; it tiles seamlessly."""
    rng = np.random.default_rng(0)
    nuclei = gaussian_filter((rng.random((TILE, TILE)) < 0.01) * 9.0, 1.2, mode="wrap")
    stroma = gaussian_filter(rng.normal(0, 6, (TILE, TILE)), (1, 5), mode="wrap")
    eosin = (0.25 * np.exp(0.2 * stroma))[..., None] * EOSIN
    return np.asarray(0.3 * nuclei[..., None] * HAEMATOXYLIN + eosin)


def picture(plain: NDArray[np.float64], kind: str) -> Rgb:
    """One tile of a kind."""
    seen = plain.copy()
    if kind == "glass":
        seen[:] = 0
    if kind == "blurred":
        seen = gaussian_filter(seen, (5, 5, 0), mode="wrap")
    if kind == "fold":
        seen[:, 230:290] += np.roll(plain, 70, 0)[:, 230:290]
    if kind == "ink":
        seen[:] = (1.0, 0.3, 0.05)
    noise = np.random.default_rng(1).normal(0, 1, seen.shape)
    return (GLASS * 10**-seen + noise).round().clip(0, 255).astype(np.uint8)


def encode(pixels: Rgb) -> bytes:
    return bytes(
        imagecodecs.jpeg8_encode(
            pixels, level=80, colorspace="rgb", outcolorspace="ycbcr", subsampling="420"
        )
    )


def write_slide(path: Path, side_mm: int, pool: Pool) -> NDArray[np.str_]:
    """Write a slide; return the kind of each of its tiles of about 1 mm2."""
    count = round(side_mm * 1000 / TILE_UM)
    kinds = np.full((count, count), "glass", dtype="<U8")
    low, high = count // 8, count - count // 8
    kinds[low:high, low:high] = "tissue"
    kinds[low : (low + high) // 2, high - max(count // 10, 1)] = "fold"
    kinds[(low + high) // 2 : high, low : low + max(count // 5, 1)] = "blurred"
    kinds[0, : count // 2] = "ink"
    jpeg: dict[str, Any] = {
        **{"dtype": np.uint8, "photometric": "ycbcr", "compression": "jpeg"},
        "subsampling": (2, 2),
    }
    glass = encode(np.full((1024, 1024, 3), GLASS, np.uint8))
    per = count * 2
    with tifffile.TiffWriter(path, bigtiff=True) as writer:
        um = (1e4 / MPP, 1e4 / MPP)
        writer.write(
            (glass for _ in range(per**2)),
            shape=(per * 1024, per * 1024, 3),
            tile=(1024, 1024),
            resolution=um,
            resolutionunit="CENTIMETER",
            **jpeg,
        )
        writer.write(
            (pool.fine[kind] for kind in kinds.ravel()),
            shape=(count * TILE, count * TILE, 3),
            tile=(TILE, TILE),
            subfiletype=1,
            **jpeg,
        )
        coarse = np.vstack([np.hstack([pool.coarse[k] for k in row]) for row in kinds])
        writer.write(
            tiles_of(coarse),
            shape=coarse.shape,
            tile=(TILE, TILE),
            subfiletype=1,
            **jpeg,
        )
    return kinds


def tiles_of(pixels: Rgb) -> Iterator[bytes]:
    """Encode a level, its last tiles filled up with glass."""
    rows, cols = (-(-side // TILE) * TILE for side in pixels.shape[:2])
    whole = np.full((rows, cols, 3), GLASS, np.uint8)
    whole[: len(pixels), : pixels.shape[1]] = pixels
    for y in range(0, rows, TILE):
        for x in range(0, cols, TILE):
            yield encode(whole[y : y + TILE, x : x + TILE])


def row(path: Path, side: int, kinds: NDArray[np.str_]) -> str:
    with open_slide(path) as slide, reading() as read:
        start, used = time.perf_counter(), time.process_time()
        found = find_tissue(slide)
        total = time.perf_counter() - start
        used = time.process_time() - used
    cells = found.mask.shape[0] // len(kinds)
    taken = {
        kind: 1 - share(found.mask, kinds == kind, cells)
        for kind in ("tissue", "blurred")
    }
    fold = (kinds == "fold").sum() * 0.12 * (TILE_UM / 1e3) ** 2
    return (
        f"| {side} x {side} | {total:.2f} | {used:.2f} | {read[0]:.2f} "
        f"| {used - read[0]:.2f} | {LIMIT_S:g} | {found.area_mm2:.0f} "
        f"| {found.excluded[FOLDS]:.2f} of {fold:.2f} mm2 "
        f"| {taken['blurred']:.0%} of {(kinds == 'blurred').sum()} mm2 "
        f"({found.excluded[BLURRED]:.0f}), {taken['tissue']:.1%} of sound tissue |"
    )


def share(mask: NDArray[np.bool_], of: NDArray[np.bool_], cells: int) -> float:
    where = of.repeat(cells, 0).repeat(cells, 1)
    return float(mask[: len(where), : where.shape[1]][where].mean())


@contextmanager
def reading() -> Iterator[list[float]]:
    """Add up the processor time of the two places that read."""
    spent = [0.0]
    read, look = brightfield.overview_rgb, focus._seen

    def timed(function: Any) -> Any:
        def call(*args: Any) -> Any:
            start = time.process_time()
            try:
                return function(*args)
            finally:
                spent[0] += time.process_time() - start

        return call

    tissue.overview_rgb, focus._seen = timed(read), timed(look)  # type: ignore[attr-defined]
    try:
        yield spent
    finally:
        tissue.overview_rgb, focus._seen = read, look  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
