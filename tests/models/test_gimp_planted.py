"""GiMP on a cohort with planted truth: three tissue types, five gene modules.

Tissue lies in vertical stripes, so hidden rows follow from the columns that are
visible, while interpolation along the rows cannot know them. The class sets which
tissue prevails and which modules are raised; patients differ in how much.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from captum.attr import IntegratedGradients
from gimp_models.bag import Bag, collate
from gimp_models.evidence import masked_reconstruction, measure_reference
from gimp_models.gimp import Gimp, GimpConfig
from gimp_models.objective import GimpFinetune, GimpPretrain, parameter_groups
from torch import Tensor

SIDE, FEATURES, PATCH_UM = 9, 16, 128.0
GENES, MODULES, MODULE_GENES = 500, 5, 20
RAISED = torch.tensor([[1.0, 0, 0, 1, 0], [0, 1, 0, 1, 1], [0, 0, 1, 0, 1]])
CLASSES = len(RAISED)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::UserWarning:captum"),
]


@dataclass(frozen=True)
class Planted:
    """The truth: tissue prototypes (3,P) and which genes make a module (M,G)."""

    prototypes: Tensor
    modules: Tensor

    def patient(self, label: int, g: torch.Generator) -> Bag:
        odds = torch.full((3,), 0.25)
        odds[label] = 0.5
        stripes = odds.multinomial(SIDE, replacement=True, generator=g)
        noise = 0.4 * torch.randn(SIDE**2, FEATURES, generator=g)
        gain = 1.4 + 1.2 * torch.rand(MODULES, generator=g)
        raised = (RAISED[label] - RAISED.mean(0)) * gain @ self.modules.float()
        cells = torch.cartesian_prod(torch.arange(SIDE), torch.arange(SIDE))
        return Bag(
            features=self.prototypes[stripes.repeat(SIDE)] + noise,
            coords_um=(cells + 0.5) * PATCH_UM,
            genes=raised + torch.randn(GENES, generator=g),
            label=label,
        )

    def cohort(self, patients: int, seed: int) -> list[Bag]:
        g = torch.Generator().manual_seed(seed)
        return [self.patient(i % CLASSES, g) for i in range(patients)]


@pytest.fixture(scope="module")
def planted() -> Planted:
    g = torch.Generator().manual_seed(2023)
    modules = torch.zeros(MODULES, GENES, dtype=torch.bool)
    scattered = torch.randperm(GENES, generator=g)[: MODULES * MODULE_GENES]
    for module, genes in zip(modules, scattered.split(MODULE_GENES), strict=True):
        module[genes] = True
    return Planted(torch.randn(3, FEATURES, generator=g), modules)


@pytest.fixture(scope="module")
def held_back(planted: Planted) -> list[Bag]:
    return planted.cohort(120, seed=2)


@pytest.fixture(scope="module")
def pretrained(planted: Planted) -> Gimp:
    config = GimpConfig.preset(
        "tiny", patch_features=FEATURES, genes=GENES, classes=CLASSES
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Gimp(config)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        train(GimpPretrain(model), optimizer, planted.cohort(96, seed=1), steps=90)
    return model.eval()


@pytest.fixture(scope="module")
def finetuned(pretrained: Gimp, planted: Planted) -> Gimp:
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
    batch = collate(bags)
    with torch.no_grad():
        image = model.encode_image(batch).cls

    def logits(genes: Tensor) -> Tensor:
        repeated = image.repeat(len(genes) // len(image), 1)
        return model.classify(repeated, model.genes(genes).cls)

    captum = IntegratedGradients(logits)
    return captum.attribute(batch.genes, target=batch.labels, n_steps=32)


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
    by_class = torch.stack([given[labels == c].mean(0) for c in range(CLASSES)])
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
