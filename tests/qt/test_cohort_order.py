"""What a cohort's order means: the command, the checks, and how far it is. No Qt."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import Any

import pytest

from napari_gimp._qt.cohort_order import Listed, Order, check
from napari_gimp._qt.cohort_pace import CohortPace
from napari_gimp.cohorts.states import SlideState, State
from napari_gimp.commands import features as command
from napari_gimp.errors import CohortError
from napari_gimp.patches.plan import PatchPlan
from small_slides import write_slide


def parsed(text: str) -> Any:
    """What the command line understands of a command."""
    parser = argparse.ArgumentParser()
    command.add_commands(parser.add_subparsers())
    words = shlex.split(text)
    assert words[0] == "napari-gimp"
    return parser.parse_args(words[1:])


def test_the_copied_command_asks_for_the_same_features(tmp_path: Path) -> None:
    inside, ink = tmp_path / "tumour areas", tmp_path / "ink.geojson"
    inside.mkdir()
    ink.write_text('{"type": "FeatureCollection", "features": []}')
    labels = {"include_labels": ("Tumor", "In situ"), "exclude_labels": ("Ignore*",)}
    plan = PatchPlan(64.0, 0.25, include=(inside,), exclude=(ink,), **labels)
    order = Order(tmp_path / "my slides.csv", "default", tmp_path / "store", plan, True)

    arguments = parsed(order.command)
    recipe = command._recipe(arguments)

    assert arguments.slides == [tmp_path / "my slides.csv"]
    assert recipe == order.recipe(recipe.fingerprint, recipe.device)
    assert recipe.plan == plan


def test_a_cluster_is_part_of_the_command(tmp_path: Path) -> None:
    order = Order(tmp_path, "uni", tmp_path / "s", scheduler="tcp://host:8786")

    assert parsed(order.command).scheduler == "tcp://host:8786"
    assert parsed(order.command).encoder == "uni"


def test_checks_name_the_slides_first_and_then_what_is_wrong_with_each(
    tmp_path: Path,
) -> None:
    write_slide(tmp_path / "a.tif", seed=1)
    (tmp_path / "b.svs").write_text("no slide")

    listed, *states = check(Order(tmp_path, "default", tmp_path / "store"))

    assert isinstance(listed, Listed)
    assert [entry.slide.name for entry in listed.entries] == ["a.tif", "b.svs"]
    assert [s.state for s in states] == [State.QUEUED, State.FAILED]
    assert "b.svs" in states[1].text
    assert not (tmp_path / "store").exists()


def test_one_slide_of_two_patients_is_refused_before_anything_runs(
    tmp_path: Path,
) -> None:
    write_slide(tmp_path / "a.tif", seed=1)
    (tmp_path / "b.tif").write_bytes((tmp_path / "a.tif").read_bytes())
    (tmp_path / "m.csv").write_text("patient,slide\nP1,a.tif\nP2,b.tif\n")

    with pytest.raises(CohortError, match=r"a.tif of P1 = b.tif of P2"):
        list(check(Order(tmp_path / "m.csv", "default", tmp_path / "store")))


def running(number: int, done: int, total: int = 100) -> SlideState:
    return SlideState(number, State.RUNNING, done, total)


def test_the_time_left_counts_slides_that_nobody_has_opened_yet() -> None:
    pace = CohortPace(3)
    pace.hear(running(0, 20), 10.0)
    pace.hear(running(0, 60), 14.0)

    assert pace.rate == pytest.approx(10)
    assert pace.expected == 300
    assert pace.left_s == pytest.approx(24)
    assert pace.text == "0 of 3 slides · 60 patches · 10/s · 24 s left"


def test_features_that_were_there_do_not_count_as_speed() -> None:
    pace = CohortPace(2)
    pace.hear(SlideState(0, State.STORED, 100, 100), 0.0)
    pace.hear(running(1, 90), 5.0)  # a run that was stopped had made 90
    pace.hear(running(1, 96), 8.0)

    assert pace.rate == pytest.approx(2)
    assert pace.left_s == pytest.approx(2)


def test_no_time_is_promised_before_there_is_a_rate() -> None:
    pace = CohortPace(2)
    pace.hear(running(0, 0), 0.0)
    pace.hear(running(0, 10), 0.5)

    assert pace.left_s is None
    assert pace.text == "0 of 2 slides · 10 patches"


def test_a_slide_that_failed_is_not_waited_for() -> None:
    pace = CohortPace(2)
    pace.hear(SlideState(1, State.FAILED, text="no slide"), 0.0)
    pace.hear(running(0, 10), 1.0)
    pace.hear(SlideState(0, State.DONE, 100, 100), 11.0)

    assert pace.expected == 100
    assert pace.left_s is None
    assert pace.tally == "1 done, 1 failed"
