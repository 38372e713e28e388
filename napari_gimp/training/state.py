"""Checkpoints of a run: a model folder plus what it takes to go on.

Beside the model's own files lie `optimizer.safetensors` and `training.json`
(progress, configuration, split). No random state: see `fit`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from napari_gimp.errors import RunError
from napari_gimp.training.fit import Progress
from napari_gimp.training.splits import Split

OPTIMIZER = "optimizer.safetensors"
TRAINING = "training.json"


@dataclass(frozen=True, slots=True)
class TrainingState:
    """What `training.json` holds.

    Parameters
    ----------
    progress
        Epochs, steps, best verdict.
    run
        The run's configuration as plain values.
    split
        Who was trained on, who chose the epoch, who is held out.
    """

    progress: Progress
    run: dict[str, Any]
    split: Split

    def write(self, folder: Path) -> None:
        """Write `training.json` into a checkpoint folder."""
        (folder / TRAINING).write_text(json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def read(cls, folder: Path) -> TrainingState:
        """Read `training.json` of a checkpoint folder.

        Raises
        ------
        RunError
            If it is missing or damaged.
        """
        path = folder / TRAINING
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            progress = Progress(**content["progress"])
            progress.best = tuple(progress.best)
            split = Split(*(tuple(content["split"][part]) for part in _PARTS))
            return cls(progress, content["run"], split)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(
                f"{path} is missing or damaged ({error}), so this training cannot go "
                "on from here. Begin anew in another folder."
            ) from error


_PARTS = ("train", "validation", "test")


def save_optimizer(optimizer: torch.optim.Optimizer, folder: Path) -> None:
    """Write the optimiser's tensors as safetensors."""
    from safetensors.torch import save_file

    state = optimizer.state_dict()["state"]
    tensors = {
        f"{index}.{name}": value.detach().cpu().contiguous()
        for index, values in state.items()
        for name, value in values.items()
    }
    save_file(tensors, folder / OPTIMIZER)


def load_optimizer(optimizer: torch.optim.Optimizer, folder: Path) -> None:
    """Give an optimiser of the same parameters its tensors back.

    Raises
    ------
    RunError
        If the file is missing, damaged or of another model.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(folder / OPTIMIZER)
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": _nested(tensors), "param_groups": groups})
    except (OSError, ValueError, SafetensorError) as error:
        raise RunError(
            f"{folder / OPTIMIZER} cannot be used ({error}), so this training cannot "
            "go on. Begin anew in another folder."
        ) from error


def replace_folder(target: Path, fill: Callable[[Path], None]) -> None:
    """Fill a new folder, then put it in the place of `target`.

    An interruption leaves either the old folder or the new one, never half of one;
    in the instant between two renames the old one is at `target`.old, where
    `find_folder` looks for it.
    """
    new, old = target.with_name(f"{target.name}.new"), _old(target)
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    fill(new)
    if target.exists():
        shutil.rmtree(old, ignore_errors=True)
        target.rename(old)
    new.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def find_folder(target: Path) -> Path | None:
    """Return the valid folder for `target`; None if there never was one."""
    if not target.exists() and _old(target).exists():
        _old(target).rename(target)
    return target if target.exists() else None


def _old(target: Path) -> Path:
    return target.with_name(f"{target.name}.old")


def _nested(tensors: dict[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        index, name = key.split(".")
        state.setdefault(int(index), {})[name] = tensor
    return state
