"""Which genes a prediction of Subspace comes from: complete, and as plain loops say."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from gimp_models.bag import Bag, collate
from gimp_models.errors import BatchError
from gimp_models.evidence.subspace_genes import (
    branch_gene_attributions,
    cohort_attribution,
    logit_of,
    permutation_importance,
)
from gimp_models.subspace import Subspace, SubspaceConfig
from gimp_models.survival import risk

FEATURES, GENES, STEP_UM = 6, 20, 128.0
LISTED = {"tumour": (3, 1, 7, 0), "micro": (7, 4, 9, 10, 12)}


@pytest.fixture
def model() -> Subspace:
    """Seeded model on an 8 x 8 grid with 4 x 4 keys, float64, in evaluation mode."""
    config = SubspaceConfig.preset(
        "tiny",
        patch_features=FEATURES,
        genes=GENES,
        classes=3,
        tumour_genes=LISTED["tumour"],
        micro_genes=LISTED["micro"],
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Subspace(replace(config, grid=8, heads=2, width=16)).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.05)
    return model.double()


@pytest.fixture
def slide(rng):
    def build(rows, columns, *, genes=True, label=0) -> Bag:
        cells = torch.cartesian_prod(torch.arange(rows), torch.arange(columns))
        profile = torch.randn(GENES, generator=rng).double()
        return Bag(
            features=torch.randn(rows * columns, FEATURES, generator=rng).double(),
            coords_um=(cells + 0.5) * STEP_UM,
            genes=profile if genes else None,
            label=label,
        )

    return build


@pytest.fixture
def one(slide):
    return collate([slide(6, 7)])


def last(parts):
    *_, end = parts
    return end


def change_along(model, one, side, readout):
    """Readout at the patient less that with one branch at the mean profile."""
    with torch.no_grad():
        output = model(one)
        absent = torch.zeros(1, len(LISTED[side])).double()
        features = {"tumour": output.tumour.feature, "micro": output.micro.feature}
        mean = {side: getattr(model, side)(output.placed, absent).feature}
        without = model.classify(**{**features, **mean})
        return (readout(output.logits) - readout(without)).item()


@pytest.mark.parametrize(
    ("side", "readout"), [("tumour", logit_of(1)), ("micro", risk)]
)
def test_gene_attributions_are_complete_with_the_other_branch_frozen(
    model, one, side, readout
):
    end = last(branch_gene_attributions(model, one, side, readout, floor=1e-3))
    change = change_along(model, one, side, readout)
    missing = abs(end.attribution.sum().item() - change)
    assert end.attribution.shape == (len(LISTED[side]),)
    assert abs(change) > 1e-3
    assert end.gap == pytest.approx(missing / abs(change))
    assert end.gap < 0.1  # a random model bends more than a trained one


@pytest.mark.slow
def test_gene_attributions_are_those_of_a_fine_plain_sum(model, one):
    end = last(branch_gene_attributions(model, one, "tumour", logit_of(0)))
    genes = one.genes[:, list(LISTED["tumour"])]
    placed, total, steps = model.place(one), torch.zeros_like(genes), 300
    for step in range(steps):
        point = ((step + 0.5) / steps * genes).requires_grad_()
        feature = model.tumour(placed, point).feature
        logit = feature @ model.head.weight[0, : feature.shape[1]]
        total += torch.autograd.grad(logit.sum(), point)[0] * genes / steps
    scale = total.abs().max()
    assert scale > 1e-3
    torch.testing.assert_close(
        end.attribution / scale, total[0] / scale, atol=0.03, rtol=0
    )


def test_changes_along_both_branches_add_up_to_that_of_the_logit(model, one):
    """A logit is a sum over branches, so both attributions are those of all genes."""
    with torch.no_grad():
        without = model(replace(one, genes=torch.zeros_like(one.genes)))
        change = (model(one).logits - without.logits)[0, 2].item()
    parts = [change_along(model, one, side, logit_of(2)) for side in LISTED]
    assert sum(parts) == pytest.approx(change)


def test_attributions_come_while_they_are_computed(model, one):
    parts = list(branch_gene_attributions(model, one, "micro", logit_of(0)))
    assert [part.done for part in parts] == [step / 8 for step in range(1, 9)]
    assert all(p.grad is None for p in model.parameters())


def test_gene_attributions_need_one_patient_with_genes(model, slide):
    for bags in ([slide(2, 2), slide(3, 3)], [slide(2, 2, genes=False)]):
        batch = collate(bags)
        parts = branch_gene_attributions(model, batch, "tumour", logit_of(0))
        with pytest.raises(BatchError, match="one patient with genes"):
            next(parts)


def log_likelihood(logits, batch):
    return logits.log_softmax(1).gather(1, batch.labels[:, None])[:, 0]


def test_shuffling_a_gene_costs_the_mean_loss_of_score(model, slide):
    """Against a plain loop over patients; a gene of no branch costs nothing."""
    bags = [slide(4, 3 + i, label=i % 3) for i in range(5)]
    bags.insert(2, slide(3, 3, genes=False))
    split = [collate(bags[:2]), collate(bags[2:])]
    genes, seeded = [7, 4, 15, 3], torch.Generator().manual_seed(5)
    found = permutation_importance(
        model, split, log_likelihood, genes=genes, generator=seeded, repeats=3
    )
    seeded.manual_seed(5)
    known = [bag for bag in bags if bag.genes is not None]
    with torch.no_grad():
        before = torch.stack([score_of(model, bag) for bag in known])
        losses = []
        for gene in genes:
            after = torch.zeros(3, 5).double()
            for repeat in range(3):
                order = torch.randperm(5, generator=seeded).tolist()
                for row, bag in enumerate(known):
                    profile = bag.genes.clone()
                    profile[gene] = known[order[row]].genes[gene]
                    after[repeat, row] = score_of(model, replace(bag, genes=profile))
            losses.append(before - after.mean(0))
    expected = torch.stack(losses)
    torch.testing.assert_close(found.mean, expected.mean(1), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found.spread, expected.std(1), atol=1e-5, rtol=1e-4)
    assert found.mean[2].abs() < 1e-6
    assert found.spread[[0, 1, 3]].gt(1e-4).all()


def score_of(model, bag):
    batch = collate([bag])
    return log_likelihood(model(batch).logits, batch)[0]


def test_shuffling_needs_two_patients_with_genes(model, slide, rng):
    split = [collate([slide(2, 2), slide(3, 3, genes=False)])]
    with pytest.raises(BatchError, match="Only 1 patients have genes"):
        permutation_importance(model, split, log_likelihood, genes=[1], generator=rng)


def test_cohort_attribution_is_the_mean_of_absolute_values_with_its_spread():
    found = cohort_attribution([torch.tensor([1.0, -2.0]), torch.tensor([-3.0, 2.0])])
    assert found.mean.tolist() == [2.0, 2.0]
    torch.testing.assert_close(found.spread, torch.tensor([2.0, 0.0]).sqrt())
    assert cohort_attribution([torch.ones(2)]).spread.isnan().all()
