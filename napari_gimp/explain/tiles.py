"""A network over the tissue of a whole slide, tile by tile (spec mgi E).

Tiles overlap by a quarter and are blended with a raised-cosine window; memory holds a
band of the slide about one tile high.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_gimp.errors import GimpError
from napari_gimp.geometry import Grid
from napari_gimp.slide.ome_zarr_writer import CHUNK_PX
from napari_gimp.slide.source import SlideSource

if TYPE_CHECKING:
    from gimp_models.tiling import Band, Tile, TilePlan
    from torch import Tensor

    from napari_gimp.patches.tissue import Tissue

__all__ = ["Network", "fill", "plan_over"]

OVERLAP = 1 / 4
READERS, AHEAD = 4, 2
"""Threads that read tiles, and batches that are read ahead of the model."""

Network = Callable[["Tensor"], "Tensor"]
"""Colours (B,3,h,w) in [0, 1] to probabilities (B,K,h,w)."""
Colours = NDArray[np.uint8]


def plan_over(
    source: SlideSource, tissue: Tissue, tile_px: int, mpp: float
) -> tuple[TilePlan, Grid]:
    """Cover the tissue of a slide with overlapping tiles.

    Parameters
    ----------
    source
        The slide.
    tissue
        Where tiles must lie.
    tile_px, mpp
        Side of a tile in px, and um of such a px.

    Returns
    -------
    tuple
        The plan over the whole slide, and the place of its pixels.
    """
    import torch
    from gimp_models.tiling import plan_tiles
    from scipy.ndimage import binary_dilation

    from napari_gimp.slide.resample import overview_grid

    grid = overview_grid(source, mpp)
    # The last cells of the tissue's grid reach over the slide's edge, so its cells
    # lie up to one cell off where they are spread evenly over the plan.
    wanted = torch.from_numpy(binary_dilation(tissue.mask))
    return plan_tiles(*grid.shape, tile_px, overlap=OVERLAP, wanted=wanted), grid


def fill(
    source: SlideSource,
    plan: TilePlan,
    network: Network,
    mpp: float,
    *,
    batch_size: int = 8,
    device: str = "cpu",
) -> Generator[tuple[int, Sequence[Band]], None, None]:
    """Run a network over the tiles of a slide and blend what it says.

    Parameters
    ----------
    source
        The slide.
    plan
        Which tiles, in pixels of `mpp` um from the slide's corner.
    network
        Colours (B,3,h,w) to probabilities (B,K,h,w).
    mpp
        um per pixel of a tile.
    batch_size
        Tiles in one call of the network.
    device
        Where the network runs.

    Yields
    ------
    tuple
        Tiles done, and the bands of rows, on the CPU, that this finished.
    """
    from gimp_models.tiling import Blend

    blend: Blend | None = None
    done = 0
    with closing(_batches(source, plan.tiles, mpp, batch_size)) as batches:
        for pixels in batches:
            found = _in_memory(network, _colours(pixels, device)).float().cpu()
            blend = blend or Blend(plan, found.shape[1], multiple=CHUNK_PX)
            bands = [band for values in found for band in blend.add(values)]
            done += len(found)
            yield done, bands


def _batches(
    source: SlideSource, tiles: Sequence[Tile], mpp: float, batch_size: int
) -> Generator[Colours, None, None]:
    """Yield (B,h,w,3) pixels of the tiles in their order, reading ahead."""
    from napari_gimp.patches.brightfield import Rgb, read_rgb

    def read(tile: Tile) -> Rgb:
        shape = tile.height, tile.width
        return read_rgb(source, tile.y * mpp, tile.x * mpp, shape, mpp)

    threads = READERS if source.thread_safe else 1
    pool = ThreadPoolExecutor(threads, thread_name_prefix="gimp-decode-tiles")
    try:
        starts = range(0, len(tiles), batch_size)
        begun = (
            [pool.submit(read, tile) for tile in tiles[start : start + batch_size]]
            for start in starts
        )
        flying: deque[list[Future[Rgb]]] = deque(islice(begun, AHEAD))
        while flying:
            yield np.stack([read.result() for read in flying.popleft()])
            flying.extend(islice(begun, 1))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _colours(pixels: Colours, device: str) -> Tensor:
    """(B,h,w,3) uint8 to (B,3,h,w) in [0, 1] on the device."""
    import torch

    return torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2).float() / 255


def _in_memory(network: Network, images: Tensor) -> Tensor:
    """Run the network; where the device's memory is short, in halves."""
    import torch

    try:
        return network(images)
    except torch.OutOfMemoryError as error:
        if len(images) == 1:
            raise GimpError(
                "The device has not enough memory for a single tile of "
                f"{images.shape[-1]} px. Close what else uses it, or take device 'cpu'."
            ) from error
    halves = images.chunk(2)
    return torch.cat([_in_memory(network, half) for half in halves])
