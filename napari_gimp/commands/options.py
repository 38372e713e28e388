"""Commands and options that several groups share."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

Command = Callable[[argparse.Namespace], None]


def add_command(commands: Any, name: str, run: Command, text: str) -> Any:
    """Add a command to argparse's subparsers and return its parser."""
    sub = commands.add_parser(name, help=text, description=text)
    sub.set_defaults(command=run)
    return sub


def add_slide_options(sub: Any) -> None:
    """Add how a slide is opened: `--mpp` and `--srgb`."""
    sub.add_argument("--mpp", type=float, help="um per level-0 pixel")
    sub.add_argument(
        "--srgb",
        action="store_true",
        help="convert colours from the slide's ICC profile to sRGB, if it has one",
    )
