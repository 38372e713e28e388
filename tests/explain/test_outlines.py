import numpy as np
import pytest

from napari_gimp.explain.outlines import Place, outlines
from napari_gimp.geometry import Grid

GRID = Grid((120, 160), (4.0, 4.0))
HERE = Place((0.5, 0.5))


def disc(y: float, x: float, radius: float) -> np.ndarray:
    rows, cols = np.mgrid[: GRID.shape[0], : GRID.shape[1]] + 0.5
    return np.hypot(rows - y, cols - x) < radius


def area_px(ring: list[list[float]]) -> float:
    x, y = np.array(ring).T
    return abs(float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]) / 2))


def test_a_disc_is_outlined_where_it_lies_in_pixels_of_the_slide() -> None:
    probability = disc(50, 70, 20).astype(np.float32)

    (feature,) = outlines(probability, GRID, 0.5, "tumour", HERE)

    (ring,) = feature["geometry"]["coordinates"]
    x, y = np.array(ring).T
    px_per_cell = 4.0 / 0.5
    assert x.min() == pytest.approx((70 - 20) * px_per_cell, abs=px_per_cell)
    assert x.max() == pytest.approx((70 + 20) * px_per_cell, abs=px_per_cell)
    assert y.mean() == pytest.approx(50 * px_per_cell, abs=px_per_cell)
    assert ring[0] == ring[-1]
    assert feature["properties"]["classification"] == {"name": "tumour"}


def test_the_area_is_that_of_the_cells_in_mm2() -> None:
    inside = disc(50, 70, 20)

    (feature,) = outlines(inside.astype(np.float32), GRID, 0.5, "tumour", HERE)

    expected = inside.sum() * 16e-6
    assert feature["properties"]["measurements"]["area mm2"] == pytest.approx(expected)


def test_a_hole_is_a_second_ring_of_the_same_region() -> None:
    probability = (disc(60, 80, 30) & ~disc(60, 80, 10)).astype(np.float32)

    (feature,) = outlines(probability, GRID, 0.5, "tumour", HERE)

    outer, hole = feature["geometry"]["coordinates"]
    assert area_px(outer) == pytest.approx(np.pi * 240**2, rel=0.05)
    assert area_px(hole) == pytest.approx(np.pi * 80**2, rel=0.1)


def test_regions_apart_are_features_apart_the_largest_first() -> None:
    probability = (disc(30, 30, 10) | disc(80, 110, 25)).astype(np.float32)

    large, small = outlines(probability, GRID, 0.5, "tumour", HERE)

    areas = [f["properties"]["measurements"]["area mm2"] for f in (large, small)]
    assert areas[0] > 5 * areas[1]


def test_regions_that_touch_at_a_corner_stay_closed_rings() -> None:
    probability = np.zeros(GRID.shape, np.float32)
    probability[20:40, 20:40] = probability[40:60, 40:60] = 1

    features = outlines(probability, GRID, 0.5, "tumour", HERE)

    rings = [ring for f in features for ring in f["geometry"]["coordinates"]]
    assert len(features) == len(rings) == 2
    assert all(ring[0] == ring[-1] for ring in rings)


def test_a_region_at_the_edge_of_the_slide_is_closed() -> None:
    probability = np.zeros(GRID.shape, np.float32)
    probability[:30, -25:] = 1

    (feature,) = outlines(probability, GRID, 0.5, "tumour", HERE)

    (ring,) = feature["geometry"]["coordinates"]
    assert ring[0] == ring[-1]
    assert area_px(ring) == pytest.approx(30 * 25 * 64, rel=0.05)


def test_a_cell_at_the_threshold_is_inside_and_specks_are_left_out() -> None:
    probability = np.zeros(GRID.shape, np.float32)
    probability[10:30, 10:30] = 0.5
    probability[60:62, 60:62] = 1

    (feature,) = outlines(probability, GRID, 0.5, "tumour", HERE)

    assert feature["properties"]["measurements"]["area mm2"] == pytest.approx(
        400 * 16e-6
    )


def test_positions_count_from_the_scanned_part() -> None:
    probability = disc(50, 70, 20).astype(np.float32)
    (whole,) = outlines(probability, GRID, 0.5, "tumour", HERE)
    (cropped,) = outlines(probability, GRID, 0.5, "tumour", Place((0.5, 0.5), (30, 10)))

    a, b = (np.array(f["geometry"]["coordinates"][0]) for f in (whole, cropped))
    np.testing.assert_allclose(a - b, [[10, 30]] * len(a), atol=0.011)


def test_nothing_above_the_threshold_is_no_feature() -> None:
    assert outlines(np.zeros(GRID.shape, np.float32), GRID, 0.5, "tumour", HERE) == []
