from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from psygnal import emit_queued

from napari_gimp.explain.inference import Event, MapReady
from napari_gimp.explain.maps import PatchMap
from napari_gimp.explain.result import Result
from napari_gimp.session import Session, guess_sample, looks_like_spots

Deliver = Callable[[Any], None]


def test_an_analysis_fills_the_session_and_ends(
    events: list[Event], deliver: Deliver
) -> None:
    session = Session(slide=Path("a.tif"), mpp=(0.5, 0.5))

    deliver(session.analyse(lambda: iter(events)))

    assert session.job is None
    assert session.result is not None
    assert list(session.maps) == ["attention", "contribution"]
    assert session.shown == "attention"
    assert session.attribution is session.result.genes
    assert session.error is None


def test_every_change_is_signalled_once(events: list[Event], deliver: Deliver) -> None:
    session = Session()
    heard: list[str] = []
    session.events.connect(lambda info: heard.append(info.signal.name))

    deliver(session.analyse(lambda: iter(events)))

    assert heard == [
        "job",
        *["progress"] * 2,
        "maps",
        "shown",
        "attribution",
        "maps",
        "result",
        "job",
    ]


def test_an_error_is_kept_and_the_maps_before_it_stay(
    planted: PatchMap, deliver: Deliver
) -> None:
    error = RuntimeError("out of memory")

    def steps() -> Iterator[Event]:
        yield MapReady(planted, final=False)
        raise error

    session = Session()
    deliver(session.analyse(steps))

    assert session.error is error
    assert session.job is None
    assert session.maps == {"attention": planted}


def test_answers_of_an_older_request_are_dropped(
    planted: PatchMap, deliver: Deliver
) -> None:
    asked_again = threading.Event()

    def late() -> Iterator[Event]:
        assert asked_again.wait(30)
        yield MapReady(planted, final=True)

    session = Session()
    old = session.analyse(late)
    new = session.analyse(lambda: iter(()))
    asked_again.set()
    deliver(old)
    deliver(new)

    assert session.maps == {}
    assert session.job is None


def test_choosing_another_slide_drops_what_the_running_job_still_says(
    planted: PatchMap,
) -> None:
    session = Session(mpp=(0.5, 0.5))
    job = session.analyse(lambda: iter([MapReady(planted, final=True)]))
    assert job.wait(30)
    session.forget_slide()
    emit_queued()

    assert session.maps == {}


def test_a_click_is_looked_up_by_the_grid(planted: PatchMap) -> None:
    session = Session(mpp=(0.5, 0.5), maps={"attention": planted})
    session.shown = "attention"

    patch = session.pick(3 * 64 + 1, 8 * 64 + 63)

    assert patch is not None
    assert (patch.row, patch.col) == (3, 8)
    assert session.patch is patch
    assert session.pick(0, 0) is None
    assert session.patch is None


def test_another_map_is_read_at_the_same_place(
    planted: PatchMap, result: Result
) -> None:
    session = Session(mpp=(0.5, 0.5), maps=result.maps)
    session.shown = "attention"
    session.pick(3.5 * 64, 8.5 * 64)

    session.shown = "contribution"

    assert session.patch is not None
    assert (session.patch.row, session.patch.col) == (3, 8)
    assert session.patch.value == pytest.approx(0.6)


def test_a_session_refuses_what_cannot_be(planted: PatchMap) -> None:
    session = Session(maps={"attention": planted})

    with pytest.raises(ValueError, match="shown must be one of"):
        session.shown = "contribution"
    with pytest.raises(ValueError, match="larger than 0 um/px"):
        session.mpp = (0.0, 0.5)


@pytest.mark.parametrize(
    ("slide", "samples", "expected"),
    [
        ("her2st-C2", ("C1", "C2", "C3"), "C2"),
        ("TCGA-02-0001-01Z", ("TCGA-02", "TCGA-02-0001"), "TCGA-02-0001"),
        ("patient_07", ("patient-06", "patient-07"), "patient-07"),
        ("scan", ("TCGA-02-0001", "TCGA-02-0003"), None),
        ("scan", (), None),
        ("A10", ("A1", "B2"), None),
        ("TCGA-02-0001-01Z", ("TCGA-02-0003",), None),
        ("A 1 (H&E)", ("a-1",), "a-1"),
        ("scan", ("", "-"), None),
    ],
)
def test_the_sample_is_guessed_by_the_name_of_the_slide(
    slide: str, samples: tuple[str, ...], expected: str | None
) -> None:
    assert guess_sample(slide, samples) == expected


def test_spots_are_told_from_patients_by_their_names() -> None:
    assert looks_like_spots(("10x13", "7x9"))
    assert not looks_like_spots(("P10x", "P11x"))
    assert not looks_like_spots(())
