"""Random fields: functions of the place alone."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_gimp.synthetic.noise import Noise, periodic, uniform
from napari_gimp.synthetic.shapes import ellipse_of, ellipses, nearest_two

PLACES = st.integers(-(10**6), 10**6)


@settings(max_examples=30, deadline=None)
@given(row=PLACES, col=PLACES, seed=st.integers(0, 2**62))
def test_a_place_has_the_same_number_alone_and_in_a_crowd(
    row: int, col: int, seed: int
) -> None:
    rows, cols = np.meshgrid(
        np.arange(row - 2, row + 3), np.arange(col - 2, col + 3), indexing="ij"
    )
    crowd = uniform(seed, "a", rows, cols)
    alone = uniform(seed, "a", np.array([row]), np.array([col]))
    assert alone[0] == crowd[2, 2]
    assert len(np.unique(crowd)) > 20


def test_numbers_of_places_are_uniform_and_unrelated() -> None:
    rows, cols = np.meshgrid(np.arange(-150, 150), np.arange(300), indexing="ij")
    flat = uniform(3, "a", rows, cols)
    assert 0 <= flat.min() < 0.001
    assert 0.999 < flat.max() < 1
    np.testing.assert_allclose(np.histogram(flat, 10, (0, 1))[0] / flat.size, 0.1, 0.05)
    for other in (flat[1:], uniform(3, "b", rows, cols)[1:]):
        assert abs(np.corrcoef(flat[:-1].ravel(), other.ravel())[0, 1]) < 0.02


def test_noise_does_not_depend_on_what_else_is_asked() -> None:
    y, x = np.meshgrid(np.arange(64.0), np.arange(64.0) - 300, indexing="ij")
    y, x = y.astype(np.float32), x.astype(np.float32)
    whole = Noise(5)("bed", 40, y, x)
    part = Noise(5)("bed", 40, y[10:20, 5:9], x[10:20, 5:9])
    np.testing.assert_array_equal(whole[10:20, 5:9], part)


def test_noise_has_unit_spread_and_the_wavelength_asked_for() -> None:
    y, x = np.meshgrid(np.arange(0, 1600.0, 4), np.arange(0, 1600.0, 4), indexing="ij")
    field = Noise(2)("a", 100, y.astype(np.float32), x.astype(np.float32))
    other = Noise(2)("b", 100, y.astype(np.float32), x.astype(np.float32))
    assert abs(field.mean()) < 0.3
    assert 0.8 < field.std() < 1.2
    near = np.corrcoef(field[:, :-2].ravel(), field[:, 2:].ravel())[0, 1]
    far = np.corrcoef(field[:, :-50].ravel(), field[:, 50:].ravel())[0, 1]
    assert near > 0.95
    assert abs(far) < 0.3
    assert abs(np.corrcoef(field.ravel(), other.ravel())[0, 1]) < 0.3


def test_periodic_noise_continues_over_its_own_border() -> None:
    field = periodic(np.random.default_rng(0), (64, 64), (6, 6))
    inner = np.abs(np.diff(field, axis=0)).max()
    assert np.abs(field[0] - field[-1]).max() < 1.5 * inner


def test_an_ellipse_is_positive_at_its_centre_and_negative_far_away() -> None:
    row, col = np.array([4]), np.array([-7])
    cy, cx, radius, *_ = ellipse_of(1, "gland", 70.0, 1.0, row, col)
    here, size = ellipses(1, "gland", 70.0, 1.0, cy, cx)
    assert here[0] == radius[0] == size[0]
    absent, _ = ellipses(1, "gland", 70.0, 0.0, cy, cx)
    assert absent[0] < -900


def test_the_nearest_point_is_nearer_than_the_next() -> None:
    rng = np.random.default_rng(0)
    y, x = rng.uniform(-500, 500, (2, 400)).astype(np.float32)
    near, next_ = nearest_two(1, "fat", 50.0, y, x)
    assert (near <= next_).all()
    assert near.max() < 100
