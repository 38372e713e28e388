"""The command `encoders`: what can turn patches into features."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from napari_gimp.commands.options import add_command

if TYPE_CHECKING:
    from napari_gimp.patches.encoders import EncoderFacts

HEADS = ("name", "features", "input", "um/px", "patch", "access", "licence")
MORE = """
--encoder also takes PRESET=FILE (your copy of its weights), timm:NAME@UM_PER_PX, and
the path of a .safetensors, .pt, TorchScript or torch.export file, or of a folder of
timm or transformers; any may end in @UM_PER_PX. Where to ask for gated ones: --json"""


def add_commands(commands: Any) -> None:
    """Add encoders."""
    sub = add_command(commands, "encoders", encoders_, "list the patch encoders")
    sub.add_argument("--json", action="store_true")


def encoders_(arguments: argparse.Namespace) -> None:
    """List the included encoders and the presets; nothing is loaded or fetched.

    JSON is a list of `EncoderFacts`, with its fields as keys.
    """
    from napari_gimp.patches.encoders import encoder_facts

    facts = encoder_facts()
    if arguments.json:
        print(json.dumps([asdict(one) for one in facts], indent=1))
    else:
        print("\n".join(_table([HEADS, *map(_row, facts)])) + f"\n{MORE}")


def _row(facts: EncoderFacts) -> tuple[str, ...]:
    return (
        facts.name,
        f"{facts.width}",
        f"{facts.input_px} px",
        f"{facts.mpp:.3g}",
        f"{facts.patch_um:.4g} um",
        facts.access,
        facts.licence,
    )


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    """Return rows as lines, each column as wide as its widest text."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            text.ljust(width) for text, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in rows
    ]
