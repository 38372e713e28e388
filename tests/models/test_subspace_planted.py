"""Subspace on a cohort with planted truth: what it learns, and where it says so."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from gimp_models.bag import collate
from gimp_models.evidence.subspace import (
    against_rest,
    class_evidence,
    look,
    risk_evidence,
)
from gimp_models.objective.subspace import (
    SubspaceFinetune,
    subspace_parameter_groups,
)
from gimp_models.planted.subspace import (
    MICRO,
    NORMAL,
    TUMOUR,
    PlantedGlioma,
    best_risk,
    survival_task,
    tissue_of,
)
from gimp_models.subspace import Subspace
from gimp_models.survival import concordance

SHARES = (0.1, 0.25, 0.5)  # of the patches that are taken away


@pytest.fixture(scope="module")
def planted():
    return PlantedGlioma.make()


@pytest.fixture(scope="module")
def training(planted):
    return planted.cohort(200, seed=1)


@pytest.fixture(scope="module")
def held_back(planted):
    return planted.cohort(120, seed=2)


@pytest.fixture(scope="module")
def classifier(planted, training):
    return train(planted, training, steps=120, size=12)


@pytest.fixture(scope="module")
def prognosis(planted, training):
    task = survival_task(training)
    return train(planted, training, task, steps=120, size=8)


def train(planted, patients, task=None, *, steps, size):
    config = planted.config().with_task(task) if task else planted.config()
    g = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        objective = SubspaceFinetune(Subspace(config))
        groups = subspace_parameter_groups(objective.model, weight_decay=0.01)
        optimizer = torch.optim.Adam(groups)
        rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, steps)
        for _ in range(steps):
            rows = torch.randperm(len(patients), generator=g)[:size]
            optimizer.zero_grad()
            objective(bags([patients[i] for i in rows]), g).total.backward()
            objective.coordinate()
            optimizer.step()
            rate.step()
    return objective.model.eval()


def bags(patients):
    return collate([patient.bag for patient in patients])


def accuracy(model, batch):
    with torch.no_grad():
        return model(batch).logits.argmax(1).eq(batch.labels).double().mean()


def without_genes(batch):
    return replace(batch, has_genes=torch.zeros_like(batch.has_genes))


def evidence_map(model, batch):
    """Evidence (B,N) for the own class against the rest, or for a higher risk."""
    output = look(model, batch)
    evidence = class_evidence(model, output)
    if model.config.task == "survival":
        evidence = risk_evidence(evidence, output)
        kept = torch.zeros_like(batch.labels)
    else:
        evidence, kept = against_rest(evidence), batch.labels
    both = evidence.tumour.tokens + evidence.micro.tokens
    return output.placed.patch_values(both)[torch.arange(len(batch)), kept]


def score(model, batch):
    """What the evidence map explains, mean over patients."""
    with torch.no_grad():
        output = model(batch)
    if model.config.task == "survival":
        return output.risk.mean()
    return output.logits.softmax(1).gather(1, batch.labels[:, None]).mean()


def deletion_curve(model, batch, values):
    """Score after taking away growing shares of patches, highest values first."""
    ranks = values.where(batch.mask, -torch.inf).argsort(1, descending=True).argsort(1)
    counts = batch.mask.sum(1, keepdim=True)
    kept = [batch.mask & (ranks >= share * counts) for share in SHARES]
    return torch.stack([score(model, replace(batch, mask=mask)) for mask in kept])


def random_curves(model, batch):
    g = torch.Generator().manual_seed(0)
    orders = torch.rand(2, *batch.mask.shape, generator=g)
    return torch.stack([deletion_curve(model, batch, order) for order in orders])


def attributions(model, batch, points=8):
    """Integrated gradients (B,G) of each patient's own logit, baseline z = 0."""
    total = torch.zeros_like(batch.genes)
    for point in (torch.arange(points) + 0.5) / points:
        genes = (batch.genes * point).requires_grad_()
        logits = model(replace(batch, genes=genes)).logits
        own = logits.gather(1, batch.labels[:, None]).sum()
        total += torch.autograd.grad(own, genes)[0]
    return total / points * batch.genes


def test_a_cohort_repeats_itself_with_its_seed(planted):
    first, second = planted.cohort(5, seed=3), PlantedGlioma.make().cohort(5, seed=3)
    for one, other in zip(first, second, strict=True):
        assert one.bag.features.equal(other.bag.features)
        assert one.bag.genes.equal(other.bag.genes)
        assert one.bag.days == other.bag.days
    another = planted.cohort(5, seed=4)
    assert not another[0].bag.genes.equal(first[0].bag.genes)


