"""The schedule of a training run, checked; a form can be made from it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from napari_gimp.errors import RunError

Stage = Literal["pretrain", "finetune"]
Device = Literal["auto", "cpu", "cuda"]

STAGES: tuple[Stage, ...] = ("pretrain", "finetune")
DEVICES: tuple[Device, ...] = ("auto", "cpu", "cuda")
MOST_SEED = 2**31 - 1  # numpy takes 32 bits, and the inner split uses seed + 1
_T = TypeVar("_T", int, float)


def _ask(default: _T, tip: str, unit: str = "") -> _T:
    # Forms are made from the dataclass: each field carries its tooltip and unit.
    value: _T = field(default=default, metadata={"tip": tip, "unit": unit})
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How to train; the defaults are those of fine-tuning.

    Every field's tooltip and unit are in its dataclass metadata.

    Raises
    ------
    RunError
        If a number is out of range or the device is unknown.
    """

    epochs: int = _ask(30, "Passes over the training patients")
    batch: int = _ask(12, "Patients per step, at least two of each class")
    lr: float = _ask(1e-4, "Peak learning rate (in fine-tuning: of the heads)")
    weight_decay: float = _ask(1e-4, "AdamW's decoupled weight decay")
    encoder_share: float = _ask(
        0.1, "Learning rate of pre-trained encoders, in parts of the heads'"
    )
    warmup: int = _ask(5, "Epochs of linear warm-up before the cosine", "epochs")
    seed: int = _ask(0, "Seed of splits, sampling, masking and first weights")
    device: Device = field(
        default="auto", metadata={"tip": "auto: the GPU if there is one", "unit": ""}
    )
    folds: int = _ask(5, "Parts into which patients are split, by class")
    fold: int = _ask(0, "The part held out for testing, from 0")
    patience: int = _ask(10, "Stop after so many epochs without a better one", "epochs")
    max_patches: int = _ask(2048, "Patches drawn per slide and step", "patches")
    window: int = _ask(
        2048,
        "Consecutive patches in which a run is masked; a start brings its own",
        "patches",
    )
    mask_ratio: float = _ask(
        0.5, "Part of the window that is masked; a start brings its own"
    )
    lambda_triplet: float = _ask(1.0, "Weight of the triplet loss")
    lambda_patches: float = _ask(
        0.0, "Weight of masked patches in fine-tuning; 0: reconstructions get stale"
    )
    gene_noise: float = _ask(
        0.5, "Noise on expression in training, against learning by heart", "sd"
    )
    top_genes: int = _ask(
        0, "Keep the genes of largest variance; 0: all. A start brings its own", "genes"
    )
    workers: int = _ask(1, "Slides prepared at once", "threads")

    def __post_init__(self) -> None:
        for name in ("epochs", "max_patches", "window", "workers", "patience"):
            check(name, getattr(self, name) >= 1, self, "a whole number from 1 on")
        for name in ("warmup", "weight_decay", "top_genes"):
            check(name, getattr(self, name) >= 0, self, "0 or more")
        seeds = f"a whole number from 0 to {MOST_SEED}"
        check("seed", 0 <= self.seed <= MOST_SEED, self, seeds)
        for name in ("lambda_triplet", "lambda_patches", "gene_noise"):
            check(name, getattr(self, name) >= 0, self, "0 or more")
        check("batch", self.batch >= 2, self, "at least 2")
        share = 0 < self.encoder_share <= 1
        check("encoder_share", share, self, "above 0, at most 1")
        check("lr", 0 < self.lr < math.inf, self, "above 0 and finite")
        check("mask_ratio", 0 < self.mask_ratio < 1, self, "between 0 and 1")
        check("folds", self.folds >= 2, self, "at least 2")
        check("fold", 0 <= self.fold < self.folds, self, f"0 to {self.folds - 1}")
        check("device", self.device in DEVICES, self, f"one of {', '.join(DEVICES)}")


def check(name: str, fits: bool, config: object, right: str) -> None:
    """Raise a RunError saying what would be right, unless the value fits."""
    if not fits:
        value = getattr(config, name)
        raise RunError(f"{name} is {value!r}; it must be {right}. Change run.toml.")


# Our choice: the paper's abstract, all that was at hand, gives no schedule.
DEFAULT_PLANS: Mapping[Stage, Plan] = {
    "pretrain": Plan(epochs=100, batch=16, patience=100),
    "finetune": Plan(),
}
