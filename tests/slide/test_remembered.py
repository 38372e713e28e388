from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from napari_gimp.slide.remembered import (
    MPP_FILE,
    REMEMBERED,
    keep_choices,
    read_choices,
    remember_mpp,
    remembered_mpp,
    with_memory,
)
from napari_gimp.slide.source import Resolution

SILENT = Resolution(None, "none", False)


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "config"
    monkeypatch.setenv("NAPARI_GIMP_CONFIG", str(folder))
    return folder


def test_an_answer_is_found_again_by_the_pixels_it_was_given_for() -> None:
    remember_mpp("abc", (0.5, 0.4))

    assert remembered_mpp("abc") == (0.5, 0.4)
    assert remembered_mpp("abc-srgb") == (0.5, 0.4)
    assert remembered_mpp("abd") is None


def test_the_last_answer_counts_and_others_are_kept() -> None:
    remember_mpp("abc", (0.5, 0.5))
    remember_mpp("xyz", (1.0, 1.0))
    remember_mpp("abc", (0.25, 0.25))

    assert remembered_mpp("abc") == (0.25, 0.25)
    assert remembered_mpp("xyz") == (1.0, 1.0)


def test_nothing_but_fingerprint_and_number_is_written(config: Path) -> None:
    remember_mpp("abc", (0.5, 0.5))

    assert json.loads((config / MPP_FILE).read_text()) == {"abc": [0.5, 0.5]}
    assert [path.name for path in config.iterdir()] == [MPP_FILE]


def test_an_earlier_answer_fills_in_for_a_silent_or_implausible_file() -> None:
    remember_mpp("abc", (0.5, 0.5))
    implausible = Resolution((352.0, 352.0), "TIFF resolution tags", False)

    for stated in (SILENT, implausible):
        assert with_memory(stated, "abc") == Resolution((0.5, 0.5), REMEMBERED, False)


def test_a_plausible_file_and_a_word_of_today_outdo_an_earlier_answer() -> None:
    remember_mpp("abc", (0.5, 0.5))
    plausible = Resolution((0.25, 0.25), "Aperio MPP", True)
    today = Resolution((1.0, 1.0), "user", False)

    assert with_memory(plausible, "abc") is plausible
    assert with_memory(today, "abc") is today


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"abc": 0.5}', '{"abc": ["a", 1]}', '{"abc": [0, -1]}']
)
def test_a_spoilt_file_is_no_answer_and_the_next_answer_mends_it(
    config: Path, text: str
) -> None:
    config.mkdir()
    (config / MPP_FILE).write_text(text)

    assert with_memory(SILENT, "abc") is SILENT

    remember_mpp("abc", (0.5, 0.5))

    assert remembered_mpp("abc") == (0.5, 0.5)


def test_a_folder_that_cannot_be_written_to_loses_the_answer_only(
    config: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config.write_text("a file where the folder should be")

    remember_mpp("abc", (0.5, 0.5))

    assert remembered_mpp("abc") is None
    assert "not remembered" in caplog.text


def test_who_reads_while_others_write_never_sees_half_a_file() -> None:
    keep_choices("viewer.json", {"overview": True})
    done = threading.Event()

    def write() -> None:
        for number in range(200):
            keep_choices("viewer.json", {"number": number})
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not done.is_set():
        assert read_choices("viewer.json")["overview"] is True
    writer.join()
    assert read_choices("viewer.json")["number"] == 199
