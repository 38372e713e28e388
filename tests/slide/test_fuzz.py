"""A damaged file gives clean errors or marked tiles: no crash, hang or surprise."""

from __future__ import annotations

from pathlib import Path

import pytest

import formats
import fuzz_pool
from formats import Format
from fuzz_pool import FuzzPool, try_damaged
from mutations import mutations

CASES = 24
SMALL = (200, 264)


def told(failures: list[str]) -> str:
    return f"{len(failures)} cases failed:\n" + "\n".join(failures)


@pytest.mark.slow
@pytest.mark.parametrize("form", formats.EVERY, ids=lambda form: form.name)
def test_damaged_files_are_refused_or_marked(
    processes: FuzzPool, form: Format, tmp_path: Path
):
    sound = form.sample(tmp_path, SMALL).path
    several = sum(path.is_file() for path in tmp_path.rglob("*")) > 1
    cases = mutations(form.name, CASES, several_files=several)
    outcomes = processes.run(
        (case.name, (try_damaged, (case, sound))) for case in cases
    )
    failures = [f"{o.name}: {o.text}" for o in outcomes if not o.fine]
    assert not failures, told(failures)


@pytest.mark.slow
def test_a_sound_file_counts_as_fine(processes: FuzzPool, tmp_path: Path):
    from slide_user import use

    sound = formats.TIFFS[0].sample(tmp_path, SMALL).path
    (outcome,) = processes.run([("sound", (use, (sound,)))])
    assert outcome.fine
    assert outcome.text == "read by tifffile, 0 tiles damaged, 0 refusals"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mishap", "told"),
    [
        (fuzz_pool.crash, "crashed: exit -6"),
        (fuzz_pool.spin, "hangs: "),
        (fuzz_pool.hoard, "MemoryError"),
    ],
)
def test_the_watch_sees_crashes_hangs_and_greed(mishap, told: str):
    pool = FuzzPool(1, cpu_s=0.5)
    first, second = pool.run([("bad", (mishap, ())), ("good", (str, ("fine",)))])
    pool.close()
    assert not first.fine
    assert told in first.text
    assert (second.name, second.text) == ("good", "fine")
