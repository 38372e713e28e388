"""`--slurm`: jobs that dask-jobqueue submits to commands standing in for Slurm's."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from napari_gimp.cli import main
from napari_gimp.cohorts.extraction import Recipe
from napari_gimp.cohorts.features import extract_manifest
from napari_gimp.cohorts.manifest import Entry
from napari_gimp.cohorts.slurm import Slurm, _in_queue, slurm_workers, start
from napari_gimp.errors import ClusterError
from small_slides import entries_of, write_slide
from stand_in_slurm import write_slurm

pytest.importorskip("dask_jobqueue", reason="the extra [distributed]")


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of commands on the PATH that stand in for Slurm's."""
    folder = write_slurm(tmp_path / "slurm")
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


@pytest.fixture
def entries(tmp_path: Path) -> list[Entry]:
    """Two slides of 16 patches."""
    slides = [write_slide(tmp_path / "s" / f"{k}.tif", seed=k) for k in range(2)]
    return [Entry(slide, slide.stem) for slide in slides]


def test_a_jobs_script_asks_for_what_was_said(tmp_path: Path) -> None:
    asked = Slurm(
        logs=tmp_path,
        partition="gpu",
        time="1-00:00:00",
        memory="32G",
        cores=8,
        gpus=1,
    )
    with start(asked) as jobs:
        lines = jobs.job_script().splitlines()
    for line in (
        "#SBATCH -J napari-gimp",
        "#SBATCH -p gpu",
        "#SBATCH -n 1",
        "#SBATCH --cpus-per-task=8",
        "#SBATCH --mem=30G",
        "#SBATCH -t 1-00:00:00",
        "#SBATCH --gpus=1",
        f"#SBATCH -o {tmp_path}/napari-gimp-%J.out",
        "export OMP_NUM_THREADS=8",
    ):
        assert line in lines
    assert "distributed.cli.dask_worker" in lines[-1]
    assert "--nthreads 1 " in lines[-1]
    assert "--no-nanny" in lines[-1]


@pytest.mark.slow
def test_slurm_jobs_give_the_bytes_of_a_local_run_and_are_cancelled_at_the_end(
    slurm: Path,
    entries: list[Entry],
    make_recipe: Callable[..., Recipe],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    here = make_recipe("here", batch_size=None)
    list(extract_manifest(entries, here))
    words = ["features", str(tmp_path / "s"), "--out", str(tmp_path / "there")]
    assert main([*words, "--device", "cpu", "--slurm", "--jobs", "2"]) == 0
    assert "2 slides: 2 done" in capsys.readouterr().out
    assert entries_of(here.store) == entries_of(tmp_path / "there") != {}
    jobs = (slurm / "jobs").read_text().split()
    assert len(jobs) == 2
    assert sorted((slurm / "cancelled").read_text().split()) == sorted(jobs)


@pytest.mark.slow
def test_jobs_that_die_at_once_end_the_run_with_where_to_look(
    slurm: Path,
    entries: list[Entry],
    make_recipe: Callable[..., Recipe],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (slurm / "sbatch").write_text("#!/bin/bash\necho Submitted batch job 99999999\n")
    monkeypatch.setattr("napari_gimp.cohorts.slurm.LOOK_S", 1.0)
    with (
        slurm_workers(Slurm(logs=tmp_path / "logs")) as jobs,
        pytest.raises(ClusterError, match=r"No job of the 1 is left.*logs has what"),
    ):
        list(extract_manifest(entries, make_recipe(), cluster=jobs))


@pytest.mark.parametrize(
    ("answer", "left"),
    [
        ("echo 17", True),
        ("exit 0", False),
        ("echo slurm_load_jobs error: Invalid job id specified >&2; exit 1", False),
        ("echo Unable to contact slurm controller >&2; exit 1", True),
    ],
)
def test_a_slurm_that_cannot_answer_does_not_end_the_run(
    answer: str, left: bool, slurm: Path
) -> None:
    (slurm / "squeue").write_text(f"#!/bin/bash\n{answer}\n")
    assert _in_queue(["17", "18"]) is left


def test_what_slurm_refuses_is_told_before_anything_runs(
    slurm: Path,
    entries: list[Entry],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (slurm / "refusal").write_text("allocation failure: Invalid partition name\n")
    words = ["features", str(tmp_path / "s"), "--out", str(tmp_path / "store")]
    assert main([*words, "--slurm", "--partition", "nowhere"]) == 2
    said = capsys.readouterr().err
    assert "partition nowhere: allocation failure: Invalid partition name" in said
    assert not (slurm / "jobs").exists()


def test_a_machine_without_slurm_says_where_to_run_it(
    entries: list[Entry],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    words = ["features", str(tmp_path / "s"), "--out", str(tmp_path / "store")]
    assert main([*words, "--slurm"]) == 2
    assert "Run this on a login node" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--jobs", "0"], "--jobs 0 cannot be meant; give 1 or more"),
        (["--time", "soon"], "--time soon cannot be meant; give HH:MM:SS"),
        (["--memory", "lots"], "--memory lots cannot be meant; give a size"),
        (["--gpus", "-1"], "--gpus -1 cannot be meant; give 0 or more"),
    ],
)
def test_a_value_that_cannot_be_meant_is_refused(
    words: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slide = write_slide(tmp_path / "s.tif", seed=0, side_px=256)
    out = ["--out", str(tmp_path / "store")]
    assert main(["features", str(slide), *out, "--slurm", *words]) == 2
    assert says in capsys.readouterr().err


def test_options_of_slurm_without_it_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slide = write_slide(tmp_path / "s.tif", seed=0, side_px=256)
    out = ["--out", str(tmp_path / "store")]
    assert main(["features", str(slide), *out, "--jobs", "4", "--gpus", "1"]) == 2
    assert "--jobs and --gpus belong to jobs of Slurm" in capsys.readouterr().err
