from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gimp_models.bag import Bag, collate
from gimp_models.checkpoint import read_card
from gimp_models.gimp import Gimp
from gimp_models.gimp_config import GimpConfig

from napari_gimp.errors import RunError
from napari_gimp.training import baselines
from napari_gimp.training.baselines import BranchAlone
from napari_gimp.training.evaluate import Evaluation, evaluate
from napari_gimp.training.fit import noisy
from napari_gimp.training.judge import pair_logits
from napari_gimp.training.loop import train
from napari_gimp.training.prepare import gather_bags, starting_model


@pytest.fixture
def trained(drawn: Any, tmp_path: Path) -> Any:
    run = drawn.run(tmp_path / "run", stage="finetune", plan={"epochs": 3, "lr": 1e-3})
    train(run)
    return run


def test_an_evaluation_has_the_model_and_its_baselines_in_one_table(
    trained: Any,
) -> None:
    found = evaluate(trained.out, resamples=9)
    names = [row.name for row in found.rows]
    assert names[0] == "slide + genes: GiMP"
    assert {n.split(":")[0] for n in names[1:]} == {"genes", "slide"}
    assert len(names) == 5
    assert all(name in found.table() for name in names)
    assert sum(map(sum, found.confusion)) == len(found.predictions) == 4
    for row in found.rows:
        assert all(0 <= s.low <= s.value <= s.high <= 1 for s in row.scores.values())


def test_an_evaluation_is_kept_in_the_folder_and_in_the_card(trained: Any) -> None:
    found = evaluate(trained.out, resamples=9)
    kept = json.loads((trained.out / "evaluation.json").read_text())
    assert kept == json.loads(found.to_json())
    metrics = read_card(trained.folder.best).metrics
    assert metrics["test_patients"] == 4
    auc = found.rows[0].scores["auc"].value
    assert metrics["test"][found.rows[0].name]["auc"]["value"] == pytest.approx(auc)


def test_only_held_out_patients_are_predicted(trained: Any) -> None:
    from napari_gimp.training.state import TrainingState

    split = TrainingState.read(trained.folder.best).split
    said = {p.patient for p in evaluate(trained.out, resamples=9).predictions}
    assert said == set(split.test)


def test_a_pretraining_run_cannot_be_evaluated(drawn: Any, tmp_path: Path) -> None:
    run = drawn.run(tmp_path / "run", plan={"epochs": 1})
    train(run)
    with pytest.raises(RunError, match="does not classify"):
        evaluate(run.out)


def test_a_run_in_training_cannot_be_evaluated(
    trained: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "napari_gimp.training.launch.running_pid", lambda folder: 999_999
    )
    with pytest.raises(RunError, match="Process 999999 is training"):
        evaluate(trained.out, resamples=9)
    assert "test" not in read_card(trained.folder.best).metrics


def test_a_manifest_that_has_changed_is_refused(trained: Any) -> None:
    rows = trained.manifest.read_text().splitlines()
    trained.manifest.write_text("\n".join(rows[:-2]) + "\n")
    with pytest.raises(RunError, match="has changed since"):
        evaluate(trained.out, resamples=9)


def patient(seed: int) -> Bag:
    rng = torch.Generator().manual_seed(seed)
    draw = [torch.randn(size, generator=rng) for size in ((5, 8), (5, 2), (6,))]
    return Bag(draw[0], draw[1] * 500, draw[2], 0, "P")


@pytest.mark.parametrize("branch", ["slide", "genes"])
def test_a_branch_alone_never_looks_at_the_other_modality(branch: Any) -> None:
    size = GimpConfig.preset("tiny", patch_features=8, genes=6, classes=2)
    model = Gimp(size).eval()
    alone = BranchAlone(model, branch, max_patches=99)
    one, other = patient(1), patient(2)
    mixed = (
        Bag(one.features, one.coords_um, other.genes, 0)
        if branch == "slide"
        else Bag(other.features, other.coords_um, one.genes, 0)
    )
    first, second = (alone.logits(collate([bag])) for bag in (one, mixed))
    assert torch.equal(first, second)
    assert not torch.equal(first, alone.logits(collate([other])))


def test_validation_patients_choose_the_penalty_of_the_linear_baselines(
    drawn: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bags = gather_bags(drawn.run(tmp_path / "run"))
    monkeypatch.setattr(baselines, "PENALTIES", (1e-9,))
    blunt = baselines.predict_from_genes(bags)
    for penalties in ((1e-9, 1e-2), (1e-2, 1e-9)):
        monkeypatch.setattr(baselines, "PENALTIES", penalties)
        sharp = baselines.predict_from_genes(bags)
        assert np.abs(sharp - 0.5).min() > np.abs(blunt - 0.5).max()


@pytest.mark.parametrize("branch", ["slide", "genes"])
def test_a_branch_alone_predicts_with_its_best_epoch(
    drawn: Any, tmp_path: Path, branch: Any
) -> None:
    climbing = {"warmup": 40, "lr": 4.0}  # soon too fast to get better
    run = drawn.run(tmp_path / "run", stage="finetune", plan=climbing)
    bags = gather_bags(run)

    def predicted(epochs: int) -> Any:
        model, _ = starting_model(run, bags)
        plan = replace(run.plan, epochs=epochs)
        return baselines.predict_from_branch(
            model, bags, plan, branch, pretrained=False
        )

    assert np.allclose(predicted(3), predicted(1), atol=1e-6)


def test_a_patient_without_genes_is_judged_as_the_viewer_judges() -> None:
    from napari_gimp.explain.prediction import predict

    size = GimpConfig.preset("tiny", patch_features=8, genes=6, classes=2)
    model, both = Gimp(size).eval(), patient(1)
    blank = Bag(both.features, both.coords_um)
    with torch.no_grad():
        found = pair_logits(model)(collate([both, blank])).softmax(1).numpy()
    for row, bag in zip(found, (both, blank), strict=True):
        assert np.allclose(row, predict(model, collate([bag])).probabilities, atol=1e-5)


def test_noise_spares_patients_without_genes() -> None:
    blank = Bag(patient(3).features, patient(3).coords_um)
    batch = collate([patient(1), blank])
    found = noisy(batch, 0.5, torch.Generator().manual_seed(0)).genes
    assert found is not None
    assert batch.genes is not None
    assert not np.allclose(found[0], batch.genes[0])
    assert torch.equal(found[1], torch.zeros(6))


def test_the_table_has_columns_of_equal_width(trained: Any) -> None:
    found: Evaluation = evaluate(trained.out, resamples=9)
    lines = found.table().splitlines()[1:6]
    places = {line.index("[") for line in lines}
    assert len(places) == 1
