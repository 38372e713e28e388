"""Commands and options that several groups share."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

Command = Callable[[argparse.Namespace], None]


def add_command(commands: Any, name: str, run: Command, text: str) -> Any:
    """Add a command to argparse's subparsers and return its parser."""
    sub = commands.add_parser(name, help=text, description=text)
    sub.set_defaults(command=run)
    return sub


PATIENT = ("slide", "genes", "sample", "pseudobulk")
"""What `add_patient_options` and the slide's path say of the patient."""


def add_patient_options(sub: Any) -> None:
    """Add where the patient's genes are: `--genes`, `--sample`, `--pseudobulk`."""
    sub.add_argument("--genes", type=Path, help="expression table")
    who = sub.add_mutually_exclusive_group()
    who.add_argument("--sample", help="row (or column) of the table")
    who.add_argument(
        "--pseudobulk",
        action="store_true",
        help="sum all rows of a counts table (spots or cells of this patient)",
    )


def add_slide_options(sub: Any) -> None:
    """Add how a slide is opened: `--mpp` and `--srgb`."""
    sub.add_argument("--mpp", type=float, help="um per level-0 pixel")
    sub.add_argument(
        "--srgb",
        action="store_true",
        help="convert colours from the slide's ICC profile to sRGB, if it has one",
    )
