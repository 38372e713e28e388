"""A slide that goes while it is open gives errors or marked tiles, never a crash."""

from __future__ import annotations

from pathlib import Path

import pytest

import formats
import mishaps
from formats import Format
from fuzz_pool import FuzzPool

SMALL = (200, 264)


@pytest.mark.slow
@pytest.mark.parametrize("form", formats.EVERY, ids=lambda form: form.name)
def test_a_slide_that_goes_is_told_of(
    processes: FuzzPool, form: Format, tmp_path: Path
):
    tasks = []
    for name in mishaps.ALL:
        folder = tmp_path / name
        folder.mkdir()
        slide = form.sample(folder, SMALL).path
        tasks.append((name, (mishaps.look_while, (name, slide))))
    outcomes = processes.run(tasks)
    failures = [
        f"{outcome.name}: {outcome.text}" for outcome in outcomes if not outcome.fine
    ]
    assert not failures, "\n".join(failures)
    lost = {outcome.name: outcome.text for outcome in outcomes}
    del lost["cut off"]  # what is left of it may open
    assert not any("opens again" in text for text in lost.values())


@pytest.mark.slow
@pytest.mark.parametrize("form", formats.EVERY, ids=lambda form: form.name)
def test_a_slide_may_be_closed_while_others_read_it(
    processes: FuzzPool, form: Format, tmp_path: Path
):
    slide = form.sample(tmp_path, SMALL).path
    task = (mishaps.close_while_others_read, (slide,))
    (outcome,) = processes.run([("closing", task)])
    assert outcome.fine, outcome.text
