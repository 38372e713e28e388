"""Bags of different length in one batch."""

from __future__ import annotations

import math
from dataclasses import fields, replace

import pytest
import torch
from gimp_models.bag import Bag, collate
from gimp_models.errors import BatchError


def test_padding_keeps_every_bag_as_it_was(three_bags, three):
    assert len(three) == 3
    assert three.features.shape == (3, 40, 12)
    for row, bag in enumerate(three_bags):
        n = len(bag.features)
        assert torch.equal(three.features[row, :n], bag.features)
        assert torch.equal(three.coords_um[row, :n], bag.coords_um)
        assert three.mask[row].sum() == n
        assert three.mask[row, :n].all()
        assert three.features[row, n:].eq(0).all()


def test_a_patient_without_genes_gets_the_training_mean_and_is_marked(three):
    assert three.has_genes.tolist() == [True, False, True]
    assert three.genes[1].eq(0).all()
    assert three.genes[0].ne(0).any()


def test_no_genes_at_all_are_none(make_bag):
    batch = collate([make_bag(3, genes=0), make_bag(2, genes=0)])
    assert batch.genes is None
    assert not batch.has_genes.any()


def test_unknown_labels_are_minus_one(make_bag):
    assert collate([make_bag(2, label=None), make_bag(2, label=2)]).labels.tolist() == [
        -1,
        2,
    ]


def test_survival_comes_with_nan_where_unknown(make_bag):
    dead = replace(make_bag(2), days=400.5, event=True)
    batch = collate([dead, make_bag(3)])
    assert batch.days.dtype == torch.float64
    assert batch.days[0] == 400.5
    assert math.isnan(batch.days[1])
    assert batch.event.tolist() == [True, False]


def test_a_cohort_without_survival_has_none(three):
    assert three.days is None
    assert three.event is None


def test_moving_a_batch_moves_every_field(three):
    moved = replace(three, days=torch.zeros(3)).to("meta")
    held = [getattr(moved, f.name) for f in fields(moved)]
    assert {t.device.type for t in held if t is not None} == {"meta"}
    assert moved.event is None


@pytest.mark.parametrize(
    ("features", "coords", "said"),
    [((4, 3), (5, 2), "(5, 2)"), ((4,), (4, 2), "(4,)"), ((4, 3), (4, 3), "(4, 3)")],
)
def test_shapes_that_do_not_fit_are_refused_with_both(features, coords, said):
    with pytest.raises(BatchError) as caught:
        Bag(torch.zeros(features), torch.zeros(coords))
    assert said in str(caught.value)


def test_an_empty_batch_is_refused():
    with pytest.raises(BatchError, match="at least one bag"):
        collate([])


def test_bags_of_different_encoders_are_refused_with_both_sizes(make_bag):
    other = Bag(torch.zeros(2, 5), torch.zeros(2, 2))
    with pytest.raises(BatchError, match=r"feature size P, got \[5, 12\]"):
        collate([make_bag(3), other])


def test_profiles_of_different_panels_are_refused_with_both_sizes(make_bag):
    with pytest.raises(BatchError, match=r"number of genes G, got \[7, 150\]"):
        collate([make_bag(3), make_bag(3, genes=7)])
