"""Opening and closing again and again leaves no handle and no thread behind."""

from __future__ import annotations

import gc
import threading
from pathlib import Path

import psutil
import pytest

import formats
from formats import Format
from slide_user import use

WARM, CYCLES = 3, 20
SMALL = (200, 264)


def held() -> tuple[int, int]:
    """Return how many handles and threads this process has."""
    gc.collect()
    return psutil.Process().num_fds(), threading.active_count()


@pytest.mark.slow
@pytest.mark.parametrize("form", formats.EVERY, ids=lambda form: form.name)
def test_cycles_of_open_and_close_leave_nothing_behind(form: Format, tmp_path: Path):
    path = form.sample(tmp_path, SMALL).path
    for _ in range(WARM):
        use(path)
    before = held()
    for _ in range(CYCLES):
        use(path)
    assert held() == before
