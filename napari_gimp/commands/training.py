"""Commands of a training: make a cohort, train, evaluate, publish."""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_gimp.commands.options import add_command
from napari_gimp.commands.progress import Bar, silence_damage_log

if TYPE_CHECKING:
    from napari_gimp.training.events import Event


def add_commands(commands: Any) -> None:
    """Add synth, train, evaluate and export."""
    synth = add_command(commands, "synth", synth_, "make a synthetic cohort")
    synth.add_argument("out", type=Path, metavar="OUT")
    synth.add_argument("--patients", type=int, required=True)
    synth.add_argument("--seed", type=int, default=0)
    synth.add_argument("--side-px", type=int, default=3072, help="slide side, px")
    synth.add_argument("--mpp", type=float, default=0.5, help="um per pixel")
    train = add_command(commands, "train", train_, "pre-train or fine-tune a model")
    train.add_argument("run", type=Path, metavar="RUN.toml")
    train.add_argument("--resume", action="store_true", help="go on where it stopped")
    evaluate = add_command(commands, "evaluate", evaluate_, "measure a trained run")
    evaluate.add_argument("run", type=Path, metavar="RUN", help="a run's folder")
    evaluate.add_argument("--json", action="store_true")
    export = add_command(commands, "export", export_, "write a run's model for others")
    export.add_argument("run", type=Path, metavar="RUN", help="an evaluated run")
    export.add_argument("--out", type=Path, required=True, metavar="DIR")
    export.add_argument("--description", required=True, help="purpose and limits")
    export.add_argument("--licence", required=True, help="licence of the weights")


def synth_(arguments: argparse.Namespace) -> None:
    """Make a synthetic cohort: slides, genes, manifest and planted truth."""
    from napari_gimp.synthetic.cohort import make_cohort

    with Bar("slides") as bar:
        manifest = make_cohort(
            arguments.out,
            patients=arguments.patients,
            seed=arguments.seed,
            side_px=arguments.side_px,
            mpp=arguments.mpp,
            progress=bar.to,
        )
    print(manifest)


def train_(arguments: argparse.Namespace) -> None:
    """Train in this process; the run folder is the protocol with everyone else."""
    from napari_gimp.training.loop import train
    from napari_gimp.training.run import RunConfig

    silence_damage_log()
    run = RunConfig.read(arguments.run)
    with Bar("features") as bar:
        print(train(run, resume=arguments.resume, watch=partial(_show_event, bar)))


def _show_event(bar: Bar, event: Event) -> None:
    """Show how a training goes: a bar for slides, a line for each epoch."""
    if event.kind == "features":
        bar.to(event.step, event.total)
        if event.text:
            bar.say(f"warning: {event.text}")
    elif event.kind == "started":
        bar.say(event.text)
    elif event.kind == "epoch":
        told = {k: v for k, v in event.metrics.items() if k not in ("lr", "seconds")}
        numbers = "  ".join(f"{name} {value:.3f}" for name, value in told.items())
        print(f"epoch {event.epoch}/{event.total}  {numbers}", file=sys.stderr)


def evaluate_(arguments: argparse.Namespace) -> None:
    """Measure a run on its held-out patients, with the baselines in the table."""
    from napari_gimp.training.evaluate import evaluate

    evaluation = evaluate(arguments.run)
    print(evaluation.to_json() if arguments.json else evaluation.table())


def export_(arguments: argparse.Namespace) -> None:
    """Write a run's best checkpoint, with its results, for others to use."""
    from napari_gimp.publish import publish

    words = {"description": arguments.description, "licence": arguments.licence}
    card = publish(arguments.run, arguments.out, **words)
    print(f"{arguments.out}: sha256 {card.sha256}")
