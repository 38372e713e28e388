"""Commands and options that several groups share."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_gimp.errors import PatchError

if TYPE_CHECKING:
    from napari_gimp.patches.plan import PatchPlan

Command = Callable[[argparse.Namespace], None]


def add_command(commands: Any, name: str, run: Command, text: str) -> Any:
    """Add a command to argparse's subparsers and return its parser."""
    sub = commands.add_parser(name, help=text, description=text)
    sub.set_defaults(command=run)
    return sub


PATIENT = ("slide", "genes", "sample", "pseudobulk", "allow_missing")
"""What `add_patient_options` and the slide's path say of the patient."""


def add_patient_options(sub: Any) -> None:
    """Add where the patient's genes are: `--genes` to `--allow-missing`."""
    sub.add_argument("--genes", type=Path, help="expression table")
    who = sub.add_mutually_exclusive_group()
    who.add_argument("--sample", help="row (or column) of the table")
    who.add_argument(
        "--pseudobulk",
        action="store_true",
        help="sum all rows of a counts table (spots or cells of this patient)",
    )
    sub.add_argument(
        "--allow-missing",
        action="store_true",
        help="run even where the table lacks much of the model's genes",
    )


def add_slide_options(sub: Any) -> None:
    """Add how a slide is opened: `--mpp` and `--srgb`."""
    sub.add_argument("--mpp", type=float, help="um per level-0 pixel")
    sub.add_argument(
        "--srgb",
        action="store_true",
        help="convert colours from the slide's ICC profile to sRGB, if it has one",
    )


def add_plan_options(sub: Any, *, many: bool = False) -> None:
    """Add which patches are looked at: `--tissue` to `--min-tissue`; see `plan_of`.

    Parameters
    ----------
    sub, many
        As in `add_area_options`.
    """
    plan = add_area_options(sub, many=many)
    plan.add_argument(
        "--stride", type=float, metavar="UM", help="um from patch to patch; the side"
    )
    plan.add_argument(
        "--min-tissue",
        type=float,
        default=0.5,
        metavar="FRACTION",
        help="least part of a patch that is tissue, 0 to 1; 0.5",
    )


def add_area_options(sub: Any, *, many: bool = False) -> Any:
    """Add which parts of a slide are looked at; return the group of these options.

    Parameters
    ----------
    sub
        The command's parser.
    many
        Whether the command takes many slides, so that a folder holds a file for each.
    """
    sub.set_defaults(stride=None, min_tissue=0.5)
    each = "; or a folder with one named as each slide" if many else ""
    area = f"FILE{'|FOLDER' if many else ''}"
    plan = sub.add_argument_group("areas", "where to look; all are optional")
    plan.add_argument(
        "--tissue",
        type=Path,
        metavar=area,
        help=f"mask image of the tissue, in place of what is found{each}",
    )
    for name, what in (("include", "look only inside"), ("exclude", "leave out")):
        plan.add_argument(
            f"--{name}",
            type=Path,
            action="append",
            default=[],
            metavar=area,
            help=f"{what} these QuPath annotations (GeoJSON) or this mask{each}; "
            "may be repeated",
        )
        plan.add_argument(
            f"--{name}-class",
            action="append",
            default=[],
            metavar="NAME",
            help=f"class of --{name} that counts; may be repeated; default all",
        )
    return plan


def plan_of(arguments: argparse.Namespace, *, many: bool = False) -> PatchPlan:
    """Return the plan that options have told, its paths absolute.

    Parameters
    ----------
    arguments
        The command line.
    many
        Whether slides may bring areas of their own, as those of a manifest do.

    Raises
    ------
    PatchError
        If a value is out of range, a file is not there, or classes have no file.
    """
    from napari_gimp.patches.plan import PatchPlan

    for which in ("include", "exclude"):
        _check_areas(which, getattr(arguments, which))
        labels = getattr(arguments, f"{which}_class")
        if labels and not many and not getattr(arguments, which):
            raise PatchError(
                f"The classes {', '.join(labels)} to {which} need the file that has "
                f"them: give the annotations or the mask to --{which}, too."
            )
    _check_areas("tissue", [arguments.tissue] if arguments.tissue else [])
    tissue = arguments.tissue
    return PatchPlan(
        stride_um=arguments.stride,
        min_tissue=arguments.min_tissue,
        tissue=tissue.resolve() if tissue else None,
        include=tuple(path.resolve() for path in arguments.include),
        exclude=tuple(path.resolve() for path in arguments.exclude),
        include_labels=tuple(arguments.include_class),
        exclude_labels=tuple(arguments.exclude_class),
    )


def _check_areas(option: str, paths: Sequence[Path]) -> None:
    absent = [str(path) for path in paths if not path.exists()]
    if absent:
        raise PatchError(
            f"--{option} {', '.join(absent)} does not exist. Give the path of "
            "annotations (GeoJSON) or of a mask image."
        )
