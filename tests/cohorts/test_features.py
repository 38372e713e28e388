"""Features of many slides: states, sharing, retrying, resuming, leaks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from napari_gimp.cohorts.extraction import Recipe
from napari_gimp.cohorts.features import extract_manifest
from napari_gimp.cohorts.manifest import Entry
from napari_gimp.cohorts.states import SlideState, State
from napari_gimp.errors import CohortError
from small_slides import entries_of, write_slide

MakeRecipe = Callable[..., Recipe]


@pytest.fixture
def entries(tmp_path: Path) -> list[Entry]:
    """Two slides of 16 patches."""
    return [
        Entry(write_slide(tmp_path / f"s{k}.tif", seed=k), f"P{k}") for k in range(2)
    ]


def ends(states: Iterable[SlideState]) -> list[State]:
    last = {state.number: state.state for state in states}
    return [last[number] for number in sorted(last)]


def test_a_slide_is_encoded_once_and_found_the_second_time(
    entries: list[Entry], make_recipe: MakeRecipe
) -> None:
    first = list(extract_manifest(entries, make_recipe()))
    assert [s.done for s in first if s.number == 0] == [0, 0, 4, 8, 12, 16, 16]
    assert ends(first) == [State.DONE, State.DONE]
    assert ends(extract_manifest(entries, make_recipe())) == [State.STORED] * 2


def test_a_bad_slide_is_told_first_and_stops_no_other(
    entries: list[Entry], make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    (tmp_path / "bad.svs").write_text("no slide")
    bad = [Entry(tmp_path / "absent.svs", "P8"), Entry(tmp_path / "bad.svs", "P9")]
    states = list(extract_manifest([*entries, *bad], make_recipe()))
    assert [s.state for s in states[:4]] == [State.QUEUED] * 4
    assert [s.number for s in states[4:6]] == [2, 3]
    assert "absent.svs" in states[4].text
    assert ends(states) == [State.DONE] * 2 + [State.FAILED] * 2


def test_a_slide_that_fails_is_tried_again_after_the_others(
    entries: list[Entry], make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    true_open = Recipe.open

    def flaky(self: Recipe, entry: Entry) -> object:
        opened.append(entry.patient)
        if (entry.patient, opened.count("P0")) == ("P0", 2):  # once inspected
            raise OSError("the share is gone")
        return true_open(self, entry)

    monkeypatch.setattr(Recipe, "open", flaky)
    states = list(extract_manifest(entries, make_recipe()))
    (failure,) = [s for s in states if s.state is State.FAILED]
    assert failure.text == "OSError: the share is gone"
    assert [s.number for s in states if s.ended] == [0, 1, 0]
    assert ends(states) == [State.DONE, State.DONE]


def test_without_retries_a_failure_is_the_end(
    entries: list[Entry], make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("out of luck")

    monkeypatch.setattr("napari_gimp.patches.plan.find_tissue", broken)
    states = list(extract_manifest(entries, make_recipe(), retries=0))
    assert [s.text for s in states if s.ended] == ["RuntimeError: out of luck"] * 2


def test_a_cancelled_run_goes_on_after_its_last_batch(
    entries: list[Entry], make_recipe: MakeRecipe
) -> None:
    run = extract_manifest(entries[:1], make_recipe())
    while next(run).done < 8:
        pass
    run.close()
    again = list(extract_manifest(entries[:1], make_recipe()))
    assert [s.done for s in again] == [0, 0, 8, 12, 16, 16]

    list(extract_manifest(entries[:1], make_recipe("whole")))
    store, whole = make_recipe().store, make_recipe("whole").store
    assert entries_of(store) == entries_of(whole)


def test_two_runs_on_one_store_share_the_work(
    entries: list[Entry], make_recipe: MakeRecipe
) -> None:
    first = extract_manifest(entries, make_recipe())
    while next(first).done < 4:
        pass
    second = extract_manifest(entries, make_recipe())
    seen = [next(second)]
    while not seen[-1].ended:
        seen.append(next(second))
    busy = next(s for s in seen if s.state is State.BUSY)
    assert (busy.number, seen[-1].number) == (0, 1)

    assert ends(first) == [State.DONE, State.STORED]
    assert ends([*seen, *second]) == [State.STORED, State.DONE]


def test_a_run_takes_over_what_another_gave_up(
    entries: list[Entry], make_recipe: MakeRecipe
) -> None:
    first = extract_manifest(entries[:1], make_recipe())
    while next(first).done < 4:
        pass
    second = extract_manifest(entries[:1], make_recipe())
    while next(second).state is not State.BUSY:
        pass
    first.close()
    assert ends(second) == [State.DONE]


def test_one_slide_under_two_names_and_patients_is_a_leak(
    entries: list[Entry], make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    copy = tmp_path / "copy.tif"
    copy.write_bytes(entries[0].slide.read_bytes())
    with pytest.raises(CohortError, match=r"s0\.tif of P0 = copy\.tif of P7"):
        list(extract_manifest([*entries, Entry(copy, "P7")], make_recipe()))
    assert not make_recipe().store.exists()


def test_a_slide_and_its_copy_do_not_count_twice_for_a_patient(
    entries: list[Entry], make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    copy = tmp_path / "copy.tif"
    copy.write_bytes(entries[0].slide.read_bytes())
    with pytest.raises(CohortError, match=r"more than once.*s0\.tif of P0 = copy\.tif"):
        list(extract_manifest([*entries, Entry(copy, "P0")], make_recipe()))


def test_copies_of_slides_of_nobody_are_no_leak(
    entries: list[Entry], make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    copy = tmp_path / "copy.tif"
    copy.write_bytes(entries[0].slide.read_bytes())
    unnamed = [Entry(entries[0].slide), Entry(copy)]
    states = extract_manifest(unnamed, make_recipe())
    assert ends(states) == [State.DONE, State.STORED]


def test_an_encoder_with_other_weights_is_refused(
    entries: list[Entry], make_recipe: MakeRecipe
) -> None:
    right = make_recipe()
    other = Recipe(right.encoder, "0" * 64, right.store, "cpu")
    (end,) = [s for s in extract_manifest(entries[:1], other) if s.ended]
    assert end.state is State.FAILED
    assert "same version of napari-gimp" in end.text
