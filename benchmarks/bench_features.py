"""Rate of encoding patches from a slide, next to the bare encoder in memory.

The peer is measured in the same run: the same encoder on as many patches that are
already read, at its best, be it one call on all cores or one call per core. Aim: 0.9
of it. The limit is what no reader can pass where the encoder fills all cores: bare
processor time over that plus the codec alone, every tile under the patches once and
nothing else done with it. Processor time tells the same on a busy machine.

Then the memory that 2,000 of 100,000 patches take above the model, each in a fresh
process (aim: 1 GB), and how long Cancel takes (aim: 2 s).

    python benchmarks/bench_features.py [--side-px 8192] [--device cpu]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from napari_gimp.geometry import Grid
from napari_gimp.patches.encoders import Encoder, load_encoder
from napari_gimp.patches.encoders.look import Look
from napari_gimp.patches.encoders.module import ModuleEncoder
from napari_gimp.patches.encoding import encode_batches, fitting_batch
from napari_gimp.patches.extract import extract, extract_all
from napari_gimp.patches.grid import PatchGrid, lay_patches
from napari_gimp.patches.tissue import Tissue
from napari_gimp.slide.boxes import Box, tiles_under
from napari_gimp.slide.resample import Window
from napari_gimp.slide.source import Level, Pixels, Resolution, SlideSource, open_slide
from napari_gimp.slide.tiff import TiffSource
from napari_gimp.slide.tiled import SlideFacts, TiledSource

GB = 1 << 30
PLANNED, RUN = 100_000, 2_000
HEAD = (
    f"{'encoder':12} {'slide, 20x':22} {'patches':>8} {'bare /s':>8} {'slide /s':>9} "
    f"{'ratio':>6} {'cpu ratio':>10} {'limit':>6} {'bare cpu ms':>12} "
    f"{'read cpu ms':>12}"
)


def main() -> None:
    args = _arguments()
    if args.memory_of:
        print(memory_above_model(args.memory_of, args.mpp, args.device))
        return
    print(HEAD)
    with tempfile.TemporaryDirectory() as folder:
        finer = write_slide(Path(folder) / "4.tif", args.side_px, (1, 4, 16))
        even = write_slide(Path(folder) / "2.tif", args.side_px, (1, 2, 4))
        rates("default", "0.5 um/px, levels 1 4 16", finer, args)
        rates("default", "0.5 um/px, levels 1 2 4", even, args)
        rates("default", "0.499 um/px, 1 4 16", finer, args, mpp=0.499)
        rates("ViT-S", "0.5 um/px, levels 1 2 4", even, args, most=args.vit_patches)
        rates("ViT-S", "0.25 um/px, 1 2 4", even, args, mpp=0.25, most=args.vit_patches)
        cancelling(even, args)
    memory(args)


def rates(
    name: str,
    slide: str,
    path: Path,
    args: argparse.Namespace,
    *,
    mpp: float = 0.5,
    most: int | None = None,
) -> None:
    """Print the better of a few rounds, taken in turn so that load hits both."""
    encoder = encoder_of(name).to(args.device)
    with open_slide(path) as source:
        source.resolution = Resolution((mpp, mpp), "bench", True)
        patches = first(whole_slide(source, encoder), most)
        count = len(patches)
        ways: list[Callable[[], object]] = [
            *bare_ways(encoder, count, args.device),
            lambda: extract_all(source, patches, encoder, device=args.device),
        ]
        rounds = [[seconds(way) for way in ways] for _ in range(args.rounds)]
        codec = codec_seconds(source, patches, encoder) / count
    *bare, whole = (
        np.min(times, axis=0) / count for times in zip(*rounds, strict=True)
    )
    alone, alone_cpu = np.min(bare, axis=0)
    print(
        f"{name:12} {slide:24} {count:6d} {1 / alone:8.0f} {1 / whole[0]:9.0f} "
        f"{alone / whole[0]:6.2f} {alone_cpu / whole[1]:10.2f} "
        f"{alone_cpu / (alone_cpu + codec):6.2f} {1e3 * alone_cpu:12.2f} "
        f"{1e3 * (whole[1] - alone_cpu):12.2f}",
        flush=True,
    )


def encoder_of(name: str) -> Encoder:
    """Return the default encoder, or a ViT-S/16 with weights made up."""
    if name == "default":
        return load_encoder()
    torch.manual_seed(0)
    look = Look(224, 0.5, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    return ModuleEncoder(name, ClassToken().eval(), look=look, fingerprint=name)


class ClassToken(torch.nn.Module):
    """A ViT-S/16 of 22 M parameters, (B,3,224,224) to (B,384)."""

    def __init__(self) -> None:
        from gimp_models.mgi_config import MgiConfig
        from gimp_models.vit import ViT

        super().__init__()
        self.vit = ViT(MgiConfig(genes=100, classes=2, image_px=224))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the class token."""
        seen = torch.ones(x.shape[0], *x.shape[2:], dtype=torch.bool, device=x.device)
        token: torch.Tensor = self.vit(x, seen).cls
        return token


