"""Small slides with known pixels."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from planted_slides import (
    BRIGHT,
    GROUND,
    MPP,
    PATCH_PX,
    Planted,
    averaged,
    plant,
    smooth_noise,
)

pytest.register_assert_rewrite("reader_contract", "slide_file")
from formats import Format  # noqa: E402 -- after its assertions are made to speak
from fuzz_pool import FuzzPool  # noqa: E402
from slide_file import SlideFile  # noqa: E402


def write_pyramid(path: Path, levels: list[np.ndarray], **kwargs: Any) -> Path:
    """Write a generic tiled pyramid at MPP um/px."""
    kwargs = {"tile": (128, 128), "photometric": "rgb", **kwargs}
    with tifffile.TiffWriter(path) as tiff:
        for number, level in enumerate(levels):
            tiff.write(
                level,
                subfiletype=int(number > 0),
                resolution=(1e4 / MPP, 1e4 / MPP),
                resolutionunit="CENTIMETER",
                metadata=None,
                **kwargs,
            )
    return path


@pytest.fixture(scope="session", params=["2", "4", "5/2"], ids=lambda f: f"factor {f}")
def planted(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Planted:
    """A pyramid made with one factor; its sides are no multiple of anything."""
    factor = Fraction(request.param)
    image, centers = plant((2503, 1907))
    levels = [image]
    while max(levels[-1].shape) > 200:
        grey = averaged(image[:, :, :1], factor ** len(levels))
        levels.append(grey.repeat(3, axis=2))
    path = tmp_path_factory.mktemp("planted") / "planted.tif"
    write_pyramid(path, levels, compression="deflate")
    return Planted(path, factor, levels, centers)


@pytest.fixture(scope="session")
def texture() -> np.ndarray:
    """Smooth coloured noise (700, 900, 3) that JPEG keeps well."""
    return smooth_noise((700, 900), 3)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write levels as a pyramid into this test's folder; see `write_pyramid`."""

    def write_here(levels: list[np.ndarray], name: str = "a.tif", **kw: Any) -> Path:
        return write_pyramid(tmp_path / name, levels, **kw)

    return write_here


@pytest.fixture
def find_center() -> Callable[..., tuple[float, float]]:
    """Find the bright square near an expected place, by its weighted centre."""

    def find(
        pixels: np.ndarray, cell_um: tuple[float, float], near_um: tuple[float, float]
    ) -> tuple[float, float]:
        """Return (y, x) um of the square; pixel (0, 0) begins at 0 um."""
        reach = PATCH_PX * MPP * 0.5 + 5  # um; the rim is 11.5 um away
        centers, near = [], []
        for side, cell, middle in zip(pixels.shape, cell_um, near_um, strict=False):
            along = (np.arange(side) + 0.5) * cell
            near.append(np.flatnonzero(np.abs(along - middle) <= reach))
            centers.append(along[near[-1]])
        grey = pixels[..., 0][np.ix_(*near)].astype(float)
        weight = (grey - GROUND).clip(0, BRIGHT - GROUND)
        total = weight.sum()
        assert total > 0, "no bright square near the expected place"
        y = (weight.sum(axis=1) * centers[0]).sum() / total
        x = (weight.sum(axis=0) * centers[1]).sum() / total
        return float(y), float(x)

    return find


@pytest.fixture(scope="module")
def slide_file(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> SlideFile:
    """Write a small slide of the format that the test is parametrised with."""
    form: Format = request.param
    return form.sample(tmp_path_factory.mktemp(form.name))


@pytest.fixture(scope="session")
def another_process() -> Iterator[Executor]:
    """Offer a process that knows nothing of this one, started anew."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        pool.submit(int).result()  # starts its threads before a test counts them
        yield pool


@pytest.fixture(scope="module")
def processes() -> Iterator[FuzzPool]:
    """Two processes that know nothing of this one."""
    environment = pytest.MonkeyPatch()
    environment.setenv("MALLOC_ARENA_MAX", "2")  # address space is what is limited
    environment.setenv("OMP_NUM_THREADS", "1")
    pool = FuzzPool()
    yield pool
    pool.close()
    environment.undo()
