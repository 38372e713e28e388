"""A network over a whole slide: nothing lost, nothing shifted, little in memory."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from torch import Tensor

from napari_gimp.errors import GimpError
from napari_gimp.explain.tiles import fill, plan_over
from napari_gimp.geometry import Grid, Rect
from napari_gimp.patches.tissue import Tissue
from napari_gimp.slide.ome_zarr_writer import CHUNK_PX, MapWriter
from napari_gimp.slide.source import SlideSource, open_slide

MPP, MAP_MPP, TILE = 0.5, 1.0, 256
SIDE_PX = (2600, 3700)
PLANTED = Rect(403.0, 611.5, 740.5, 1300.0)  # um


@pytest.fixture
def source(tmp_path: Path) -> Iterator[SlideSource]:
    """A pink slide with one dark rectangle."""
    pixels = np.full((*SIDE_PX, 3), 220, np.uint8)
    y0, y1, x0, x1 = (
        round(um / MPP) for um in (PLANTED.y0, PLANTED.y1, PLANTED.x0, PLANTED.x1)
    )
    pixels[y0:y1, x0:x1] = 40
    per_cm = {"resolution": (1e4 / MPP,) * 2, "resolutionunit": "CENTIMETER"}
    path = tmp_path / "slide.tif"
    tifffile.imwrite(path, pixels, photometric="rgb", tile=(256, 256), **per_cm)
    with open_slide(path) as opened:
        yield opened


def darkness(images: Tensor) -> Tensor:
    """A network of one pixel's reach: (B,3,h,w) to (B,1,h,w)."""
    return 1 - images.mean(1, keepdim=True)


def tissue(source: SlideSource, rect: Rect | None = None) -> Tissue:
    """Tissue everywhere, or in a rectangle only, in cells of 8 um."""
    rows, cols = (-(-int(side * MPP) // 8) for side in SIDE_PX)
    mask = np.ones((rows, cols), bool)
    if rect is not None:
        mask[:] = False
        y0, x0, y1, x1 = (int(um / 8) for um in (rect.y0, rect.x0, rect.y1, rect.x1))
        mask[y0:y1, x0:x1] = True
    return Tissue(mask, Grid((rows, cols), (8.0, 8.0)))


def run(source: SlideSource, where: Tissue, path: Path) -> tuple[np.ndarray, Grid]:
    """Fill a map with the darkness; return its finest level."""
    plan, grid = plan_over(source, where, TILE, MAP_MPP)
    writer = MapWriter(path, grid, ("dark",), source.mpp)
    for _, bands in fill(source, plan, darkness, MAP_MPP, batch_size=3):
        for band in bands:
            writer.write(band.top, band.values.numpy())
    with open_slide(path) as opened:
        return opened.read_region(0, 0, 0, *grid.shape)[..., 0], grid


def test_a_planted_rectangle_is_found_within_one_pixel(
    source: SlideSource, tmp_path: Path
) -> None:
    values, grid = run(source, tissue(source), tmp_path / "map.zarr")

    rows, cols = (np.flatnonzero((values > 0.5).any(axis)) for axis in (1, 0))
    found = Rect(rows[0], cols[0], rows[-1] + 1, cols[-1] + 1)
    assert grid.cell_um == (MAP_MPP, MAP_MPP)
    for side in ("y0", "x0", "y1", "x1"):
        assert abs(getattr(found, side) - getattr(PLANTED, side)) <= MAP_MPP


def test_blending_changes_nothing_where_tiles_agree(
    source: SlideSource, tmp_path: Path
) -> None:
    from napari_gimp.patches.brightfield import read_rgb

    values, grid = run(source, tissue(source), tmp_path / "map.zarr")

    whole = read_rgb(source, 0, 0, grid.shape, MAP_MPP).astype(np.float32) / 255
    np.testing.assert_allclose(values, 1 - whole.mean(2), atol=1e-5)


def test_only_tiles_over_tissue_are_read(source: SlideSource, tmp_path: Path) -> None:
    where = tissue(source, Rect(600, 600, 680, 704))

    plan, _ = plan_over(source, where, TILE, MAP_MPP)
    values, _ = run(source, where, tmp_path / "map.zarr")

    assert 0 < len(plan.tiles) <= 4
    assert values[600:680, 600:704].all(), "the slide is nowhere white"
    assert not values[: 600 - TILE - 16].any()
    assert not values[:, : 600 - TILE - 16].any()


def test_every_corner_of_tissue_is_covered(source: SlideSource) -> None:
    for rect in (Rect(0, 0, 16, 16), Rect(1284, 1832, 1304, 1856)):
        plan, grid = plan_over(source, tissue(source, rect), TILE, MAP_MPP)
        covered = np.zeros(grid.shape, bool)
        for tile in plan.tiles:
            covered[tile.rows, tile.columns] = True
        inside = covered[int(rect.y0) : int(rect.y1), int(rect.x0) : int(rect.x1)]
        assert inside.size
        assert inside.all()


def test_rows_leave_as_whole_chunks_while_the_slide_is_read(
    source: SlideSource,
) -> None:
    plan, grid = plan_over(source, tissue(source), TILE, MAP_MPP)

    steps = [
        (done, [(band.top, band.values.shape[1]) for band in bands])
        for done, bands in fill(source, plan, darkness, MAP_MPP, batch_size=4)
    ]

    bands = [band for _, some in steps for band in some]
    first = next(done for done, some in steps if some)
    assert first < len(plan.tiles) / 2, "the first rows wait for the end"
    assert sum(count for _, count in bands) == grid.shape[0]
    assert all(top % CHUNK_PX == 0 for top, _ in bands)
    assert max(count for _, count in bands) <= CHUNK_PX + TILE
    assert steps[-1][0] == len(plan.tiles)


def test_an_early_end_leaves_no_thread(source: SlideSource) -> None:
    plan, _ = plan_over(source, tissue(source), TILE, MAP_MPP)
    with closing(fill(source, plan, darkness, MAP_MPP)) as steps:
        next(steps)


def test_short_memory_is_met_with_smaller_batches(source: SlideSource) -> None:
    plan, _ = plan_over(source, tissue(source), TILE, MAP_MPP)
    sizes = []

    def hungry(images: Tensor) -> Tensor:
        if len(images) > 2:
            raise torch.OutOfMemoryError("full")
        sizes.append(len(images))
        return darkness(images)

    for _ in fill(source, plan, hungry, MAP_MPP, batch_size=8):
        pass

    assert sum(sizes) == len(plan.tiles)
    assert max(sizes) == 2


def test_a_device_too_small_for_one_tile_is_said(source: SlideSource) -> None:
    def full(images: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("full")

    plan, _ = plan_over(source, tissue(source), TILE, MAP_MPP)
    with pytest.raises(GimpError, match="a single tile of 256 px"):
        list(fill(source, plan, full, MAP_MPP))
