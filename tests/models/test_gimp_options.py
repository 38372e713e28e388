"""Every grouping with every mask and attention: the invariances hold in all."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from gimp_models.bag import collate
from gimp_models.evidence import class_attention, fragment_weights
from gimp_models.gimp import Gimp
from gimp_models.grouping import correlated, pathways
from gimp_models.masking import draw_mask
from gimp_models.objective import GimpFinetune, GimpPretrain

GENES = 150

pytestmark = [
    pytest.mark.parametrize("grouping", ["contiguous", "pathway", "correlation"]),
    pytest.mark.parametrize("mask_mode", ["block", "random"]),
    pytest.mark.parametrize("attention", ["exact", "nystrom"]),
]


def grouped(config, grouping, rng):
    """The config with groups as users make them."""
    if grouping == "contiguous":
        return config
    if grouping == "correlation":
        values = torch.randn(20, GENES, generator=rng)
        return config.with_groups(grouping, correlated(values, size=32))
    symbols = [f"G{i}" for i in range(GENES)]
    sets = {"A": symbols[:20], "B": symbols[10:50], "C": symbols[90:]}
    return config.with_groups(grouping, *pathways(symbols, sets, size=32))


@pytest.fixture
def gimp(make_model, rng, grouping, mask_mode, attention):
    options = {"mask_mode": mask_mode, "attention": attention, "landmarks": 6}
    small = make_model(**options, per_fragment=False, dropout=0.0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return Gimp(grouped(small.config, grouping, rng)).eval()


def test_a_patient_of_a_padded_batch_equals_the_patient_alone(gimp, three_bags):
    many = gimp(collate(three_bags), attention=True)
    for row, bag in enumerate(three_bags):
        one, n = gimp(collate([bag]), attention=True), len(bag.features)
        for name in ("logits", "embedding", "gene_token"):
            torch.testing.assert_close(
                getattr(many, name)[row], getattr(one, name)[0], atol=1e-5, rtol=1e-4
            )
        torch.testing.assert_close(
            many.patch_attention[row, :n], one.patch_attention[0], atol=1e-5, rtol=1e-4
        )


def test_attention_of_both_branches_sums_to_one(gimp, three):
    ones = torch.ones(3)
    torch.testing.assert_close(class_attention(gimp, three).sum(1), ones)
    weights = fragment_weights(gimp, three).sum((1, 2))
    torch.testing.assert_close(weights, three.has_genes.float())


def test_every_gene_reaches_the_logits(gimp, three):
    three.genes.requires_grad_()
    gimp(three).logits.square().sum().backward()
    assert three.genes.grad[three.has_genes].ne(0).all()
    assert three.genes.grad[~three.has_genes].eq(0).all()


def test_hidden_patches_are_predicted_from_the_others_alone(gimp, three, rng):
    config = gimp.config
    hidden = draw_mask(
        three.mask, config.mask_ratio, mode=config.mask_mode, generator=rng
    )
    other = torch.where(hidden[..., None], 1e3, three.features)
    before = gimp.reconstruct(three, hidden)
    after = gimp.reconstruct(replace(three, features=other), hidden)
    assert torch.equal(before[three.mask], after[three.mask])


def test_a_step_of_both_stages_lowers_the_loss(gimp, three):
    for objective in (GimpPretrain(gimp), GimpFinetune(gimp)):
        optimizer = torch.optim.SGD(gimp.parameters(), lr=1e-3)
        before = objective(three, torch.Generator().manual_seed(0)).total
        optimizer.zero_grad()
        before.backward()
        optimizer.step()
        after = objective(three, torch.Generator().manual_seed(0)).total
        assert after < before
