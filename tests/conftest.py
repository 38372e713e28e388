"""Fixtures shared by all rooms."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"
POOLS = (
    "gimp-decode",
    "gimp-model",
    "gimp-read",
    "ThreadPoolExecutor",
    "asyncio_",
    "zarr_io",
    "Dask",
)
_CONFIGS = itertools.count()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real slides and tables beside the checkout; skips where they are absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"the shared data folder is not at {SHARED_DATA}")
    return SHARED_DATA


@pytest.fixture(autouse=True)
def _nothing_is_remembered(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Let every test begin without the user's earlier answers and choices."""
    folder = tmp_path_factory.getbasetemp() / f"config-{next(_CONFIGS)}"
    monkeypatch.setenv("NAPARI_GIMP_CONFIG", str(folder))


@pytest.fixture(autouse=True)
def _no_thread_is_left_behind() -> Iterator[None]:
    """Fail a test that leaves a non-daemon thread running (pools are shared)."""
    before = set(threading.enumerate())
    yield
    left = [
        t
        for t in set(threading.enumerate()) - before
        if not t.daemon and t.is_alive() and not t.name.startswith(POOLS)
    ]
    assert not left, f"threads left behind: {[t.name for t in left]}"
