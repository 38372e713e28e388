"""The command line: the same functions as the docks, without a display.

Exit 0 on success, 2 for what the user can mend (one clear text on stderr), 130
when interrupted. Progress bars on a terminal, none in a pipe. `--json` prints
what a program may want to read.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_gimp import __version__
from napari_gimp.errors import GimpError

if TYPE_CHECKING:
    from napari_gimp.explain.inference import Request
    from napari_gimp.explain.models import ListedModel
    from napari_gimp.explain.result import Result
    from napari_gimp.training.events import Event

Command = Callable[[argparse.Namespace], None]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code."""
    arguments = parser().parse_args(argv)
    logging.getLogger("tifffile").addHandler(logging.NullHandler())  # we say it
    try:
        arguments.command(arguments)
        sys.stdout.flush()  # here a broken pipe can still be caught
    except GimpError as error:
        print(f"napari-gimp: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("napari-gimp: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output went away, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    top = argparse.ArgumentParser("napari-gimp", description="Slides and genes.")
    top.add_argument("--version", action="version", version=__version__)
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    _add_looking(commands)
    _add_running(commands)
    _add_training(commands)
    return top


def _add_looking(commands: Any) -> None:
    demo = _command(commands, "demo", demo_, "run the main job on the built-in sample")
    demo.add_argument("--headless", action="store_true", help="write a report instead")
    demo.add_argument("--out", type=Path, default=Path("demo-report"), metavar="DIR")
    doctor = _command(commands, "doctor", doctor_, "say what is installed and missing")
    doctor.add_argument("--json", action="store_true")
    info = _command(commands, "info", info_, "describe a slide")
    info.add_argument("slide", type=Path)
    info.add_argument("--mpp", type=float, help="um per level-0 pixel")
    info.add_argument("--json", action="store_true")
    view = _command(commands, "view", view_, "open a slide in napari")
    view.add_argument("slide", type=Path)
    models = _command(commands, "models", models_, "list the models")
    models.add_argument("--json", action="store_true")


def _add_running(commands: Any) -> None:
    run = _command(commands, "run", run_, "run a model on a slide (and genes)")
    run.add_argument("slide", type=Path)
    run.add_argument("--model", default="demo", help="name or folder of a checkpoint")
    run.add_argument("--genes", type=Path, help="expression table")
    who = run.add_mutually_exclusive_group()
    who.add_argument("--sample", help="row (or column) of the table")
    who.add_argument(
        "--pseudobulk",
        action="store_true",
        help="sum all rows of a counts table (spots or cells of this patient)",
    )
    run.add_argument("--mpp", type=float, help="um per level-0 pixel")
    run.add_argument("--out", type=Path, required=True, metavar="DIR")
    run.add_argument("--store", type=Path, help="folder that keeps features")
    run.add_argument("--device", default="auto", help="auto, cpu, cuda, mps")
    run.add_argument("--batch-size", type=int, default=64)
    run.add_argument("--json", action="store_true")
    features = _command(commands, "features", features_, "compute patch features")
    features.add_argument("slides", type=Path, nargs="+", metavar="SLIDE")
    features.add_argument("--encoder", default="default")
    features.add_argument("--mpp", type=float, help="um per level-0 pixel")
    features.add_argument("--out", type=Path, required=True, metavar="STORE")
    features.add_argument("--device", default="auto")


def _add_training(commands: Any) -> None:
    synth = _command(commands, "synth", synth_, "make a synthetic cohort")
    synth.add_argument("out", type=Path, metavar="OUT")
    synth.add_argument("--patients", type=int, required=True)
    synth.add_argument("--seed", type=int, default=0)
    synth.add_argument("--side-px", type=int, default=3072, help="slide side, px")
    synth.add_argument("--mpp", type=float, default=0.5, help="um per pixel")
    train = _command(commands, "train", train_, "pre-train or fine-tune a model")
    train.add_argument("run", type=Path, metavar="RUN.toml")
    train.add_argument("--resume", action="store_true", help="go on where it stopped")
    evaluate = _command(commands, "evaluate", evaluate_, "measure a trained run")
    evaluate.add_argument("run", type=Path, metavar="RUN", help="a run's folder")
    evaluate.add_argument("--json", action="store_true")
    export = _command(commands, "export", export_, "write a run's model for others")
    export.add_argument("run", type=Path, metavar="RUN", help="an evaluated run")
    export.add_argument("--out", type=Path, required=True, metavar="DIR")
    export.add_argument("--description", required=True, help="purpose and limits")
    export.add_argument("--licence", required=True, help="licence of the weights")


def _command(commands: Any, name: str, run: Command, text: str) -> Any:
    sub = commands.add_parser(name, help=text, description=text)
    sub.set_defaults(command=run)
    return sub


def demo_(arguments: argparse.Namespace) -> None:
    """Run the main job on the sample: in the viewer, or headless to a report."""
    from napari_gimp.sample_data import sample_genes, sample_slide

    print("Making the sample slide (kept for the next time) ...", flush=True)
    slide, genes = sample_slide(), sample_genes()
    if not arguments.headless and _has_display():
        from napari_gimp.desktop import open_desktop

        open_desktop(slide, genes=genes, sample="SAMPLE", start=True)
    else:
        request = _request(slide=slide, model="demo", genes=genes, sample="SAMPLE")
        _run_to_report(request, arguments.out)


def doctor_(arguments: argparse.Namespace) -> None:
    """Say what is installed, what is missing and how to get it."""
    from napari_gimp.doctor import as_json, as_text, examine

    findings = examine()
    print(as_json(findings) if arguments.json else as_text(findings))


def info_(arguments: argparse.Namespace) -> None:
    """Describe a slide."""
    from napari_gimp.slide.describe import describe
    from napari_gimp.slide.source import open_slide

    with open_slide(arguments.slide, mpp=arguments.mpp) as source:
        facts = describe(source)
    if arguments.json:
        print(json.dumps(facts, indent=1))
    else:
        print("\n".join(f"{name:>12}  {value}" for name, value in facts.items()))


def view_(arguments: argparse.Namespace) -> None:
    """Open a slide in napari, with the docks."""
    from napari_gimp.desktop import open_desktop
    from napari_gimp.slide.source import open_slide

    open_slide(arguments.slide).close()  # refuse what is no slide before napari starts
    if not _has_display() and "QT_QPA_PLATFORM" not in os.environ:
        raise GimpError(  # Qt would abort the whole process
            "There is no display to open a window on (DISPLAY and WAYLAND_DISPLAY are "
            "not set). Log in to a desktop or use `ssh -X`; `napari-gimp info` and "
            "`napari-gimp run` need no display."
        )
    open_desktop(arguments.slide)


def models_(arguments: argparse.Namespace) -> None:
    """List the models with what they are for."""
    from napari_gimp.explain.models import list_models

    models = list_models()
    if arguments.json:
        print(json.dumps([m.as_dict() for m in models], indent=1))
    else:
        print("\n\n".join(map(_card_text, models)))


def _card_text(model: ListedModel) -> str:
    card = model.card
    facts = (
        f"{model.name}: {model.summary}",
        f"  patches  {card['patch_um']:g} um at {card['mpp']:g} um/px",
        f"  genes    {len(card['genes'])}",
        f"  licence  {card['licence']}",
        f"  folder   {model.path}",
    )
    return "\n".join(facts)


def run_(arguments: argparse.Namespace) -> None:
    """Run a model on a slide and write maps, attributions and a report."""
    names = ("slide", "model", "genes", "sample", "pseudobulk", "mpp", "store")
    wanted = {name: getattr(arguments, name) for name in names}
    request = _request(
        **wanted, device=arguments.device, batch_size=arguments.batch_size
    )
    result = _run_to_report(request, arguments.out, quiet=arguments.json)
    if arguments.json:
        print((arguments.out / "result.json").read_text(encoding="utf-8"))
    else:
        _print_result(result)


def features_(arguments: argparse.Namespace) -> None:
    """Compute the patch features of slides into a store."""
    from napari_gimp.patches.extract import extract
    from napari_gimp.patches.store import FeatureStore

    store = FeatureStore(arguments.out)
    encoder, device = _encoder(arguments)
    for path in arguments.slides:
        with ExitStack() as stack:
            source, patches = _patches(path, arguments.mpp, stack)
            steps = extract(source, patches, encoder, store=store, device=device)
            for _ in _with_bar(((s.done, s.total, s) for s in steps), path.name):
                pass
        print(f"{path.name}: {len(patches)} patches of {patches.patch_um:g} um")


def synth_(arguments: argparse.Namespace) -> None:
    """Make a synthetic cohort: slides, genes, manifest and planted truth."""
    from napari_gimp.synthetic.cohort import make_cohort

    with _Bar("slides") as bar:
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

    run = RunConfig.read(arguments.run)
    with _Bar("features") as bar:
        print(train(run, resume=arguments.resume, watch=partial(_show_event, bar)))


def _show_event(bar: _Bar, event: Event) -> None:
    """Show how a training goes: a bar for slides, a line for each epoch."""
    if event.kind == "features":
        bar.to(event.step, event.total)
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


def _request(**fields: Any) -> Request:
    from napari_gimp.explain.inference import Request

    return Request(**fields)


def _run_to_report(request: Request, out: Path, *, quiet: bool = False) -> Result:
    """Analyse, then write result and report together or not at all."""
    from napari_gimp.explain.inference import Finished, Progress, analyse
    from napari_gimp.export import check_out, write_result

    check_out(out)
    finished: Finished | None = None
    with _Bar("") as bar:
        for event in analyse(request):
            if isinstance(event, Progress):
                bar.to(event.done, event.total, event.stage)
            elif isinstance(event, Finished):
                finished = event
    assert finished is not None, "analyse ends with Finished or raises"
    write_result(finished.result, out)
    if not quiet:
        print(f"Report: {(out / 'report.html').resolve()}")
    return finished.result


def _print_result(result: Result) -> None:
    for name, probability in zip(result.classes, result.probabilities, strict=True):
        print(f"{name:>20}  {probability:6.1%}")
    for warning in result.warnings:
        print(f"warning: {warning}", file=sys.stderr)


def _encoder(arguments: argparse.Namespace) -> tuple[Any, str]:
    from napari_gimp.explain.setting import pick_device
    from napari_gimp.patches.encoders import load_encoder

    return load_encoder(arguments.encoder), pick_device(arguments.device)


def _patches(path: Path, mpp: float | None, stack: ExitStack) -> tuple[Any, Any]:
    from napari_gimp.patches.grid import lay_patches
    from napari_gimp.patches.tissue import find_tissue
    from napari_gimp.slide.source import open_slide

    source = stack.enter_context(open_slide(path, mpp=mpp))
    return source, lay_patches(find_tissue(source))


def _has_display() -> bool:
    on_screen = {"darwin", "win32"}
    named = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    return sys.platform in on_screen or bool(named)


def _with_bar(steps: Iterable[tuple[int, int, Any]], text: str) -> Iterator[Any]:
    with _Bar(text) as bar:
        for done, total, step in steps:
            bar.to(done, total)
            yield step


class _Bar:
    """A tqdm bar that is told where it is; silent where stderr is no terminal."""

    def __init__(self, text: str) -> None:
        from tqdm import tqdm

        self._bar = tqdm(desc=text, disable=None, file=sys.stderr, leave=False)
        self._text = text  # a silent bar keeps none

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *exc: object) -> None:
        self._bar.close()

    def to(self, done: int, total: int, text: str | None = None) -> None:
        """Show `done` of `total`; a new text begins a new stage."""
        if text and text != self._text:
            self._text = text
            self._bar.reset(total)
            self._bar.set_description_str(text, refresh=False)
        self._bar.total = total
        self._bar.update(done - self._bar.n)


if __name__ == "__main__":
    sys.exit(main())
