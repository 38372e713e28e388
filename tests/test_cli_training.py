"""The commands of a training, one after the other, as a user types them."""

from __future__ import annotations

from pathlib import Path

import pytest

from napari_gimp.cli import main

RUN = """
stage = "pretrain"
manifest = "cohort/manifest.csv"
genes = "cohort/genes.csv"
out = "run"
[plan]
epochs = 2
batch = 6
folds = 3
warmup = 0
"""


@pytest.mark.slow
def test_a_cohort_is_made_and_trained_on_with_a_line_for_each_epoch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cohort = ("--patients", "9", "--seed", "3", "--side-px", "1024")
    assert main(["synth", str(tmp_path / "cohort"), *cohort]) == 0
    (tmp_path / "run.toml").write_text(RUN)

    assert main(["train", str(tmp_path / "run.toml")]) == 0

    told = capsys.readouterr()
    assert told.out.splitlines()[-1] == str(tmp_path / "run")
    lines = [line for line in told.err.splitlines() if line.startswith("epoch ")]
    assert [line.split()[1] for line in lines] == ["1/2", "2/2"]
    assert all("patches_trivial" in line for line in lines)
    assert "Gene table: 9 samples x " in told.err
