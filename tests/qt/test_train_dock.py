from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from napari_gimp._qt.train import TrainDock
from napari_gimp._qt.train_curve import curves, status
from napari_gimp._qt.train_form import TrainForm
from napari_gimp.training.events import Event, write_event
from napari_gimp.training.plan import DEFAULT_PLANS, Plan
from napari_gimp.training.run import RunConfig, RunFolder

Make = Callable[..., RunConfig]
EPOCHS = [
    Event(
        kind="epoch",
        stage="finetune",
        epoch=n,
        parts={"total": 1.0 / n},
        metrics={"loss": 1.2 / n, "seconds": 3.0},
    )
    for n in (1, 2, 3)
]


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    for name in ("manifest.csv", "genes.csv"):
        (tmp_path / name).write_text("")
    return RunConfig(
        stage="finetune",
        manifest=tmp_path / "manifest.csv",
        genes=tmp_path / "genes.csv",
        out=tmp_path / "run",
        plan=Plan(epochs=7, lr=0.0003, window=512),
    )


def test_a_run_goes_through_the_form_unchanged(qtbot: Any, config: RunConfig) -> None:
    form = TrainForm()

    form.fill(config)

    assert form.config() == config
    assert form.missing() == ""


def test_every_field_has_a_label_and_a_tooltip(qtbot: Any) -> None:
    form = TrainForm()
    fields = [*form.cohort, *form.start, *form.usual, *form.rare]

    assert [f.name for f in fields if not f.tooltip] == []
    assert [f.label for f in fields if "_" in f.label] == []


def test_the_stage_brings_its_own_schedule(qtbot: Any, config: RunConfig) -> None:
    form = TrainForm()
    form.fill(config)

    form.start["stage"].value = "pretrain"

    assert form.config().plan == DEFAULT_PLANS["pretrain"]


def test_start_is_off_until_the_data_are_named(qtbot: Any, config: RunConfig) -> None:
    dock = TrainDock(None)
    qtbot.addWidget(dock)
    assert not dock.start.isEnabled()
    assert "manifest, genes, out" in dock.start.toolTip()

    dock.form.fill(config)

    assert dock.start.isEnabled()
    assert not dock.stop.isEnabled()
    assert dock.stop.toolTip() == "Nothing is training."


def test_a_number_out_of_range_is_told_in_place(qtbot: Any, config: RunConfig) -> None:
    dock = TrainDock(None)
    qtbot.addWidget(dock)
    dock.form.fill(config)
    dock.form.usual["fold"].value = 9

    dock.start.click()

    assert dock.notice.property("tone") == "error"
    assert "fold is 9" in dock.notice.text()
    assert not config.out.exists()


def test_a_run_on_disk_is_found_again_with_its_curves(
    qtbot: Any, config: RunConfig
) -> None:
    path = config.write(config.out / "run.toml")
    RunFolder(config.out).last.mkdir(parents=True)
    for event in EPOCHS:
        write_event(RunFolder(config.out).events, event)
    dock = TrainDock(None)
    qtbot.addWidget(dock)

    dock.run_file.set_path(path)

    assert dock.form.config() == config
    assert dock.chart.figure is not None
    lines = {
        x.get_label(): list(x.get_ydata()) for x in dock.chart.figure.axes[0].lines
    }
    assert lines["train total"] == pytest.approx([1, 1 / 2, 1 / 3])
    assert lines["val loss"] == pytest.approx([1.2, 0.6, 0.4])
    assert "ended after epoch 3 without a word" in dock.state.text()
    assert dock.resume.isEnabled()


def test_a_run_file_with_a_wrong_key_is_told_in_place(
    qtbot: Any, tmp_path: Path
) -> None:
    path = tmp_path / "run.toml"
    path.write_text('stagee = "finetune"')
    dock = TrainDock(None)
    qtbot.addWidget(dock)

    dock.run_file.set_path(path)

    assert "stagee" in dock.notice.text()


def test_stop_leaves_the_file_that_asks_for_a_clean_end(
    qtbot: Any, config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_gimp._qt.train.running_pid", lambda root: os.getpid())
    path = config.write(config.out / "run.toml")
    dock = TrainDock(None)
    qtbot.addWidget(dock)
    dock.run_file.set_path(path)
    assert "training already" in dock.start.toolTip()

    dock.stop.click()

    assert RunFolder(config.out).stop.exists()


def test_asking_leaves_the_configuration_of_a_run_that_is_there(
    qtbot: Any, config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[RunConfig] = []
    monkeypatch.setattr(
        "napari_gimp._qt.train.launch",
        lambda path, resume: asked.append(RunConfig.read(path)),
    )
    held = config.write(config.out / "run.toml").read_text()
    RunFolder(config.out).log.touch()
    dock = TrainDock(None)
    qtbot.addWidget(dock)
    dock.form.fill(replace(config, plan=replace(config.plan, epochs=77)))

    dock.start.click()

    assert asked[0].plan.epochs == 77
    assert (config.out / "run.toml").read_text() == held


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="kills by POSIX process group")
def test_start_runs_a_process_whose_end_is_told(qtbot: Any, config: RunConfig) -> None:
    dock = TrainDock(None)
    qtbot.addWidget(dock)
    dock.form.fill(config)  # an empty manifest: the process must refuse it

    dock.start.click()

    assert "own process" in dock.notice.text()
    qtbot.waitUntil(lambda: not dock.stop.isEnabled(), timeout=120_000)
    assert dock.notice.property("tone") == "error"
    assert "manifest.csv" in dock.notice.text()


def test_curves_keep_losses_apart_and_leave_other_metrics_out() -> None:
    found = curves([*EPOCHS, Event(kind="finished", stage="finetune", epoch=3)])

    assert set(found) == {"train total", "val loss"}
    assert found["val loss"][0] == [1, 2, 3]


@pytest.mark.parametrize(
    ("event", "running", "words"),
    [
        (Event(kind="features", stage="finetune", step=3, total=9), True, "3 of 9"),
        (replace(EPOCHS[0]), True, "Epoch 1 done in 3 s"),
        (Event(kind="finished", stage="finetune", epoch=3), False, "Finished after 3"),
    ],
)
def test_the_state_of_a_run_is_one_sentence(
    event: Event, running: bool, words: str
) -> None:
    assert words in status([event], running)


def test_a_run_shown_in_the_form_keeps_its_colours(qtbot, tmp_path):
    form = TrainForm()
    paths = {name: tmp_path / name for name in ("manifest", "genes", "out")}
    form.fill(RunConfig(stage="finetune", **paths, srgb=True))
    assert form.config().srgb
    form.fill(RunConfig(stage="finetune", **paths))
    assert not form.config().srgb
