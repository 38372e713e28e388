from __future__ import annotations

import pytest

from napari_gimp._qt.pace import advance
from napari_gimp._qt.wording import (
    count,
    duration,
    failure,
    ordinal,
    resolution,
    size_mm,
    size_px,
)
from napari_gimp.errors import GimpError


@pytest.mark.parametrize(
    ("number", "text"),
    [(1, "1st"), (2, "2nd"), (3, "3rd"), (11, "11th"), (97.4, "97th"), (100, "100th")],
)
def test_ordinals_read_like_english(number: float, text: str) -> None:
    assert ordinal(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (59.4, "59 s"), (130, "2 min 10 s"), (3900, "1 h 5 min")],
)
def test_durations_have_one_or_two_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_sizes_are_written_width_first() -> None:
    assert size_px((2967, 2220)) == "2,220 × 2,967 px"
    assert size_mm((6838.6, 6399.1)) == "6.40 × 6.84 mm"
    assert size_mm((123_456.0, 500.0)) == "0.500 × 123 mm"
    assert resolution((0.5, 0.5)) == "0.5 µm/px"
    assert resolution((0.5, 0.25)) == "0.25 × 0.5 µm/px (x × y)"


def test_rate_and_time_left_come_from_the_steps_seen() -> None:
    pace = advance(None, "patch features", 100, 1000, now_s=10.0)
    assert pace.text == "Patch features · 100 of 1,000"

    pace = advance(pace, "patch features", 300, 1000, now_s=14.0)

    assert pace.rate == 50
    assert pace.left_s == 14
    assert pace.text == "Patch features · 300 of 1,000 · 50/s · 14 s left"


def test_a_new_stage_starts_afresh_and_an_unknown_total_promises_nothing() -> None:
    pace = advance(None, "tissue", 0, 1, now_s=0.0)
    pace = advance(pace, "pictures", 0, 0, now_s=50.0)
    pace = advance(pace, "pictures", 5, 0, now_s=60.0)

    assert pace.left_s is None
    assert pace.text == "Pictures"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            GimpError("the file is no slide; give one"),
            "The file is no slide; give one.",
        ),
        (GimpError("Give a slide."), "Give a slide."),
        (
            KeyError("x"),
            "It stopped at an unexpected error: KeyError: 'x'\nKept.",
        ),
    ],
)
def test_a_failure_is_a_sentence_and_says_what_was_kept(
    error: Exception, said: str
) -> None:
    assert failure(error, "Kept.").startswith(said)


@pytest.mark.parametrize(
    ("number", "text"), [(1, "1 patch"), (0, "0 patches"), (1544, "1,544 patches")]
)
def test_counts_have_the_right_ending(number: int, text: str) -> None:
    assert count(number, "patch", "es") == text