def bare_ways(encoder: Encoder, count: int, device: str) -> list[Callable[[], object]]:
    """Return the ways to encode as many patches, already in memory."""
    size, side = fitting_batch(encoder, device), encoder.input_px
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (size, side, side, 3), dtype=np.uint8)

    def batches() -> Iterator[tuple[slice, np.ndarray]]:
        for k in range(0, count, size):
            yield slice(k, min(k + size, count)), pixels[: count - k]

    def one_call_at_a_time() -> None:
        for _, batch in batches():
            encoder(batch)

    def one_call_per_core() -> None:
        encoded = encode_batches(encoder, batches(), device=device, batch_size=size)
        for _ in encoded:
            pass

    return [one_call_at_a_time, one_call_per_core]


def codec_seconds(source: SlideSource, patches: PatchGrid, encoder: Encoder) -> float:
    """Return the processor time that decoding takes, each tile once, alone, s."""
    assert isinstance(source, TiffSource)
    tiles: set[tuple[int, int]] = set()
    side, number = encoder.input_px, 0
    for y_um, x_um in patches.corners_um.tolist():
        window = Window.of(source, (y_um, x_um), (0, 0), (side, side), encoder.mpp)
        number, ys, xs = window.number, window.edges_y, window.edges_x
        box = Box(int(ys[0]), int(xs[0]), int(-(-ys[-1] // 1)), int(-(-xs[-1] // 1)))
        tiles.update(tiles_under(source.levels[number], box))
    tried = sorted(tiles)[:: max(len(tiles) // 400, 1)]
    best = min(_decoding(source, number, tried) for _ in range(5))
    return best * len(tiles) / len(tried)


def _decoding(source: TiffSource, number: int, tiles: list[tuple[int, int]]) -> float:
    start = time.thread_time()
    for row, col in tiles:
        source.decode_tile(number, row, col)
    return time.thread_time() - start


def seconds(action: Callable[[], object]) -> tuple[float, float]:
    """Return how long something takes, and its processor time, s."""
    start, busy = time.perf_counter(), time.process_time()
    action()
    return time.perf_counter() - start, time.process_time() - busy


def whole_slide(source: SlideSource, encoder: Encoder) -> PatchGrid:
    """Return every patch of a slide."""
    height, width = source.levels[0].shape
    my, mx = source.mpp
    grid = Grid((int(height * my // 8), int(width * mx // 8)), (8.0, 8.0))
    tissue = Tissue(np.ones(grid.shape, dtype=bool), grid)
    return lay_patches(tissue, patch_um=encoder.patch_um)


def first(patches: PatchGrid, most: int | None) -> PatchGrid:
    """Return the first of the patches."""
    few = slice(0, most)
    return replace(patches, index=patches.index[few], tissue=patches.tissue[few])


def cancelling(path: Path, args: argparse.Namespace) -> None:
    """Print the longest time from the wish to stop until all is over, for a ViT-S."""
    encoder = encoder_of("ViT-S").to(args.device)
    longest = 0.0
    with open_slide(path) as source:
        patches = whole_slide(source, encoder)
        for wished in range(1, 6):
            steps = extract(source, patches, encoder, device=args.device)
            for _ in islice(steps, wished):
                start = time.perf_counter()
            next(steps)  # the wish comes just after the step before
            steps.close()
            longest = max(longest, time.perf_counter() - start)
    print(f"\ncancel, ViT-S, from just after a step: {longest:.2f} s (aim 2 s)")


def memory(args: argparse.Namespace) -> None:
    """Print the memory of extractions above the model, each in a fresh process."""
    print(f"\n{RUN:,} of {PLANNED:,} patches planned, above the model (aim 1 GB)")
    for name, mpp in (("default", 0.5), ("default", 0.499), ("ViT-S", 0.25)):
        words = ["--memory-of", name, "--mpp", str(mpp), "--device", args.device]
        told = subprocess.run(
            [sys.executable, __file__, *words],
            capture_output=True,
            text=True,
            check=True,
        )
        print(f"{name:12} {mpp:g} um/px  {float(told.stdout) / GB:.2f} GB")


def memory_above_model(name: str, mpp: float, device: str) -> int:
    """Return the peak of this process above what the model in use takes, bytes."""
    import psutil

    encoder = encoder_of(name).to(device)
    side, process = encoder.input_px, psutil.Process()
    for _ in range(3):
        encoder(np.zeros((fitting_batch(encoder, device), side, side, 3), np.uint8))
    model: int = process.memory_info().rss
    peak = model
    with Endless(int(encoder.patch_um / mpp * PLANNED**0.5) + 1, mpp) as source:
        patches = whole_slide(source, encoder)
        assert len(patches) >= PLANNED * 0.98, len(patches)
        steps = extract(source, patches, encoder, device=device)
        for step in steps:
            peak = max(peak, process.memory_info().rss)
            if step.done >= RUN:
                break
        steps.close()
    return peak - model


class Endless(TiledSource):
    """A slide of any size in which one JPEG tile is repeated; it needs no disk."""

    def __init__(self, side_px: int, mpp: float) -> None:
        import imagecodecs

        rng = np.random.default_rng(0)
        tile = rng.normal(190, 25, (256, 256, 3)).clip(0, 255).astype(np.uint8)
        self._decode = partial(imagecodecs.jpeg8_decode, imagecodecs.jpeg8_encode(tile))
        level = Level((side_px, side_px), (256, 256), (1.0, 1.0))
        resolution = Resolution((mpp, mpp), "bench", True)
        path = Path("endless.tif")
        super().__init__(SlideFacts(path, "bench", (level,), resolution, "endless"))

    def decode_tile(self, level: int, row: int, col: int) -> Pixels:
        """Return one native tile, cut off at the edge."""
        height, width, _ = self._tile_shape(level, row, col)
        tile: Pixels = self._decode()[:height, :width]
        return tile


def write_slide(path: Path, side_px: int, levels: tuple[int, ...]) -> Path:
    """Write a tiled JPEG slide at 0.5 um/px whose tiles cost what tissue costs."""
    import tifffile

    rng = np.random.default_rng(0)
    texture = (
        rng.normal(0, 1, (side_px // 8, side_px // 8, 3)).repeat(8, 0).repeat(8, 1)
    )
    grain = rng.normal(0, 4, (side_px, side_px, 1))
    pixels = np.clip(np.array([200, 130, 180]) + 25 * texture + grain, 0, 255)
    pixels = pixels.astype(np.uint8)
    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        for level in levels:
            tiff.write(
                pixels[::level, ::level],
                tile=(256, 256),
                compression="jpeg",
                compressionargs={"level": 85},
                photometric="ycbcr",
                subsampling=(2, 2),
                resolution=(2e4 / level, 2e4 / level),
                resolutionunit="CENTIMETER",
                subfiletype=int(level > 1),
            )
    return path


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side-px", type=int, default=8192)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--vit-patches", type=int, default=192)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    parser.add_argument("--mpp", type=float, default=0.5, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
