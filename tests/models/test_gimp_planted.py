"""GiMP finds what is planted, and beats the trivial predictor."""

from __future__ import annotations

import pytest
import torch
from gimp_models.bag import Bag, collate
from gimp_models.evidence import masked_reconstruction, measure_reference
from gimp_models.evidence.gimp_gradients import gene_attributions
from gimp_models.gimp import Gimp, GimpConfig
from gimp_models.objective import GimpFinetune, GimpPretrain, parameter_groups
from gimp_models.planted.gimp import CLASSES, PlantedStripes
from torch import Tensor

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def planted() -> PlantedStripes:
    return PlantedStripes.make()


@pytest.fixture(scope="module")
def held_back(planted: PlantedStripes) -> list[Bag]:
    return planted.cohort(120, seed=2)


@pytest.fixture(scope="module")
def pretrained(planted: PlantedStripes) -> Gimp:
    config = GimpConfig.preset(
        "tiny", patch_features=16, genes=500, classes=len(CLASSES)
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Gimp(config)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        train(GimpPretrain(model), optimizer, planted.cohort(96, seed=1), steps=90)
    return model.eval()


@pytest.fixture(scope="module")
def finetuned(pretrained: Gimp, planted: PlantedStripes) -> Gimp:
    patients = planted.cohort(96, seed=1)
    model = Gimp(pretrained.config)
    model.load_state_dict(pretrained.state_dict())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        optimizer = torch.optim.AdamW(parameter_groups(model, lr=2e-3))
        train(GimpFinetune(model), optimizer, patients, steps=40)
    measure_reference(model, [collate(patients)])
    return model.eval()


def train(objective, optimizer, patients, *, steps):
    g = torch.Generator().manual_seed(0)
    objective.train()
    for _ in range(steps):
        rows = torch.randperm(len(patients), generator=g)[:16]
        loss = objective(collate([patients[i] for i in rows]), g)
        optimizer.zero_grad()
        loss.total.backward()
        torch.nn.utils.clip_grad_norm_(objective.parameters(), 1.0)
        optimizer.step()


def attributions(model: Gimp, bags: list[Bag]) -> Tensor:
    """Integrated gradients (B,G) of each patient's own class."""
    found = []
    for bag in bags:
        *_, last = gene_attributions(model, collate([bag]), bag.label)
        found.append(last.attribution)
    return torch.stack(found)


def test_masked_patch_modelling_beats_the_trivial_predictor(pretrained, held_back):
    batch, g = collate(held_back), torch.Generator().manual_seed(0)
    with torch.no_grad():
        parts = GimpPretrain(pretrained).eval()(batch, g).parts
    assert parts["patches"] < 0.5 * parts["patches_trivial"]
    assert parts["patches_cosine"] > parts["patches_trivial_cosine"] + 0.2


def test_a_patch_that_does_not_belong_is_unexpected(pretrained, planted, held_back):
    bag = held_back[0]
    place, features = 40, bag.features.clone()
    apart = torch.cdist(bag.features[place : place + 1], planted.prototypes)[0]
    features[place] = planted.prototypes[apart.argmax()]
    strange = Bag(features, bag.coords_um, bag.genes, bag.label)
    error = masked_reconstruction(pretrained, strange).error
    assert error[place] > error.quantile(0.95)


def test_held_back_patients_are_classified(finetuned, held_back):
    batch = collate(held_back)
    with torch.no_grad():
        found = finetuned(batch).logits.argmax(1)
    assert found.eq(batch.labels).float().mean() > 0.9


def test_the_planted_modules_lead_the_gene_attribution(finetuned, planted, held_back):
    given = attributions(finetuned, held_back)
    labels = torch.tensor([bag.label for bag in held_back])
    by_class = torch.stack([given[labels == c].mean(0) for c in range(len(CLASSES))])
    score = by_class.abs().amax(0)
    truth = planted.modules.any(0)
    precision = truth[score.topk(int(truth.sum())).indices].float().mean()
    assert precision > 0.5  # 0.2 by chance; not all genes of a module are needed
    g = torch.Generator().manual_seed(0)
    others = (~truth).nonzero()[:, 0]
    decoys = [others[torch.randperm(len(others), generator=g)[:20]] for _ in range(40)]
    best_decoy = torch.stack([score[genes].mean() for genes in decoys]).max()
    for module in planted.modules:
        assert score[module].mean() > 1.5 * best_decoy
