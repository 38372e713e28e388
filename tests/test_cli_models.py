"""Models on the command line: what is listed, and what a command cannot use."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from gimp_models.card import Card
from gimp_models.checkpoint import save
from gimp_models.registry import MODELS
from gimp_models.subspace import Subspace, SubspaceConfig

from napari_gimp.cli import main
from napari_gimp.errors import CheckpointError
from napari_gimp.explain.inference import Request, analyse

GENES = 12
RUN = """
stage = "{stage}"
manifest = "cohort/manifest.csv"
genes = "cohort/genes.csv"
out = "run"
{more}
"""


@pytest.fixture
def subspace(tmp_path: Path) -> Path:
    """A whole checkpoint of another architecture than GiMP."""
    config = SubspaceConfig.preset(
        "tiny",
        **{"patch_features": 192, "genes": GENES, "classes": 2},
        tumour_genes=(0, 1, 2, 3),
        micro_genes=tuple(range(4, GENES)),
    )
    card = Card(
        stage="finetune",
        classes=("G2", "G3"),
        genes=tuple(f"GENE{k}" for k in range(GENES)),
        gene_mean=(0.0,) * GENES,
        gene_sd=(1.0,) * GENES,
        encoder={"name": "default", "fingerprint": "abc", "width": 192},
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        save(tmp_path / "glioma", Subspace(config), card)
    return tmp_path / "glioma"


def refuse(capsys: pytest.CaptureFixture[str], *argv: object) -> str:
    """Run a command that must exit with 2 and say so in one line."""
    assert main([str(a) for a in argv]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("napari-gimp: ")
    assert len(printed.err.splitlines()) == 1
    return printed.err


def says_which(text: str, folder: Path) -> None:
    assert f"{folder} is of the architecture subspace, it must be gimp" in text
    assert "GiMP" in text


def test_models_lists_shipped_checkpoints_and_architectures_as_json(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["models", "--json"]) == 0

    told = json.loads(capsys.readouterr().out)

    assert [model["name"] for model in told["models"]] == ["demo"]
    assert {card["name"] for card in told["architectures"]} == set(MODELS)
    for card in told["architectures"]:
        assert card["sizes"]["tiny"] < card["sizes"]["base"]
        assert card["source"]
        assert card["choices"]


def test_models_tells_people_sizes_and_licence(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["models"]) == 0

    told = capsys.readouterr().out

    for architecture in MODELS.values():
        assert f"{architecture.name}: {architecture.title}" in told
    assert "genes 20,530" in told
    assert told.count("licence") >= 1 + len(MODELS)


def test_run_refuses_a_model_of_another_architecture(
    subspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ("--model", subspace, "--out", tmp_path / "out")
    says_which(refuse(capsys, "run", tmp_path / "slide.svs", *where), subspace)
    assert not (tmp_path / "out").exists()


def test_an_analysis_refuses_it_before_the_slide_is_opened(
    subspace: Path, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError) as caught:
        list(analyse(Request(tmp_path / "absent.svs", subspace)))
    says_which(str(caught.value), subspace)


def test_training_refuses_to_start_from_it(
    subspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run.toml").write_text(
        RUN.format(stage="finetune", more='start = "glioma"')
    )
    says_which(refuse(capsys, "train", tmp_path / "run.toml"), subspace)


def test_evaluate_refuses_a_run_that_holds_it(
    subspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    best = tmp_path / "run" / "checkpoints" / "best"
    best.parent.mkdir(parents=True)
    subspace.rename(best)
    (tmp_path / "run" / "run.toml").write_text(RUN.format(stage="finetune", more=""))

    says_which(refuse(capsys, "evaluate", tmp_path / "run"), best)


def test_segment_refuses_what_is_no_mgi(
    subspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ("--model", subspace, "--out", tmp_path / "out")
    text = refuse(capsys, "segment", tmp_path / "slide.svs", *where)
    assert "is of the architecture subspace, it must be mgi" in text
    assert not (tmp_path / "out").exists()
