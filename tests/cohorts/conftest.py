"""What is needed to encode slides."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from napari_gimp.cohorts.extraction import Recipe, loaded_encoder


@pytest.fixture
def make_recipe(tmp_path: Path) -> Callable[..., Recipe]:
    """A factory of recipes of four patches a batch: `make_recipe("store")`."""
    fingerprint = loaded_encoder("default").fingerprint

    def make(store: str = "store", *, batch_size: int | None = 4) -> Recipe:
        where = tmp_path / store
        return Recipe("default", fingerprint, where, "cpu", batch_size=batch_size)

    return make
