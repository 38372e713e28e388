"""Regions larger than a model takes: overlapping tiles, blended as they come (mgi E).

Tiles overlap by a quarter. Each is weighed by a raised-cosine window, and the
weights that meet at a pixel are divided by their sum, so that they add up to 1
everywhere a tile lies. Tiles come row by row, and a row of pixels leaves the `Blend`
as soon as no later tile can touch it: a whole slide never sits in memory, only a
band about one tile high.

    plan = plan_tiles(height, width, tile_px=256)
    blend = Blend(plan, channels=1)
    for tile in plan.tiles:
        for band in blend.add(probabilities_of(tile)):  # (K,h,w)
            write(band.top, band.values)  # (K,n,W)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from gimp_models.errors import BatchError, ConfigError

__all__ = [
    "Band",
    "Blend",
    "Tile",
    "TilePlan",
    "plan_tiles",
    "raised_cosine",
    "run_tiled",
]


@dataclass(frozen=True, slots=True)
class Tile:
    """One tile: pixels [y, y + height) x [x, x + width) of the region."""

    y: int
    x: int
    height: int
    width: int

    @property
    def rows(self) -> slice:
        """Rows of the region that the tile covers."""
        return slice(self.y, self.y + self.height)

    @property
    def columns(self) -> slice:
        """Columns of the region that the tile covers."""
        return slice(self.x, self.x + self.width)


@dataclass(frozen=True, slots=True)
class TilePlan:
    """Which tiles cover a region.

    Parameters
    ----------
    height, width
        H, W of the region in pixels.
    overlap_px
        Pixels that neighbours share; at the far borders, where the last tile is moved
        inwards so that it fits, it may be more.
    tiles
        In reading order: by y, then by x.
    """

    height: int
    width: int
    overlap_px: int
    tiles: tuple[Tile, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Band:
    """Finished rows of the blended region.

    Parameters
    ----------
    top
        Index of the first row.
    values
        (K,n,W) blended values, 0 where no tile lies.
    covered
        (n,W) bool, True where a tile lies.
    """

    top: int
    values: Tensor
    covered: Tensor


def plan_tiles(
    height: int,
    width: int,
    tile_px: int,
    *,
    overlap: float = 1 / 4,
    wanted: Tensor | None = None,
) -> TilePlan:
    """Cover a region with square tiles, or only the part of it that is wanted.

    Parameters
    ----------
    height, width
        H, W of the region in pixels. A side shorter than a tile gets tiles of its
        own length.
    tile_px
        Side of a tile.
    overlap
        Share of a tile's side that it has in common with its neighbour.
    wanted
        (h,w) bool at any scale, spread over the whole region: tiles that meet no
        True cell are left out. None to cover everything.

    Returns
    -------
    TilePlan

    Raises
    ------
    ConfigError
        If a side is below 1 pixel or the overlap is not in [0, 1/2].
    """
    _check_plan(height, width, tile_px, overlap)
    shared = int(tile_px * overlap)
    tall, wide = min(tile_px, height), min(tile_px, width)
    tiles = (
        Tile(y, x, tall, wide)
        for y in _starts(height, tile_px, shared)
        for x in _starts(width, tile_px, shared)
    )
    if wanted is not None:
        meets = _Wanted(wanted, height, width)
        tiles = (tile for tile in tiles if meets(tile))
    return TilePlan(height, width, shared, tuple(tiles))


def raised_cosine(length: int, overlap_px: int) -> Tensor:
    """Weights (length,) of a tile along one side: a raised-cosine rise, 1, and a fall.

    At pixel i of the rise, sin^2(pi (i + 1/2) / (2 overlap)): positive at every pixel,
    and two neighbours that share `overlap_px` pixels add up to 1 at each of them.
    """
    ramp = min(overlap_px, length // 2)
    centre = torch.arange(length, dtype=torch.float64) + 0.5
    to_edge = torch.minimum(centre, length - centre)
    share = (to_edge / ramp).clamp(max=1) if ramp else torch.ones_like(centre)
    return (torch.pi / 2 * share).sin().square()


class Blend:
    """Accumulates tiles in the plan's order and hands out rows that are finished.

    Parameters
    ----------
    plan
        Which tiles will come.
    channels
        K, maps blended at once.
    multiple
        Bands begin at multiples of this many rows and, except for the last, are as
        long as a multiple of it: the height of a chunk where the rows are written.
    dtype, device
        Of the accumulated values.
    """

    def __init__(
        self,
        plan: TilePlan,
        channels: int,
        *,
        multiple: int = 1,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        self.plan = plan
        self._multiple = multiple
        self._top = 0  # first row not yet handed out, and first of the buffers
        self._filled = 0  # rows from here on hold nothing
        self._done = 0  # tiles added
        tallest = max((tile.height for tile in plan.tiles), default=0)
        shape = (min(tallest + multiple, plan.height), plan.width)
        self._sum = torch.zeros((channels, *shape), dtype=dtype, device=device)
        self._weight = torch.zeros(shape, dtype=dtype, device=device)

    def add(self, values: Tensor) -> list[Band]:
        """Add the next tile of the plan.

        Parameters
        ----------
        values
            (K,h,w) of the next tile, e.g. probabilities.

        Returns
        -------
        list of Band
            The rows that no later tile touches, from above to below. After the last
            tile every row of the region has been handed out exactly once; a plan
            without tiles hands out nothing. Bands where no tile lies take no memory.

        Raises
        ------
        BatchError
            If the values do not fit the tile, or the plan has no more tiles.
        """
        tile = self._next(values)
        before = self._hand_out(tile.y // self._multiple * self._multiple)
        window = self._window(tile)
        rows = slice(tile.y - self._top, tile.y + tile.height - self._top)
        self._sum[:, rows, tile.columns] += window * values.to(self._sum)
        self._weight[rows, tile.columns] += window
        self._filled = tile.y + tile.height
        self._done += 1
        return before + self._hand_out(self._finished())

    def _next(self, values: Tensor) -> Tile:
        if self._done == len(self.plan.tiles):
            raise BatchError(
                f"All {self._done} tiles of the plan were added before: "
                "make a new Blend for another region."
            )
        tile = self.plan.tiles[self._done]
        expected = (len(self._sum), tile.height, tile.width)
        if values.shape != expected:
            raise BatchError(
                f"Tile {self._done} is {tuple(values.shape)}, it must be {expected}: "
                "add the tiles in the order of the plan."
            )
        return tile

    def _window(self, tile: Tile) -> Tensor:
        overlap_px = self.plan.overlap_px
        down = raised_cosine(tile.height, overlap_px)
        across = raised_cosine(tile.width, overlap_px)
        return (down[:, None] * across).to(self._weight)

    def _finished(self) -> int:
        """Row up to which no tile is to come."""
        if self._done == len(self.plan.tiles):
            return self.plan.height
        return self.plan.tiles[self._done].y // self._multiple * self._multiple

    def _hand_out(self, until: int) -> list[Band]:
        held = len(self._weight)
        longest = held // self._multiple * self._multiple or held
        bands = []
        while self._top < until:
            bands.append(self._cut(min(until - self._top, longest)))
        return bands

    def _cut(self, count: int) -> Band:
        if self._top >= self._filled:
            band = self._nothing(count)
        else:
            weight = self._weight[:count]
            covered = weight > 0
            values = self._sum[:, :count] / weight.masked_fill(~covered, 1)
            band = Band(self._top, values, covered)
            _move_up(self._sum, count)
            _move_up(self._weight, count)
        self._top += count
        return band

    def _nothing(self, count: int) -> Band:
        """Rows without a tile: views of one zero."""
        shape = (count, self.plan.width)
        values = self._sum.new_zeros(()).expand(len(self._sum), *shape)
        covered = torch.zeros((), dtype=torch.bool, device=values.device)
        return Band(self._top, values, covered.expand(shape))


def run_tiled(
    network: Callable[[Tensor], Tensor],
    image: Tensor,
    tile_px: int,
    *,
    overlap: float = 1 / 4,
    at_once: int = 8,
) -> Tensor:
    """Run a network over a region of any size and blend what it returns.

    Parameters
    ----------
    network
        Maps (B,3,h,w) to (B,K,h,w), h and w at most `tile_px`.
    image
        (3,H,W).
    tile_px, overlap
        As in `plan_tiles`.
    at_once
        Tiles in one call of the network.

    Returns
    -------
    Tensor
        (K,H,W).
    """
    _, height, width = image.shape
    plan = plan_tiles(height, width, tile_px, overlap=overlap)
    blend: Blend | None = None
    bands: list[Band] = []
    for start in range(0, len(plan.tiles), at_once):
        tiles = plan.tiles[start : start + at_once]
        found = network(torch.stack([image[:, t.rows, t.columns] for t in tiles]))
        if blend is None:
            kind = torch.promote_types(found.dtype, torch.float32)
            blend = Blend(plan, found.shape[1], dtype=kind, device=found.device)
        for values in found:
            bands += blend.add(values)
    return torch.cat([band.values for band in bands], dim=1)


class _Wanted:
    """Whether a tile meets a True cell, in constant time by an integral image."""

    def __init__(self, wanted: Tensor, height: int, width: int) -> None:
        self._pixels = height, width
        self._count = torch.zeros(
            wanted.shape[0] + 1, wanted.shape[1] + 1, dtype=torch.long
        )
        self._count[1:, 1:] = wanted.cpu().long().cumsum(0).cumsum(1)

    def __call__(self, tile: Tile) -> bool:
        top, bottom = self._cells(tile.rows, 0)
        left, right = self._cells(tile.columns, 1)
        c = self._count
        inside = c[bottom, right] - c[top, right] - c[bottom, left] + c[top, left]
        return bool(inside > 0)

    def _cells(self, pixels: slice, axis: int) -> tuple[int, int]:
        """Cells that the pixels touch, if only with a part."""
        cells, length = self._count.shape[axis] - 1, self._pixels[axis]
        return pixels.start * cells // length, -(-pixels.stop * cells // length)


def _starts(length: int, tile_px: int, overlap_px: int) -> list[int]:
    """Where tiles begin along a side; the last is moved inwards so that it fits."""
    last = max(length - tile_px, 0)
    return [*range(0, last, tile_px - overlap_px), last]


def _move_up(buffer: Tensor, count: int) -> None:
    """Drop the first rows (..., n, W) of a buffer and append empty ones."""
    kept = buffer.shape[-2] - count
    buffer[..., :kept, :] = buffer[..., count:, :].clone()
    buffer[..., kept:, :] = 0


def _check_plan(height: int, width: int, tile_px: int, overlap: float) -> None:
    if min(height, width, tile_px) < 1:
        raise ConfigError(
            f"A region of {height} x {width} px in tiles of {tile_px} px cannot be "
            "planned: every side must be at least 1 px."
        )
    if not 0 <= overlap <= 1 / 2:
        raise ConfigError(
            f"Tiles cannot overlap by {overlap:g} of their side: choose 0 to 0.5."
        )
