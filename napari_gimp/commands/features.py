"""The command `features`: patch features of slides, folders and manifests."""

from __future__ import annotations

import argparse
import json
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_gimp.cohorts.features import extract_manifest
from napari_gimp.cohorts.states import SlideState, State, tally
from napari_gimp.commands.options import (
    add_command,
    add_plan_options,
    add_slide_options,
    plan_of,
)
from napari_gimp.commands.progress import Bar, silence_damage_log
from napari_gimp.commands.workers import add_cluster_options, cluster_of
from napari_gimp.errors import CohortError, GimpError

if TYPE_CHECKING:
    from napari_gimp.cohorts.extraction import Recipe
    from napari_gimp.cohorts.manifest import Entry
    from napari_gimp.patches.plan import PatchPlan


def add_commands(commands: Any) -> None:
    """Add features."""
    sub = add_command(commands, "features", features_, "compute patch features")
    sub.add_argument(
        "slides",
        type=Path,
        nargs="+",
        metavar="MANIFEST|SLIDE|FOLDER",
        help="a table with the columns patient and slide (.csv, .tsv), slides, "
        "patterns, or folders of slides",
    )
    sub.add_argument("--encoder", default="default")
    add_slide_options(sub)
    sub.add_argument("--out", type=Path, required=True, metavar="STORE")
    sub.add_argument("--device", default="auto", help="auto, cpu, cuda, mps")
    sub.add_argument(
        "--retries", type=int, default=1, help="how often a slide is tried again"
    )
    sub.add_argument("--json", action="store_true")
    add_plan_options(sub, many=True)
    add_cluster_options(sub)


def features_(arguments: argparse.Namespace) -> None:
    """Compute the patch features of slides into a store; a bad slide stops no other.

    With `--json` the slides' paths, patients, last states and plans are printed.

    Raises
    ------
    CohortError
        If a manifest cannot be used, or slides failed, are damaged, or lost their
        workers: after all the others.
    """
    from napari_gimp.cohorts.listing import list_slides

    silence_damage_log()
    entries = list_slides(arguments.slides)
    _check_areas(arguments, entries)
    recipe = _recipe(arguments)
    last: dict[int, SlideState] = {}
    ends: list[SlideState] = []
    try:
        with cluster_of(arguments) as cluster:
            steps = extract_manifest(
                entries, recipe, retries=arguments.retries, cluster=cluster
            )
            _follow(steps, entries, last)
    finally:
        if any(state.state is not State.QUEUED for state in last.values()):
            ends += [_ended(last.get(k), k) for k in range(len(entries))]
            if arguments.json:
                _print_json(entries, ends, recipe.plan)
            else:
                _print_table(entries, ends)
    _raise_failures(entries, ends)


def _recipe(arguments: argparse.Namespace) -> Recipe:
    from napari_gimp.cohorts.extraction import Recipe, loaded_encoder
    from napari_gimp.explain.setting import pick_device

    elsewhere = arguments.scheduler or arguments.slurm
    return Recipe(
        arguments.encoder,
        loaded_encoder(arguments.encoder).fingerprint,
        arguments.out.resolve(),
        device=arguments.device if elsewhere else pick_device(arguments.device),
        mpp=arguments.mpp,
        srgb=arguments.srgb,
        plan=plan_of(arguments, many=True),
    )


def _check_areas(arguments: argparse.Namespace, entries: Sequence[Entry]) -> None:
    """Refuse the areas of one slide for many."""
    given = [arguments.tissue, *arguments.include, *arguments.exclude]
    files = [path for path in given if path and path.is_file()]
    if files and len(entries) > 1:
        raise CohortError(
            f"{files[0]} is one file for {len(entries)} slides, and areas belong to "
            "one. Give a folder with a file called as each slide, or the columns "
            "tissue, include, exclude of a manifest."
        )


def _follow(
    steps: Generator[SlideState, None, None],
    entries: Sequence[Entry],
    last: dict[int, SlideState],
) -> None:
    """Go through an extraction with a bar; note each slide's last state in `last`."""
    with Bar("slides") as bar, closing(steps):
        for state in steps:
            last[state.number] = state
            bar.to(*_progress(last, len(entries)))


def _progress(last: Mapping[int, SlideState], count: int) -> tuple[int, int, str]:
    """Return done, total and text for a bar: patches of all slides that have begun."""
    if len(last) < count:
        return len(last), count, "looking into slides"
    ended = sum(one.ended for one in last.values())
    done, total = (sum(getattr(s, n) for s in last.values()) for n in ("done", "total"))
    return done, total or 1, f"patches ({ended} of {count} slides)"


def _print_table(entries: Sequence[Entry], ends: Sequence[SlideState]) -> None:
    """Print a line for each slide, and how many ended how."""
    wide = max(len(entry.slide.name) for entry in entries)
    for entry, state in zip(entries, ends, strict=True):
        patches = f"{state.done:,} of {state.total:,}" if state.total else "-"
        line = f"{entry.slide.name:{wide}}  {state.state:9} {patches:>15} patches"
        print(f"{line}  {state.seconds:7.1f} s  {entry.patient}".rstrip())
    plural = "slide" if len(entries) == 1 else "slides"
    print(f"{len(entries)} {plural}: {tally(ends)}")


def _print_json(
    entries: Sequence[Entry], ends: Sequence[SlideState], plan: PatchPlan
) -> None:
    told = [
        {
            "slide": str(entry.slide),
            "patient": entry.patient,
            **state.as_dict(),
            "plan": _record(entry, plan),
        }
        for entry, state in zip(entries, ends, strict=True)
    ]
    print(json.dumps(told, indent=1))


def _record(entry: Entry, plan: PatchPlan) -> dict[str, object]:
    """Return a slide's plan; of one whose areas are missing the state says so."""
    from napari_gimp.cohorts.plans import plan_for

    with suppress(GimpError):
        return plan_for(entry, plan).record()
    return {}


def _ended(state: SlideState | None, number: int) -> SlideState:
    """Return a last state; what has not ended by now was cancelled."""
    state = state or SlideState(number, State.CANCELLED)
    return state if state.ended else replace(state, state=State.CANCELLED)


def _raise_failures(entries: Sequence[Entry], ends: Sequence[SlideState]) -> None:
    """Tell which slides have no whole features in the store, and why."""
    lost = [state for state in ends if state.state not in (State.DONE, State.STORED)]
    if lost:
        reasons = [_reason(entries[state.number].slide, state) for state in lost]
        rest = ": the others are in the store" if len(lost) < len(ends) else ""
        slides = "slide has" if len(ends) == 1 else "slides have"
        raise CohortError(
            f"{len(lost)} of {len(ends)} {slides} no whole features:\n- "
            + "\n- ".join(reasons)
            + f"\nMend them or leave them out, and run the command again{rest}."
        )


def _reason(slide: Path, state: SlideState) -> str:
    return f"{slide}: {state.text.removeprefix(f'{slide.name}: ') or state.state}"
