from __future__ import annotations

import argparse
import json

import pytest

from napari_gimp.commands import encoders
from napari_gimp.patches.encoders import encoder_facts


def run(*words: str) -> None:
    parser = argparse.ArgumentParser()
    encoders.add_commands(parser.add_subparsers(required=True))
    arguments = parser.parse_args(["encoders", *words])
    arguments.command(arguments)


def test_the_command_lists_each_encoder_on_a_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run()

    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == list(encoders.HEADS)
    names = [line.split()[0] for line in lines[1 : lines.index("")]]
    assert names == [facts.name for facts in encoder_facts()]
    assert all(len(line) <= 88 for line in lines)


def test_json_tells_where_to_ask_for_access(capsys: pytest.CaptureFixture[str]) -> None:
    run("--json")

    listed = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert listed["uni"]["page"] == "https://huggingface.co/MahmoodLab/UNI"
    assert listed["uni"]["access"] == "gated"
    assert listed["default"]["access"] == "included"
