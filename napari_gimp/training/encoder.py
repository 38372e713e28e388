"""Train a patch encoder without labels, from slides alone.

    python -m napari_gimp.training.encoder --out FOLDER --slides A.svs B.jpg@0.69 ...

SimCLR (Chen et al. 2020): two views of a tile should find each other among the
views of other tiles. Batches come from few slides at a time. The shipped default
was made by this module; its card says from what.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from napari_gimp.errors import GimpError, RunError
from napari_gimp.patches.encoders import (
    EncoderCard,
    PatchNetEncoder,
    load_encoder,
    read_weights,
)
from napari_gimp.patches.network import PatchNet, PatchNetConfig, fuse
from napari_gimp.training.encoder_probe import effective_rank, probe
from napari_gimp.training.encoder_tiles import MPP, SlideSpec, TileSet, cut_tiles
from napari_gimp.training.encoder_views import ViewPlan, make_view, paired_loss

INPUT_PX = 128


@dataclass(frozen=True, slots=True)
class EncoderPlan:
    """How an encoder is trained.

    Parameters
    ----------
    steps
        Batches.
    minutes
        Stop after so long; the learning rate follows whichever end is nearer. None
        means by steps alone, and equal seeds give equal weights.
    batch
        Tiles per batch, two views each.
    slides_per_batch
        Slides a batch is drawn from.
    lr, weight_decay
        Of AdamW; warm-up over the first 5 %, then cosine.
    temperature
        Of the loss.
    averaging
        Decay of the running average of weights, which is what is kept.
    bf16
        Compute in bfloat16: fast on processors that have it.
    seed
        Names every random choice.
    views
        How views differ.
    """

    steps: int = 1500
    minutes: float | None = None
    batch: int = 64
    slides_per_batch: int = 4
    lr: float = 2e-3
    weight_decay: float = 1e-4
    temperature: float = 0.2
    averaging: float = 0.99
    bf16: bool = True
    seed: int = 0
    views: ViewPlan = field(default_factory=ViewPlan)


@dataclass(frozen=True, slots=True)
class Step:
    """One step: its number, how far training is (0 to 1), and its loss.

    `spread` is the mean standard deviation of unit-length projections times the
    root of their number; it is 1 for evenly spread views and 0 after a collapse.
    """

    number: int
    progress: float
    loss: float
    spread: float


class Trainer:
    """A network, its projection, and the running average that is kept.

    Parameters
    ----------
    config
        Sizes of the network.
    plan
        How to train.
    """

    def __init__(self, config: PatchNetConfig, plan: EncoderPlan) -> None:
        torch.manual_seed(plan.seed)
        self.plan = plan
        self.network = PatchNet(config)
        self.average = deepcopy(self.network)
        self.projection = projection_head(config.features)
        self._generator = torch.Generator().manual_seed(plan.seed)
        self._optimizer = torch.optim.AdamW(
            [*self.network.parameters(), *self.projection.parameters()],
            lr=plan.lr,
            weight_decay=plan.weight_decay,
        )

    def resume_from(self, weights: Path) -> None:
        """Begin with the weights of an encoder instead of random ones.

        Raises
        ------
        EncoderError
            If they cannot be read or have other sizes.
        """
        read_weights(weights, self.network)
        read_weights(weights, self.average)

    def run(self, tiles: TileSet) -> Iterator[Step]:
        """Train, yielding after each batch; closing the iterator ends training."""
        plan, start = self.plan, time.monotonic()
        rng = np.random.default_rng(plan.seed)
        for number in range(plan.steps):
            progress = number / plan.steps
            if plan.minutes is not None:
                elapsed = (time.monotonic() - start) / 60
                progress = max(progress, elapsed / plan.minutes)
            if progress >= 1:
                return
            self._optimizer.param_groups[0]["lr"] = plan.lr * rate(progress)
            batch = tiles.pixels[draw(tiles, plan, rng)]
            loss, spread = self._step(batch)
            yield Step(number, progress, loss, spread)

    def _step(self, batch: NDArray[np.uint8]) -> tuple[float, float]:
        pixels = torch.from_numpy(batch).permute(0, 3, 1, 2).float() / 255
        views = [make_view(pixels, self.plan.views, self._generator) for _ in range(2)]
        both = torch.cat(views).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.plan.bf16):
            projected = self.projection(self.network.pooled(both)).float()
        a, b = projected.chunk(2)
        loss = paired_loss(a, b, temperature=self.plan.temperature)
        self._optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        self._optimizer.step()
        self._follow()
        return float(loss.detach()), spread_of(projected.detach())

    @torch.no_grad()
    def _follow(self) -> None:
        """Move the average towards the network; counters are copied."""
        mine, theirs = self.average.state_dict(), self.network.state_dict()
        for name, tensor in mine.items():
            if tensor.is_floating_point():
                tensor.lerp_(theirs[name], 1 - self.plan.averaging)
            else:
                tensor.copy_(theirs[name])


def projection_head(width: int) -> nn.Module:
    """Return the head (B,P) -> (B,128) that is dropped after training."""
    return nn.Sequential(
        nn.Linear(width, 256, bias=False),
        nn.BatchNorm1d(256),
        nn.ReLU(),
        nn.Linear(256, 128),
    )


def rate(progress: float) -> float:
    """Return the learning rate's factor: 5 % warm-up, then cosine to 0."""
    if progress < 0.05:
        return (progress + 0.001) / 0.051
    return float(0.5 + 0.5 * np.cos(np.pi * (progress - 0.05) / 0.95))


