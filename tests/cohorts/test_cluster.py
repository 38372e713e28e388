"""The same features on a cluster of processes as here, byte for byte."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import pytest
import zarr

from napari_gimp.cli import main
from napari_gimp.cohorts.cluster import connected
from napari_gimp.cohorts.extraction import Recipe
from napari_gimp.cohorts.features import extract_manifest
from napari_gimp.cohorts.manifest import Entry
from napari_gimp.cohorts.states import State
from small_slides import entries_of, write_slide

distributed = pytest.importorskip("distributed", reason="the extra [distributed]")
pytestmark = pytest.mark.slow
MakeRecipe = Callable[..., Recipe]


@pytest.fixture(scope="module")
def cluster() -> Iterator[distributed.LocalCluster]:
    with (
        mock.patch.dict(os.environ),  # dask leaves variables of its workers there
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
    ):
        yield cluster


@pytest.fixture
def entries(tmp_path: Path) -> list[Entry]:
    """Three slides of 36 patches."""
    slides = [
        write_slide(tmp_path / f"s{k}.tif", seed=k, side_px=1536) for k in range(3)
    ]
    return [Entry(slide, slide.stem) for slide in slides]


def test_a_cluster_gives_the_bytes_of_a_local_run(
    cluster: distributed.LocalCluster, entries: list[Entry], make_recipe: MakeRecipe
) -> None:
    here, there = make_recipe("here"), make_recipe("there")
    list(extract_manifest(entries, here))
    bad = [*entries, Entry(Path("/absent.svs"))]
    with connected(cluster.scheduler_address) as workers:
        states = list(extract_manifest(bad, there, cluster=workers))
    last = {s.number: s.state for s in states}
    assert last == {0: State.DONE, 1: State.DONE, 2: State.DONE, 3: State.FAILED}
    assert any(0 < s.done < s.total for s in states), "progress is told"
    assert entries_of(here.store) == entries_of(there.store) != {}


def test_a_worker_killed_in_the_middle_loses_nothing(
    cluster: distributed.LocalCluster, entries: list[Entry], make_recipe: MakeRecipe
) -> None:
    here, there = make_recipe("here"), make_recipe("there")
    list(extract_manifest(entries, here))
    killed = 0
    states = []
    with connected(cluster.scheduler_address) as workers:
        for state in extract_manifest(entries, there, cluster=workers):
            states.append(state)
            if not killed and 8 <= state.done < state.total:
                working = workers.client.processing().items()
                busy = [worker for worker, tasks in working if tasks]
                killed = workers.client.run(os.getpid, workers=busy[:1])[busy[0]]
                os.kill(killed, signal.SIGKILL)
    assert killed
    ends = {s.number: s.state for s in states}
    assert set(ends.values()) <= {State.DONE, State.STORED}
    assert entries_of(here.store) == entries_of(there.store)


def test_a_cancelled_run_stops_its_workers(
    cluster: distributed.LocalCluster, entries: list[Entry], make_recipe: MakeRecipe
) -> None:
    recipe = make_recipe(batch_size=1)
    with connected(cluster.scheduler_address) as workers:
        run = extract_manifest(entries, recipe, cluster=workers)
        while next(run).done < 1:
            pass
        run.close()
        free = workers.client.submit(int, priority=-100)
        free.result(timeout=60)
        again = list(extract_manifest(entries, recipe, cluster=workers))
    first = next(s for s in again if s.total)
    assert first.state is not State.STORED, "it was not encoded to its end"
    ends = {s.number: s.state for s in again}
    assert set(ends.values()) == {State.DONE}


def test_a_scheduler_that_goes_away_ends_the_run_and_keeps_what_is_stored(
    entries: list[Entry], make_recipe: MakeRecipe
) -> None:
    recipe = make_recipe(batch_size=1)
    states = []
    with mock.patch.dict(os.environ):
        cluster = distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, dashboard_address=None
        )
        with cluster, connected(cluster.scheduler_address) as workers:
            for state in extract_manifest(entries[:2], recipe, cluster=workers):
                states.append(state)
                if state.done == 1:
                    cluster.close()
    ends = {s.number: s for s in states}
    assert {s.state for s in ends.values()} == {State.CANCELLED}
    assert {s.text for s in ends.values()} == {"the scheduler is gone"}
    key = next(s.key for s in states if s.done)
    stored = zarr.open_group(recipe.store / f"{key}.zarr", mode="r")
    assert int(str(stored.attrs["done"])) >= 1
    assert list(extract_manifest(entries[:1], recipe))[-1].state is State.DONE


def test_the_command_runs_on_a_scheduler(
    cluster: distributed.LocalCluster,
    entries: list[Entry],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["features", str(tmp_path), "--out", str(tmp_path / "store")]
    assert main([*words, "--scheduler", cluster.scheduler_address]) == 0
    assert "3 slides: 3 done" in capsys.readouterr().out


def test_an_address_where_nobody_answers_is_refused(
    entries: list[Entry],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("napari_gimp.cohorts.cluster.CONNECT_S", 0.2)
    words = ["features", str(tmp_path), "--out", str(tmp_path / "store")]
    assert main([*words, "--scheduler", "tcp://127.0.0.1:9"]) == 2
    assert "No dask scheduler answers at tcp://127.0.0.1:9" in capsys.readouterr().err
    assert not (tmp_path / "store").exists()
