from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from gimp_models.bag import collate
from gimp_models.checkpoint import load
from gimp_models.evidence import measure_reference
from gimp_models.objective import GimpFinetune, LossParts
from safetensors.torch import load_file

from napari_gimp.errors import GimpError, RunError
from napari_gimp.training.events import Event, read_events
from napari_gimp.training.loop import train
from napari_gimp.training.run import RunConfig


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "weights.safetensors")


def equal(first: Path, second: Path) -> bool:
    one, two = weights(first), weights(second)
    return one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)


def kinds(run: RunConfig) -> list[str]:
    return [e.kind for e in read_events(run.folder.events)]


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_a_run_leaves_checkpoints_events_and_its_configuration(
    drawn: Any, tmp_path: Path, stage: str
) -> None:
    run = drawn.run(tmp_path / "run", stage=stage)
    assert train(run) == run.out
    assert kinds(run) == ["features", "started", "epoch", "epoch", "finished"]
    assert RunConfig.read(run.folder.config) == run
    for folder in (run.folder.last, run.folder.best):
        held = load(folder)
        assert held.card.stage == stage
        assert held.card.classes == ("benign", "tumour")
        assert held.decoder is not None


def test_epoch_events_carry_loss_parts_and_validation_metrics(
    drawn: Any, tmp_path: Path
) -> None:
    seen: list[Event] = []
    train(drawn.run(tmp_path / "run", stage="finetune"), watch=seen.append)
    epochs = [e for e in seen if e.kind == "epoch"]
    assert [e.epoch for e in epochs] == [1, 2]
    assert {"total", "classify", "image", "genes"} <= set(epochs[0].parts)
    assert {"auc", "loss", "accuracy", "lr", "seconds"} <= set(epochs[0].metrics)


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_interrupted_and_resumed_equals_uninterrupted(
    drawn: Any, tmp_path: Path, stage: str
) -> None:
    plan = {"epochs": 4}
    whole = drawn.run(tmp_path / "whole", stage=stage, plan=plan)
    broken = drawn.run(tmp_path / "broken", stage=stage, plan=plan)
    train(whole)

    def break_off(event: Event) -> None:
        if event.kind == "epoch" and event.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(broken, watch=break_off)
    torch.manual_seed(99)  # whatever happened in between must not matter
    train(broken, resume=True)

    assert equal(whole.folder.last, broken.folder.last)
    assert equal(whole.folder.best, broken.folder.best)
    assert "interrupted" in kinds(broken)


def test_a_run_does_not_disturb_the_callers_random_numbers(
    drawn: Any, tmp_path: Path
) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train(drawn.run(tmp_path / "run", plan={"epochs": 1}))
    assert torch.equal(torch.rand(3), expected)


def test_each_epoch_draws_anew(drawn: Any, tmp_path: Path) -> None:
    still = {"lr": 1e-12, "warmup": 0}  # nothing but masks and dropout can differ
    run = drawn.run(tmp_path / "run", plan=still)
    train(run)
    done = [e for e in read_events(run.folder.events) if e.kind == "epoch"]
    first, second = (event.parts["patches"] for event in done)
    assert abs(first - second) > 1e-4


def test_a_stop_file_ends_the_run_after_the_epoch(drawn: Any, tmp_path: Path) -> None:
    run = drawn.run(tmp_path / "run", plan={"epochs": 50})

    def ask(event: Event) -> None:
        if event.kind == "started":
            run.folder.request_stop()

    train(run, watch=ask)
    assert kinds(run)[-2:] == ["epoch", "stopped"]
    assert load(run.folder.last).card.metrics["epoch"] == 1


def test_patience_ends_a_run_that_does_not_get_better(
    drawn: Any, tmp_path: Path
) -> None:
    plan = {"epochs": 40, "patience": 2, "lr": 1e-12, "warmup": 0}
    run = drawn.run(tmp_path / "run", stage="finetune", plan=plan)
    train(run)
    assert kinds(run).count("epoch") < 40


def test_a_used_folder_is_refused_and_kept(drawn: Any, tmp_path: Path) -> None:
    run = drawn.run(tmp_path / "run", plan={"epochs": 1})
    train(run)
    before = weights(run.folder.last)
    with pytest.raises(RunError, match="holds a run already"):
        train(run)
    assert all(torch.equal(v, before[k]) for k, v in weights(run.folder.last).items())


def test_a_run_that_failed_before_its_first_epoch_may_begin_again(
    drawn: Any, tmp_path: Path
) -> None:
    run = drawn.run(tmp_path / "run", plan={"epochs": 1})
    with pytest.raises(GimpError):
        train(replace(run, genes=tmp_path / "none.csv"))
    assert not run.folder.used
    train(run)
    assert kinds(run)[-1] == "finished"
    assert run.folder.used