def draw(
    tiles: TileSet, plan: EncoderPlan, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return the tiles of a batch, equally many from each of a few slides.

    A slide is drawn in proportion to its tiles.
    """
    counts = np.bincount(tiles.slide, minlength=len(tiles.names))
    chance = counts / counts.sum()
    few = min(plan.slides_per_batch, int((counts > 0).sum()))
    slides = rng.choice(len(counts), few, replace=False, p=chance)
    each = plan.batch // few
    chosen = [
        rng.choice(members, min(each, len(members)), replace=False)
        for members in (np.flatnonzero(tiles.slide == slide) for slide in slides)
    ]
    return np.concatenate(chosen)


def spread_of(projected: Tensor) -> float:
    """Return how evenly unit projections (B,D) are spread; see `Step`."""
    unit = nn.functional.normalize(projected, dim=1)
    return float(unit.std(0).mean() * unit.shape[1] ** 0.5)


@torch.inference_mode()
def fit_output(network: PatchNet, tiles: TileSet, *, most: int, seed: int) -> Tensor:
    """Set the network's feature mean and sd from tiles; return features (T,P)."""
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.permutation(len(tiles))[:most])
    cut = (tiles.pixels.shape[1] - INPUT_PX) // 2
    centre = slice(cut, cut + INPUT_PX)
    network.eval()
    parts = [
        network.pooled(torch.from_numpy(part).permute(0, 3, 1, 2).float() / 255)
        for part in np.array_split(
            tiles.pixels[chosen, centre, centre], max(1, len(chosen) // 64)
        )
    ]
    features = torch.cat(parts)
    network.feature_mean.copy_(features.mean(0))
    network.feature_sd.copy_(features.std(0).clamp(min=1e-4))
    return (features - network.feature_mean) / network.feature_sd


def save_encoder(
    folder: Path, name: str, network: PatchNet, facts: dict[str, Any]
) -> None:
    """Write NAME.safetensors (16-bit floats) and NAME.json, each by renaming."""
    from safetensors.torch import save

    folder.mkdir(parents=True, exist_ok=True)
    weights = {
        key: (t.half() if t.is_floating_point() else t).contiguous()
        for key, t in network.state_dict().items()
    }
    card = {
        "architecture": "PatchNet",
        "config": asdict(network.config),
        "input_px": INPUT_PX,
        "mpp": MPP,
        **facts,
    }
    _replace(folder / f"{name}.safetensors", save(weights))
    _replace(folder / f"{name}.json", (json.dumps(card, indent=2) + "\n").encode())


def _replace(path: Path, content: bytes) -> None:
    building = path.with_name(f".{path.name}.part")
    building.write_bytes(content)
    building.replace(path)


def untrained(config: PatchNetConfig, tiles: TileSet, *, seed: int) -> PatchNetEncoder:
    """Return the same network with random weights and fitted output: a baseline."""
    torch.manual_seed(seed + 1)
    network = PatchNet(config)
    fit_output(network, tiles, most=512, seed=seed)
    card = EncoderCard("untrained", config.features, INPUT_PX, MPP, config, {})
    return PatchNetEncoder(card, fuse(network), "untrained")


def main(arguments: Sequence[str] | None = None) -> int:
    """Train from the command line; return the exit code."""
    args = _parser().parse_args(arguments)
    try:
        _train(args)
    except GimpError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def _train(args: argparse.Namespace) -> None:
    plan = EncoderPlan(
        steps=args.steps, minutes=args.minutes, batch=args.batch, seed=args.seed
    )
    if plan.steps < 1 or (plan.minutes is not None and plan.minutes <= 0):
        raise RunError(
            f"training needs at least 1 step and more than 0 minutes, got {plan.steps} "
            f"and {plan.minutes}; leave --minutes out for no limit"
        )
    specs = [SlideSpec.parse(text) for text in args.slides]
    tiles = cut_tiles(
        specs, per_slide=args.per_slide, seed=args.seed, cache=args.tile_cache
    )
    if len(tiles) < plan.batch:
        raise RunError(
            f"the slides give {len(tiles)} tiles, fewer than a batch of {plan.batch}; "
            "give more slides or a smaller --batch"
        )
    trainer = Trainer(PatchNetConfig(), plan)
    if args.start:
        trainer.resume_from(args.start)
    steps = list(_reported(trainer.run(tiles), args.log_every))
    features = fit_output(trainer.average, tiles, most=4096, seed=args.seed)
    facts = {
        **_about(args.about),
        **_facts(plan, tiles, steps, effective_rank(features)),
    }
    save_encoder(args.out, args.name, trainer.average, facts)
    if args.probe:
        named = {
            "this encoder": load_encoder(args.name, folder=args.out),
            "same network, untrained": untrained(
                PatchNetConfig(), tiles, seed=args.seed
            ),
        }
        facts["metrics"]["linear probe, 5 folds"] = probe(named, args.probe)
        save_encoder(args.out, args.name, trainer.average, facts)
        sys.stderr.write(json.dumps(facts["metrics"], indent=2) + "\n")


def _about(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise RunError(
            f"{path} is no JSON object ({error}); it tells the card licence and data"
        ) from error


def _reported(steps: Iterator[Step], every: int) -> Iterator[Step]:
    for step in steps:
        if step.number % every == 0:
            sys.stderr.write(
                f"step {step.number} progress {step.progress:.2f} "
                f"loss {step.loss:.3f} spread {step.spread:.2f}\n"
            )
        yield step


def _facts(
    plan: EncoderPlan, tiles: TileSet, steps: Sequence[Step], rank: float
) -> dict[str, Any]:
    """Return what the card says about the training."""
    losses = np.array([step.loss for step in steps])
    parts = [
        round(float(part.mean()), 3)
        for part in np.array_split(losses, min(10, len(losses)))
    ]
    counts = np.bincount(tiles.slide, minlength=len(tiles.names)).tolist()
    return {
        "method": "SimCLR on H&E tiles, stains varied in optical density",
        "command": shlex.join(
            ["python", "-m", "napari_gimp.training.encoder", *sys.argv[1:]]
        ),
        "plan": asdict(plan),
        "tiles": dict(zip(tiles.names, counts, strict=True)),
        "steps_run": len(steps),
        "epochs": round(len(steps) * plan.batch / len(tiles), 1),
        "loss_by_tenths": parts,
        "metrics": {
            "effective rank of features": round(rank, 1),
            "spread of projections at the end": round(steps[-1].spread, 3),
        },
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m napari_gimp.training.encoder",
        description="Train a patch encoder without labels.",
    )
    add = parser.add_argument
    add("--slides", nargs="+", required=True, metavar="PATH[@MPP]")
    add("--out", type=Path, required=True, help="folder of the weights and the card")
    add("--name", default="default", help="name of the encoder")
    add("--per-slide", type=int, default=1200, help="most tiles of a slide")
    add("--tile-cache", type=Path, help="an .npz file that keeps the tiles")
    add("--steps", type=int, default=1500)
    add("--minutes", type=float, help="stop after so long")
    add("--batch", type=int, default=64)
    add("--seed", type=int, default=0)
    add("--probe", type=Path, help="labelled tiles, a folder per class: a measurement")
    add("--start", type=Path, help="weights (.safetensors) to go on from")
    add("--about", type=Path, help="JSON for the card: licence, data, ...")
    add("--log-every", type=int, default=20)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
