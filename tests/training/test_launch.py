from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from napari_gimp.errors import RunError
from napari_gimp.training import launch
from napari_gimp.training.events import Event, write_event
from napari_gimp.training.launch import running_pid
from napari_gimp.training.loop import train
from napari_gimp.training.run import RunFolder


def write_run(folder: Path) -> Path:
    """A run whose cohort is missing: its process starts, says so, and ends."""
    path = folder / "run.toml"
    path.write_text(
        'stage = "pretrain"\nmanifest = "none.csv"\ngenes = "none.csv"\nout = "run"\n'
    )
    return path


def busy(folder: Path) -> subprocess.Popen[bytes]:
    """Another process that claims the folder, until its input is closed."""
    code = "import sys; sys.stdin.read()"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
    started = psutil.Process(process.pid).create_time()
    folder.mkdir(parents=True, exist_ok=True)
    claim = json.dumps({"pid": process.pid, "started": started})
    RunFolder(folder).process.write_text(claim)
    return process


def test_the_command_names_the_interpreter_and_the_run_file() -> None:
    words = launch.command("a/run.toml", resume=True)
    assert words == [
        *(sys.executable, "-m", "napari_gimp.cli", "train", "a/run.toml"),
        "--resume",
    ]


@pytest.mark.slow
def test_a_launched_process_reports_through_its_folder(tmp_path: Path) -> None:
    launched = launch.launch(write_run(tmp_path))
    events = list(launch.follow(launched.folder))
    assert launched.process.wait(timeout=60) == 2
    assert [e.kind for e in events] == ["failed"]
    assert "none.csv" in events[-1].text
    assert "none.csv" in RunFolder(launched.folder).log.read_text()


def test_a_folder_in_use_is_refused_and_free_again_afterwards(tmp_path: Path) -> None:
    process = busy(tmp_path / "run")
    try:
        assert launch.running_pid(tmp_path / "run") == process.pid
        with pytest.raises(RunError, match=f"Process {process.pid} is training"):
            launch.launch(write_run(tmp_path))
    finally:
        process.communicate()
    assert launch.running_pid(tmp_path / "run") is None


def test_a_process_number_used_again_is_not_the_trainer(tmp_path: Path) -> None:
    claim = {"pid": os.getpid(), "started": 12.0}
    RunFolder(tmp_path).process.write_text(json.dumps(claim))
    assert launch.running_pid(tmp_path) is None


def test_a_finished_run_is_followed_to_its_end_at_once(tmp_path: Path) -> None:
    write_event(RunFolder(tmp_path).events, Event(kind="finished", stage="pretrain"))
    assert [e.kind for e in launch.follow(tmp_path)] == ["finished"]


def test_a_process_that_lives_on_after_training_leaves_the_folder_free(
    drawn: Any, tmp_path: Path
) -> None:
    run = drawn.run(tmp_path / "run", plan={"epochs": 1})
    seen = []
    train(run, watch=lambda event: seen.append(running_pid(run.out)))
    assert set(seen) == {os.getpid()}
    assert running_pid(run.out) is None


def test_this_process_signs_in_once_and_again(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    launch.sign_in(folder)
    launch.sign_in(folder)
    assert launch.running_pid(tmp_path) == os.getpid()
