"""Every registered model: forward, backward, save and load, batch of one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from gimp_models.bag import collate
from gimp_models.card import Card
from gimp_models.checkpoint import load, save
from gimp_models.gimp import GimpConfig
from gimp_models.registry import MODELS, build, name_of

# A config for each registered model; a model without one fails here.
CONFIGS: dict[str, Callable[[], Any]] = {
    "gimp": lambda: GimpConfig.preset("tiny", patch_features=12, genes=150, classes=3)
}

every_model = pytest.mark.parametrize("name", sorted(MODELS))


@pytest.fixture
def model(name):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return build(name, CONFIGS[name]().as_dict()).eval()


@every_model
def test_model_classifies_and_its_gradient_reaches_both_modalities(model, three, name):
    three.features.requires_grad_()
    three.genes.requires_grad_()
    logits = model(three).logits
    logits.square().sum().backward()
    assert logits.shape == (3, 3)
    assert logits.isfinite().all()
    assert three.features.grad[three.mask].abs().sum(1).gt(0).all()
    assert three.features.grad[~three.mask].eq(0).all()
    assert three.genes.grad[0].ne(0).all()


@every_model
def test_model_comes_back_equal_from_a_checkpoint(model, three, name, tmp_path):
    card = Card(
        classes=("a", "b", "c"),
        genes=tuple(map(str, range(150))),
        gene_mean=(0.0,) * 150,
        gene_sd=(1.0,) * 150,
    )
    save(tmp_path / "m", model, card)
    found = load(tmp_path / "m").model
    assert torch.equal(found(three).logits, model(three).logits)
    assert name_of(found) == name


@every_model
def test_model_sees_one_patient_as_it_does_in_a_batch(model, three, three_bags, name):
    many = model(three).logits
    for row, bag in enumerate(three_bags):
        one = model(collate([bag])).logits[0]
        torch.testing.assert_close(one, many[row], atol=1e-5, rtol=1e-4)


@every_model
def test_model_runs_in_double_precision(model, three, name):
    model = model.double()
    from dataclasses import replace

    exact = replace(three, features=three.features.double(), genes=three.genes.double())
    assert model(exact).logits.dtype == torch.float64


@every_model
def test_model_trains_under_autocast(model, three, name):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model.train()(three, attention=True).logits.float().square().sum()
    loss.backward()
    assert all(p.grad.isfinite().all() for p in model.genes.parameters())
