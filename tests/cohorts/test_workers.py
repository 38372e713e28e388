"""`--workers`: processes of this machine, their share of it, and interrupting them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from napari_gimp.cli import main
from napari_gimp.cohorts import local
from napari_gimp.cohorts.extraction import Recipe
from napari_gimp.cohorts.features import extract_manifest
from napari_gimp.cohorts.local import THREADS, TRIM, local_workers
from napari_gimp.cohorts.manifest import Entry
from napari_gimp.patches.plan import PatchPlan
from napari_gimp.slide.tiles import MB, VARIABLE, tile_cache
from small_slides import entries_of, write_slide

pytest.importorskip("distributed", reason="the extra [distributed]")

WATCHED = """
import sys
from napari_gimp.cli import main
from napari_gimp.commands.progress import Bar

def to(bar, done, total, text=None):
    if done and total > 60:  # patches, not slides
        print("begun", flush=True)

Bar.to = to
sys.exit(main(sys.argv[1:]))
"""
"""The command, telling when patches are encoded."""


def folder_of_slides(folder: Path, *, side_px: int = 1024) -> Path:
    """Write three slides."""
    for k in range(3):
        write_slide(folder / f"{k}.tif", seed=k, side_px=side_px)
    return folder


@pytest.mark.slow
def test_two_processes_give_the_bytes_of_one(
    make_recipe: Callable[..., Recipe],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    slides = folder_of_slides(tmp_path / "s")
    here = replace(make_recipe("here", batch_size=None), plan=PatchPlan(stride_um=96))
    list(extract_manifest([Entry(slide) for slide in sorted(slides.iterdir())], here))
    words = ["features", str(slides), "--out", str(tmp_path / "there")]
    words += ["--stride", "96"]
    assert main([*words, "--device", "cpu", "--workers", "2"]) == 0
    assert "3 slides: 3 done" in capsys.readouterr().out
    assert entries_of(here.store) == entries_of(tmp_path / "there") != {}


@pytest.mark.slow
def test_workers_share_cores_and_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*THREADS, TRIM, VARIABLE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(local, "cores", lambda: 6)
    with local_workers(2) as workers:
        known = workers.client.run(lambda: dict(os.environ)).values()
    shares = {(env["OMP_NUM_THREADS"], env[VARIABLE]) for env in known}
    assert len(known) == 2
    assert not any(TRIM in env for env in known)
    assert not any(name in os.environ for name in THREADS), "they are the workers'"
    assert shares == {("3", str(tile_cache().budget_bytes // MB // 2))}


def test_no_worker_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slide = write_slide(tmp_path / "s.tif", seed=0, side_px=256)
    words = ["features", str(slide), "--out", str(tmp_path / "store")]
    assert main([*words, "--workers", "0"]) == 2
    assert "ask for 1 or more" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for groups")
@pytest.mark.parametrize("workers", [[], ["--workers", "1"]])
def test_ctrl_c_ends_the_command_its_workers_and_keeps_what_is_stored(
    workers: list[str], tmp_path: Path
) -> None:
    slides = folder_of_slides(tmp_path / "s", side_px=3072)
    store = tmp_path / "store"
    words = ["features", str(slides), "--out", str(store), "--device", "cpu", *workers]
    command = subprocess.Popen(
        [sys.executable, "-c", WATCHED, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert command.stdout is not None
    while "begun" not in command.stdout.readline():
        assert command.poll() is None
    workers_of = psutil.Process(command.pid).children(recursive=True)
    os.killpg(command.pid, signal.SIGINT)  # as a terminal does
    out, err = command.communicate(timeout=60)

    assert command.returncode == 130
    assert err.strip().splitlines()[-1] == "napari-gimp: interrupted"
    assert "Traceback" not in err
    assert "distributed" not in err
    assert "cancelled" in out
    assert list(store.glob("*.zarr")), "what was encoded is kept"
    assert len(workers_of) >= len(workers) // 2
    _, left = psutil.wait_procs(workers_of, timeout=10)
    assert not left, "no worker is left behind"