def test_resuming_another_configuration_is_refused(drawn: Any, tmp_path: Path) -> None:
    run = drawn.run(tmp_path / "run", plan={"epochs": 1})
    train(run)
    other = replace(run, plan=replace(run.plan, lr=0.5))
    with pytest.raises(RunError, match="another lr"):
        train(other, resume=True)


def test_reference_values_are_those_of_the_training_patients(
    drawn: Any, tmp_path: Path
) -> None:
    from napari_gimp.training.prepare import gather_bags

    climbing = {"epochs": 4, "warmup": 40, "lr": 4.0}  # soon too fast to get better
    run = drawn.run(tmp_path / "run", stage="finetune", plan=climbing)
    train(run)
    bags = gather_bags(run)
    best, last = load(run.folder.best), load(run.folder.last)
    assert best.card.metrics["epoch"] < last.card.metrics["epoch"]
    for model in (best.model, last.model):
        held = {name: value.clone() for name, value in model.named_buffers()}
        measure_reference(model, [collate(bags.train)])
        for name in ("feature_mean", "image_token_mean", "gene_token_mean"):
            found = getattr(model, name)
            assert torch.allclose(found, held[name], atol=1e-4), name
            assert found.abs().sum() > 0


def test_fine_tuning_starts_from_the_pretrained_weights_and_panel(
    drawn: Any, tmp_path: Path
) -> None:
    first = drawn.run(tmp_path / "first")
    train(first)
    second = drawn.run(
        tmp_path / "second",
        stage="finetune",
        start=first.out,
        plan={"epochs": 1, "lr": 1e-12},
    )
    train(second)
    before, after = load(first.folder.best), load(second.folder.best)
    assert after.card.gene_mean == before.card.gene_mean
    pair = zip(before.model.parameters(), after.model.parameters(), strict=True)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in pair)


def test_the_card_lists_the_choices_of_both_stages(drawn: Any, tmp_path: Path) -> None:
    first = drawn.run(tmp_path / "first", plan={"epochs": 1})
    train(first)
    second = drawn.run(
        tmp_path / "second", stage="finetune", start=first.out, plan={"epochs": 2}
    )
    train(second)
    before, after = (load(run.folder.last).card.choices for run in (first, second))
    assert any(text.startswith("Triplets: ") for text in before)
    assert any(text.startswith("In pre-training: Triplets: ") for text in after)
    assert any(text.startswith("Fine-tuning: ") for text in after)
    assert any(text.startswith("Schedule: at most 2 epochs") for text in after)
    assert any("least cross-entropy on the validation" in text for text in after)
    assert any(text.startswith("In pre-training: Schedule: ") for text in after)
    assert len(set(after)) == len(after)


def test_a_training_loss_that_is_not_a_number_ends_the_run(
    drawn: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(self: GimpFinetune, *_: Any) -> LossParts:
        return LossParts(next(self.parameters()).sum() * torch.nan, {})

    monkeypatch.setattr(GimpFinetune, "forward", lost)
    with pytest.raises(RunError, match="The loss is nan at step 0"):
        train(drawn.run(tmp_path / "run", stage="finetune"))


def test_a_validation_that_is_not_a_number_ends_the_run(
    drawn: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_gimp.training import judge

    def lost(_: Any, bags: Any, __: Any) -> torch.Tensor:
        return torch.full((len(bags), 2), torch.nan)

    monkeypatch.setattr(judge, "predict", lost)
    run = drawn.run(tmp_path / "run", stage="finetune")
    with pytest.raises(RunError, match="loss of the validation patients is nan"):
        train(run)


def test_a_start_that_has_seen_test_patients_is_refused(
    drawn: Any, tmp_path: Path
) -> None:
    first = drawn.run(tmp_path / "first", plan={"epochs": 1})
    train(first)
    leaky = drawn.run(
        tmp_path / "second", stage="finetune", start=first.out, plan={"fold": 1}
    )
    with pytest.raises(RunError, match="test patients were in the training"):
        train(leaky)
    assert kinds(leaky)[-1] == "failed"


def test_a_start_of_another_encoder_is_refused(
    drawn: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_gimp.patches.encoders import PatchNetEncoder

    first = drawn.run(tmp_path / "first", plan={"epochs": 1})
    train(first)
    init = PatchNetEncoder.__init__

    def other(self: PatchNetEncoder, card: Any, network: Any, fingerprint: str) -> None:
        init(self, card, network, "f" * 64)

    monkeypatch.setattr(PatchNetEncoder, "__init__", other)
    second = drawn.run(tmp_path / "second", stage="finetune", start=first.out)
    with pytest.raises(RunError, match=re.escape("(ffffffffffff)")):
        train(second)


def test_a_cuda_device_that_is_not_there_is_refused(drawn: Any, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    run = drawn.run(tmp_path / "run", plan={"device": "cuda"})
    with pytest.raises(RunError, match="no GPU"):
        train(run)
