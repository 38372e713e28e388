from __future__ import annotations

from pathlib import Path

import pytest
import torch

from napari_gimp.errors import RunError
from napari_gimp.training.fit import Progress
from napari_gimp.training.splits import Split
from napari_gimp.training.state import (
    TrainingState,
    find_folder,
    load_optimizer,
    replace_folder,
    save_optimizer,
)


def stepped(steps: int) -> tuple[torch.nn.Linear, torch.optim.AdamW]:
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    for _ in range(steps):
        step(model, optimizer)
    return model, optimizer


def step(model: torch.nn.Linear, optimizer: torch.optim.AdamW) -> None:
    optimizer.zero_grad()
    model(torch.ones(4, 3)).square().sum().backward()
    optimizer.step()


def test_an_optimiser_goes_on_as_if_it_had_never_been_saved(tmp_path: Path) -> None:
    model, optimizer = stepped(3)
    save_optimizer(optimizer, tmp_path)
    again, other = stepped(0)
    again.load_state_dict(model.state_dict())
    load_optimizer(other, tmp_path)
    step(model, optimizer)
    step(again, other)
    assert torch.equal(model.weight, again.weight)


def test_an_optimiser_file_that_is_no_safetensors_is_refused(tmp_path: Path) -> None:
    (tmp_path / "optimizer.safetensors").write_bytes(b"pickle")
    with pytest.raises(RunError, match="cannot be used"):
        load_optimizer(stepped(0)[1], tmp_path)


def test_training_state_reads_back_as_written(tmp_path: Path) -> None:
    split = Split(("a", "b"), ("c",), ("d",))
    state = TrainingState(Progress(3, 12, (0.5, -1.0), 2), {"stage": "pretrain"}, split)
    state.write(tmp_path)
    assert TrainingState.read(tmp_path) == state


def test_a_damaged_state_is_a_run_error(tmp_path: Path) -> None:
    (tmp_path / "training.json").write_text("{}")
    with pytest.raises(RunError, match="missing or damaged"):
        TrainingState.read(tmp_path)


def test_an_interrupted_write_leaves_the_old_folder(tmp_path: Path) -> None:
    def fill(folder: Path) -> None:
        (folder / "a").write_text("old")

    def fail(folder: Path) -> None:
        (folder / "a").write_text("half")
        raise KeyboardInterrupt

    replace_folder(tmp_path / "last", fill)
    with pytest.raises(KeyboardInterrupt):
        replace_folder(tmp_path / "last", fail)
    assert (tmp_path / "last" / "a").read_text() == "old"


def test_a_folder_caught_between_two_renames_is_found(tmp_path: Path) -> None:
    (tmp_path / "last.old").mkdir()
    assert find_folder(tmp_path / "last") == tmp_path / "last"
    assert find_folder(tmp_path / "best") is None


def test_the_first_epoch_is_the_best_and_only_better_ones_follow() -> None:
    progress = Progress()
    judged = []
    for verdict in [(0.5, -1.0), (0.5, -2.0), (0.5, -0.5), (0.6, -9.0)]:
        progress.epoch += 1
        judged.append(progress.judge(verdict))
    assert judged == [True, False, True, True]
    assert progress.stale == 0
