"""Commands that run models: demo, run, models, doctor."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_gimp.commands.options import (
    PATIENT,
    add_command,
    add_patient_options,
    add_plan_options,
    add_slide_options,
    plan_of,
)
from napari_gimp.commands.progress import Bar, silence_damage_log

if TYPE_CHECKING:
    from napari_gimp.explain.inference import Event, Request
    from napari_gimp.explain.models import ListedModel
    from napari_gimp.explain.result import Result

ASKED = (*PATIENT, "model", "mpp", "srgb", "store", "device", "batch_size")
"""Options of `run` that are fields of a `Request` under the same name."""


def add_commands(commands: Any) -> None:
    """Add demo, doctor, models and run."""
    demo = add_command(
        commands, "demo", demo_, "run the main job on the built-in sample"
    )
    demo.add_argument("--headless", action="store_true", help="write a report instead")
    demo.add_argument("--out", type=Path, default=Path("demo-report"), metavar="DIR")
    doctor = add_command(
        commands, "doctor", doctor_, "say what is installed and missing"
    )
    doctor.add_argument("--json", action="store_true")
    models = add_command(
        commands, "models", models_, "list the shipped models and the architectures"
    )
    models.add_argument("--json", action="store_true")
    _add_run(commands)


def _add_run(commands: Any) -> None:
    run = add_command(commands, "run", run_, "run a model on a slide (and genes)")
    run.add_argument("slide", type=Path)
    run.add_argument("--model", default="demo", help="name or folder of a checkpoint")
    add_patient_options(run)
    add_slide_options(run)
    add_plan_options(run)
    run.add_argument("--out", type=Path, required=True, metavar="DIR")
    run.add_argument("--store", type=Path, help="folder that keeps features")
    run.add_argument("--device", default="auto", help="auto, cpu, cuda, mps")
    run.add_argument(
        "--batch-size", type=int, help="patches per step; as many as memory takes"
    )
    run.add_argument("--json", action="store_true")


def demo_(arguments: argparse.Namespace) -> None:
    """Run the main job on the sample: in the viewer, or headless to a report."""
    from napari_gimp.desktop import has_display, open_desktop
    from napari_gimp.sample_data import sample_genes, sample_slide

    print("Making the sample slide (kept for the next time) ...", flush=True)
    slide, genes = sample_slide(), sample_genes()
    if not arguments.headless and has_display():
        open_desktop(slide, genes=genes, sample="SAMPLE", start=True)
    else:
        request = _request(slide=slide, model="demo", genes=genes, sample="SAMPLE")
        _run_to_report(request, arguments.out)


def doctor_(arguments: argparse.Namespace) -> None:
    """Say what is installed, what is missing and how to get it."""
    from napari_gimp.doctor import as_json, as_text, examine

    findings = examine()
    print(as_json(findings) if arguments.json else as_text(findings))


def models_(arguments: argparse.Namespace) -> None:
    """List the shipped models, and the architectures a model can be of."""
    from gimp_models.registry import MODELS

    from napari_gimp.explain.models import list_models

    models = [model.as_dict() for model in list_models()]
    architectures = [architecture.as_dict() for architecture in MODELS.values()]
    if arguments.json:
        both = {"models": models, "architectures": architectures}
        print(json.dumps(both, indent=1, ensure_ascii=False))
    else:
        print("Shipped models\n")
        print("\n\n".join(map(_card_text, list_models())))
        print("\nArchitectures\n")
        print("\n\n".join(map(_architecture_text, architectures)))


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


def _architecture_text(card: dict[str, Any]) -> str:
    sizes = (f"{name} {count / 1e6:.1f} M" for name, count in card["sizes"].items())
    given = ", ".join(
        f"{name.replace('_', ' ')} {count:,}" for name, count in card["typical"].items()
    )
    facts = (
        f"{card['name']}: {card['title']}. {card['summary']}",
        f"  takes    {card['inputs']}",
        f"  returns  {card['outputs']}",
        f"  sizes    {', '.join(sizes)} parameters ({given})",
        f"  source   {card['source']}",
        f"  licence  {card['licence']}",
    )
    return "\n".join(facts)


def run_(arguments: argparse.Namespace) -> None:
    """Run a model on a slide and write maps, attributions and a report."""
    wanted = {name: getattr(arguments, name) for name in ASKED}
    request = _request(**wanted, plan=plan_of(arguments))
    silence_damage_log()
    result = _run_to_report(request, arguments.out, quiet=arguments.json)
    if arguments.json:
        print((arguments.out / "result.json").read_text(encoding="utf-8"))
    else:
        _print_probabilities(result)


def _request(**fields: Any) -> Request:
    from napari_gimp.explain.inference import Request

    return Request(**fields)


def _run_to_report(request: Request, out: Path, *, quiet: bool = False) -> Result:
    """Analyse, then write result and report together or not at all.

    Warnings are printed once, those that are known early before the model runs.
    """
    from napari_gimp.explain.inference import analyse
    from napari_gimp.export import check_out, write_result

    check_out(out)
    told: set[str] = set()
    with Bar("") as bar:
        result = _followed(analyse(request), bar, told, quiet)
    write_result(result, out)
    if not quiet:
        print(f"Report: {(out / 'report.html').resolve()}")
        for text in result.warnings:
            if text not in told:
                print(f"warning: {text}", file=sys.stderr)
    return result


def _followed(events: Iterable[Event], bar: Bar, told: set[str], quiet: bool) -> Result:
    """Show an analysis as it goes, note in `told` what was printed; return its end."""
    from napari_gimp.explain.inference import Finished, Progress, Warned

    for event in events:
        if isinstance(event, Progress):
            bar.to(event.done, event.total, event.stage)
        elif isinstance(event, Warned) and not quiet:
            bar.say(f"warning: {event.text}")
            told.add(event.text)
        elif isinstance(event, Finished):
            return event.result
    raise AssertionError("analyse ends with Finished or raises")


def _print_probabilities(result: Result) -> None:
    for name, probability in zip(result.classes, result.probabilities, strict=True):
        print(f"{name:>20}  {probability:6.1%}")
