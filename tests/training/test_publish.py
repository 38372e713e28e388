from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from gimp_models.card import Card
from gimp_models.checkpoint import load, read_card
from safetensors import safe_open

from napari_gimp.cli import main
from napari_gimp.errors import RunError
from napari_gimp.planted import measure_planted
from napari_gimp.publish import publish
from napari_gimp.synthetic.cohort import make_cohort
from napari_gimp.training.evaluate import evaluate
from napari_gimp.training.loop import train
from napari_gimp.training.plan import Plan
from napari_gimp.training.run import RunConfig
from napari_gimp.training.state import OPTIMIZER, TRAINING

WORDS = {"description": "For tests; not for patients.", "licence": "CC0-1.0"}


@pytest.fixture
def trained(drawn: Any, tmp_path: Path) -> Any:
    run = drawn.run(tmp_path / "run", stage="finetune", plan={"epochs": 1})
    train(run)
    return run


@pytest.fixture
def evaluated(trained: Any) -> Any:
    evaluate(trained.out, resamples=9)
    return trained


def test_a_published_model_is_the_best_one_with_results_and_licence(
    evaluated: Any, tmp_path: Path
) -> None:
    card = publish(evaluated.out, tmp_path / "given", **WORDS)
    given, best = load(tmp_path / "given"), load(evaluated.folder.best)
    assert given.card.as_dict() == card.as_dict()
    assert (card.description, card.licence) == tuple(WORDS.values())
    assert card.sha256 == best.card.sha256
    assert card.metrics == best.card.metrics
    assert set(card.metrics["test"]) >= {"slide + genes: GiMP"}
    assert given.decoder is not None
    assert "planted" not in card.metrics


def test_no_training_state_is_given_away(evaluated: Any, tmp_path: Path) -> None:
    held = {path.name for path in evaluated.folder.best.iterdir()}
    assert {OPTIMIZER, TRAINING} <= held
    publish(evaluated.out, tmp_path / "given", **WORDS)
    files = {path.name for path in (tmp_path / "given").iterdir()}
    assert files == {"weights.safetensors", "card.json"}
    with safe_open(tmp_path / "given" / "weights.safetensors", "pt") as weights:
        assert not [key for key in weights.keys() if "exp_avg" in key]  # noqa: SIM118 - safe_open is no mapping


def test_the_card_names_no_patient_and_no_folder(
    evaluated: Any, tmp_path: Path
) -> None:
    publish(evaluated.out, tmp_path / "given", **WORDS)
    text = (tmp_path / "given" / "card.json").read_text()
    assert '"P00' not in text  # slides are named by content, here "slide-P00"
    assert "S00" not in text
    assert str(tmp_path) not in text


def test_publishing_again_replaces_the_model(evaluated: Any, tmp_path: Path) -> None:
    publish(evaluated.out, tmp_path / "given", **WORDS)
    publish(evaluated.out, tmp_path / "given", **{**WORDS, "licence": "MIT"})
    assert read_card(tmp_path / "given").licence == "MIT"


def test_a_run_without_results_is_refused(trained: Any, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="napari-gimp evaluate"):
        publish(trained.out, tmp_path / "given", **WORDS)
    assert not (tmp_path / "given").exists()


def test_a_pretraining_run_is_refused_as_what_it_is(drawn: Any, tmp_path: Path) -> None:
    run = drawn.run(tmp_path / "run", plan={"epochs": 1})
    train(run)
    with pytest.raises(RunError, match="does not classify"):
        publish(run.out, tmp_path / "given", **WORDS)


def test_the_runs_own_checkpoints_are_never_replaced(evaluated: Any) -> None:
    with pytest.raises(RunError, match="inside the run folder"):
        publish(evaluated.out, evaluated.folder.best, **WORDS)
    assert (evaluated.folder.best / TRAINING).exists()


def test_export_on_the_command_line_refuses_with_exit_2(
    trained: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--description", "d", "--licence", "l"]
    out = str(tmp_path / "given")
    assert main(["export", str(trained.out), "--out", out, *words]) == 2
    assert "no results on held-out patients" in capsys.readouterr().err


@pytest.mark.slow
def test_on_a_synthetic_cohort_the_card_says_how_well_the_planted_is_found(
    tmp_path: Path,
) -> None:
    manifest = make_cohort(tmp_path / "cohort", patients=9, seed=3, side_px=1024)
    plan = Plan(epochs=1, batch=6, folds=3, warmup=0, device="cpu", workers=2)
    run = RunConfig(
        stage="finetune",
        manifest=manifest,
        genes=manifest.parent / "genes.csv",
        out=tmp_path / "run",
        plan=plan,
    )
    train(run)
    evaluate(run.out, resamples=9)

    card: Card = publish(run.out, tmp_path / "given", **WORDS)

    kept = json.loads((tmp_path / "given" / "card.json").read_text())
    planted = kept["metrics"]["planted"]
    assert planted == json.loads(measure_planted(run.out).to_json())
    assert set(planted["tumour_auc"]) == {"attention", "contribution"}
    assert planted["patients"] >= 1
    assert "test" in card.metrics
