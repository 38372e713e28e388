"""The command that draws tissue classes on a whole slide: segment."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_gimp.commands.options import (
    PATIENT,
    add_area_options,
    add_command,
    add_patient_options,
    add_slide_options,
    plan_of,
)
from napari_gimp.commands.progress import Bar, silence_damage_log

if TYPE_CHECKING:
    from napari_gimp.explain.segmentation import Event, Segmentation


def add_commands(commands: Any) -> None:
    """Add segment."""
    segment = add_command(
        commands, "segment", segment_, "draw tissue classes on a slide with MGI"
    )
    segment.add_argument("slide", type=Path)
    segment.add_argument(
        "--model", required=True, help="folder of a fine-tuned MGI checkpoint"
    )
    add_patient_options(segment)
    add_slide_options(segment)
    add_area_options(segment)
    segment.add_argument(
        "--threshold",
        type=float,
        default=0.5,
        help="probability from which a pixel counts as of a class (0.5)",
    )
    segment.add_argument("--out", type=Path, required=True, metavar="DIR")
    segment.add_argument("--device", default="auto", help="auto, cpu, cuda, mps")
    segment.add_argument("--batch-size", type=int, default=8, help="tiles at once")
    segment.add_argument("--json", action="store_true")


def segment_(arguments: argparse.Namespace) -> None:
    """Write a probability map, contours and areas of a slide."""
    from napari_gimp.explain.setting import Request
    from napari_gimp.segmented import segment_into

    silence_damage_log()
    names = (*PATIENT, "model", "mpp", "srgb", "device", "batch_size")
    wanted = {name: getattr(arguments, name) for name in names}
    request = Request(**wanted, plan=plan_of(arguments))
    events = segment_into(arguments.out, request, threshold=arguments.threshold)
    with Bar("") as bar, closing(events):
        found = _followed(events, bar, quiet=arguments.json)
    if arguments.json:
        print((arguments.out / "result.json").read_text(encoding="utf-8"))
    else:
        _print_areas(found)
        print(f"Map: {(arguments.out / 'probability.zarr').resolve()}")


def _followed(events: Iterable[Event], bar: Bar, *, quiet: bool) -> Segmentation:
    """Show a segmentation as it goes; return its end."""
    from napari_gimp.explain.inference import Progress, Warned
    from napari_gimp.explain.segmentation import Segmentation

    told: set[str] = set()
    for event in events:
        if isinstance(event, Progress):
            bar.to(event.done, event.total, event.stage)
        elif isinstance(event, Warned) and not quiet:
            bar.say(f"warning: {event.text}")
            told.add(event.text)
        elif isinstance(event, Segmentation):
            last = event
    if not quiet:
        for text in last.warnings:
            if text not in told:
                print(f"warning: {text}", file=sys.stderr)
    return last


def _print_areas(found: Segmentation) -> None:
    """Print the tissue and each class; a background is mostly glass, so it is not."""
    from napari_gimp.segmented import shown_classes

    print(f"{'tissue':>20}  {found.tissue_mm2:8.2f} mm2")
    for name in shown_classes(found.classes).values():
        area = found.area_mm2[name]
        print(f"{name:>20}  {area:8.2f} mm2 from {found.threshold:g} on")
