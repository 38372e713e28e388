from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from napari_gimp.slide.averages import area_average

KINDS = {np.uint8: 255, np.uint16: 65535, np.int16: 300, np.float32: 1}


def pixels_of(kind: type, height: int, width: int) -> NDArray[np.generic]:
    rng = np.random.default_rng(0)
    return (rng.random((height, width, 3)) * KINDS[kind]).astype(kind)


def plain(pixels: NDArray[np.generic], edges: list[NDArray[np.float64]]) -> NDArray:
    """The plain reference: a matrix of overlaps per axis, in double precision."""
    overlaps = []
    for axis, edge in enumerate(edges):
        cell = np.arange(pixels.shape[axis])
        shared = np.minimum(edge[1:, None], cell + 1) - np.maximum(
            edge[:-1, None], cell
        )
        overlaps.append(shared.clip(0) / np.diff(edge)[:, None])
    return np.einsum("ih,hwc,jw->ijc", overlaps[0], pixels.astype(float), overlaps[1])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("step", [2, 3, 6, 40])
def test_whole_steps_give_exact_means(kind: type, step: int) -> None:
    pixels = pixels_of(kind, 120, 240)
    edges = [np.arange(0, n + 1.0, step) for n in (120, 240)]

    mean = area_average(pixels, *edges)

    expected = plain(pixels, edges)
    if np.issubdtype(kind, np.integer):
        expected = np.rint(np.round(expected, 6))
    assert mean.dtype == kind
    np.testing.assert_allclose(mean, expected, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(sorted(KINDS, key=str)),
    st.floats(0.4, 9),
    st.floats(0, 3),
    st.floats(0.4, 9),
)
def test_any_step_gives_the_mean_under_each_pixel(
    kind: type, step_y: float, start: float, step_x: float
) -> None:
    pixels = pixels_of(kind, 40, 50)
    edges = [
        np.round((start + step * np.arange(int((n - 4) / step))) * 1024) / 1024
        for n, step in ((40, step_y), (50, step_x))
    ]

    mean = area_average(pixels, *edges)

    half = 0.5 if np.issubdtype(kind, np.integer) else 0
    expected = plain(pixels, edges)
    np.testing.assert_allclose(mean, expected, rtol=1e-5, atol=half + 1e-3)
