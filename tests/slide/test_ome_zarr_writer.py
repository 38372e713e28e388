"""A map written band by band: readable as a slide, in its place, level by level."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_gimp.errors import SlideError
from napari_gimp.geometry import Grid
from napari_gimp.slide.averages import block_means
from napari_gimp.slide.ome_zarr_writer import CHUNK_PX, MapWriter
from napari_gimp.slide.source import open_slide

SHAPE = (2 * CHUNK_PX + 77, 3 * CHUNK_PX + 5)
GRID = Grid(SHAPE, (1.5, 1.5))


def values(channels: int = 1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((channels, *SHAPE), dtype=np.float32)


def write(path: Path, whole: np.ndarray, rows: int = CHUNK_PX) -> MapWriter:
    names = tuple(f"class {k}" for k in range(len(whole)))
    writer = MapWriter(path, GRID, names, (0.5, 0.5))
    for top in range(0, SHAPE[0], rows):
        writer.write(top, whole[:, top : top + rows])
    return writer


@pytest.mark.parametrize("rows", [CHUNK_PX, 2 * CHUNK_PX])
def test_the_map_comes_back_whole_through_the_reader_of_slides(
    tmp_path: Path, rows: int
) -> None:
    whole = values()
    write(tmp_path / "map.zarr", whole, rows)

    with open_slide(tmp_path / "map.zarr") as source:
        read = source.read_region(0, 0, 0, *SHAPE)

    assert np.array_equal(read[..., 0], whole[0])


def test_coarser_levels_are_means_of_the_finest(tmp_path: Path) -> None:
    whole = values(channels=2)
    write(tmp_path / "map.zarr", whole)

    with open_slide(tmp_path / "map.zarr") as source:
        shapes = [level.shape for level in source.levels]
        expected = whole.transpose(1, 2, 0)
        for number, shape in enumerate(shapes):
            read = source.read_region(number, 0, 0, *shape)
            np.testing.assert_allclose(read, expected, atol=1e-6)
            expected = block_means(expected, 2)

    assert shapes[0] == SHAPE
    assert max(shapes[-1]) <= 1024
    assert len(shapes) > 1


def test_the_map_has_its_um_per_pixel_and_the_names_of_its_channels(
    tmp_path: Path,
) -> None:
    write(tmp_path / "map.zarr", values(channels=2))

    with open_slide(tmp_path / "map.zarr") as source:
        assert source.mpp == (1.5, 1.5)
        assert source.resolution.verified
        assert source.channel_names == ("class 0", "class 1")


def test_the_first_pixel_lies_where_the_slides_first_pixels_are(tmp_path: Path) -> None:
    import zarr

    write(tmp_path / "map.zarr", values())
    (image,) = zarr.open_group(tmp_path / "map.zarr").attrs["ome"]["multiscales"]

    for number, level in enumerate(image["datasets"]):
        scale, shift = (list(m.values())[1] for m in level["coordinateTransformations"])
        cell = 1.5 * 2**number
        assert scale == [1.0, cell, cell]
        assert shift == [0.0, (cell - 0.5) / 2, (cell - 0.5) / 2]


def test_a_map_under_way_can_be_opened_and_is_empty_where_nothing_came(
    tmp_path: Path,
) -> None:
    whole = values()
    writer = MapWriter(tmp_path / "map.zarr", GRID, ("tumour",), (0.5, 0.5))
    writer.write(0, whole[:, :CHUNK_PX])

    with open_slide(tmp_path / "map.zarr") as source:
        read = source.read_region(0, 0, 0, *SHAPE)[..., 0]

    assert np.array_equal(read[:CHUNK_PX], whole[0, :CHUNK_PX])
    assert not read[CHUNK_PX:].any()


def test_rows_without_a_value_take_no_space_on_disk(tmp_path: Path) -> None:
    write(tmp_path / "map.zarr", np.zeros((1, *SHAPE), np.float32))

    files = [p for p in (tmp_path / "map.zarr").rglob("*") if p.is_file()]

    assert {p.name for p in files} == {"zarr.json"}


@pytest.mark.parametrize(
    ("top", "shape"), [(CHUNK_PX, (1, CHUNK_PX, SHAPE[1])), (0, (2, 4, SHAPE[1]))]
)
def test_rows_that_do_not_follow_are_refused(
    tmp_path: Path, top: int, shape: tuple[int, int, int]
) -> None:
    writer = MapWriter(tmp_path / "map.zarr", GRID, ("tumour",), (0.5, 0.5))

    with pytest.raises(SlideError, match="goes on at row 0"):
        writer.write(top, np.zeros(shape, np.float32))


def test_a_map_that_is_there_is_not_written_over(tmp_path: Path) -> None:
    write(tmp_path / "map.zarr", values())
    with pytest.raises(FileExistsError):
        MapWriter(tmp_path / "map.zarr", GRID, ("tumour",), (0.5, 0.5))
