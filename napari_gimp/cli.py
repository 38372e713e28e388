"""The command line: the same functions as the docks, without a display.

Exit 0 on success, 2 for what the user can mend (one clear text on stderr), 130
when interrupted. Progress bars on a terminal, none in a pipe. `--json` prints
what a program may want to read.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence

from napari_gimp import __version__
from napari_gimp.commands import (
    analysis,
    encoders,
    exchange,
    features,
    segmentation,
    slides,
    training,
)
from napari_gimp.errors import GimpError


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
    slides.add_commands(commands)
    features.add_commands(commands)
    encoders.add_commands(commands)
    exchange.add_commands(commands)
    analysis.add_commands(commands)
    segmentation.add_commands(commands)
    training.add_commands(commands)
    return top


if __name__ == "__main__":
    sys.exit(main())