def test_patients_have_both_tissues_and_bags_of_different_length(held_back):
    assert len({len(patient.bag.features) for patient in held_back}) > 5
    for patient in held_back:
        shares = patient.tissue.bincount(minlength=3) / len(patient.tissue)
        assert shares[NORMAL] > 0.4
        assert shares[[TUMOUR, MICRO]].min() > 0.08


def test_each_state_shows_in_its_own_genes_only(planted, held_back):
    shared = set(planted.tumour_genes) & set(planted.micro_genes)
    of_tumour, of_micro = (
        set(row.nonzero()[:, 0].tolist()) for row in planted.loadings
    )
    assert shared
    assert of_tumour <= set(planted.tumour_genes) - shared
    assert of_micro <= set(planted.micro_genes) - shared
    genes = torch.stack([patient.bag.genes for patient in held_back])
    states = torch.stack([patient.states for patient in held_back])
    told = (genes @ planted.loadings.T).sign().eq(states).double().mean(0)
    assert ((told > 0.8) & (told < 0.98)).all()


@pytest.mark.parametrize("state", [0, 1])
def test_both_states_shorten_life(held_back, state):
    batch = bags(held_back)
    alone = torch.stack([patient.states[state] for patient in held_back])
    both = concordance(best_risk(held_back), batch.days, batch.event)
    assert 0.58 < concordance(alone, batch.days, batch.event) < both - 0.03


@pytest.mark.slow
def test_patients_held_back_are_classified(classifier, held_back):
    assert accuracy(classifier, bags(held_back)) > 0.8


@pytest.mark.slow
def test_genes_and_patches_both_add_to_the_classification(classifier, held_back):
    batch = bags(held_back)
    whole = accuracy(classifier, batch)
    assert whole > accuracy(classifier, without_genes(batch)) + 0.05
    turned = torch.arange(len(batch)).roll(1)  # the patches of another class
    slides = {n: getattr(batch, n)[turned] for n in ("features", "coords_um", "mask")}
    assert whole > accuracy(classifier, replace(batch, **slides)) + 0.05


@pytest.mark.slow
def test_the_deletion_curve_of_the_evidence_beats_random_order(classifier, held_back):
    batch = bags(held_back[:60])
    led = deletion_curve(classifier, batch, evidence_map(classifier, batch))
    by_chance = random_curves(classifier, batch)
    assert (led < by_chance.amin(0) - 0.02).all()


@pytest.mark.slow
def test_the_evidence_lies_in_the_planted_tissue(classifier, held_back):
    values = evidence_map(classifier, bags(held_back))
    tissue = tissue_of(held_back)
    best = values.nan_to_num(-torch.inf).topk(15).indices
    share = (tissue.gather(1, best) > NORMAL).double().mean()
    by_chance = (tissue > NORMAL).sum() / (tissue >= 0).sum()
    assert share > 1.4 * by_chance


@pytest.mark.slow
def test_the_planted_genes_lead_the_attribution(classifier, planted, held_back):
    found = attributions(classifier, bags(held_back[:40])).abs().mean(0)
    for loadings in planted.loadings:
        truth = loadings > 0
        listed = found[truth].mean()
        others = found[(planted.loadings == 0).all(0)]
        assert listed > 2 * others.mean()
    truth = planted.loadings.any(0)
    best = found.topk(int(truth.sum())).indices
    assert truth[best].double().mean() > 0.5  # 0.18 by chance


@pytest.mark.slow
def test_the_risk_of_patients_held_back_orders_their_survival(prognosis, held_back):
    batch = bags(held_back)
    with torch.no_grad():
        found = concordance(prognosis(batch).risk, batch.days, batch.event)
    best = concordance(best_risk(held_back), batch.days, batch.event)
    assert found - 0.5 > 0.6 * (best - 0.5)


@pytest.mark.slow
def test_taking_away_what_raises_the_risk_lowers_it(prognosis, held_back):
    batch = bags(held_back[:60])
    led = deletion_curve(prognosis, batch, evidence_map(prognosis, batch))
    by_chance = random_curves(prognosis, batch)
    assert (led < by_chance.amin(0) - 0.02).all()
