"""Windows, masks, reading orders: what is hidden, and that it stays hidden."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from gimp_models.bag import collate
from gimp_models.masking import (
    draw_mask,
    drop_genes,
    hidden_count,
    sample_patches,
    sample_window,
)
from gimp_models.objective import GimpPretrain
from gimp_models.order import reading_order, reading_rank
from hypothesis import given
from hypothesis import strategies as st

seeds = st.integers(0, 2**32 - 1)
sizes = st.lists(st.integers(1, 60), min_size=1, max_size=5)
ratios = st.floats(0.05, 0.95)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def lengths_mask(lengths: list[int]) -> torch.Tensor:
    return torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]


@given(sizes, ratios, seeds)
def test_block_masks_are_one_run_of_exactly_m_real_patches(lengths, ratio, seed):
    mask = lengths_mask(lengths)
    masked = draw_mask(mask, ratio, mode="block", generator=generator(seed))
    assert not (masked & ~mask).any()
    for row, n in zip(masked, lengths, strict=True):
        here = row.nonzero()[:, 0]
        assert len(here) == min(max(round(n * ratio), 1), n - 1)
        assert len(here) == 0 or here[-1] - here[0] == len(here) - 1


@given(sizes, ratios, seeds)
def test_random_masks_hide_exactly_m_real_patches(lengths, ratio, seed):
    mask = lengths_mask(lengths)
    masked = draw_mask(mask, ratio, mode="random", generator=generator(seed))
    assert not (masked & ~mask).any()
    assert masked.sum(1).tolist() == hidden_count(torch.tensor(lengths), ratio).tolist()


def test_random_masks_are_not_runs_and_blocks_start_anywhere():
    mask = lengths_mask([40] * 200)
    single = draw_mask(mask, 0.5, mode="random", generator=generator(0))
    block = draw_mask(mask, 0.5, mode="block", generator=generator(0))
    assert (single[:, 1:] != single[:, :-1]).sum(1).float().mean() > 10
    assert set(block.int().argmax(1).tolist()) == set(range(21))


@pytest.mark.parametrize("mode", ["block", "random"])
@pytest.mark.parametrize("attention", ["exact", "nystrom"])
def test_masked_features_cannot_influence_the_prediction(
    make_model, three, rng, mode, attention
):
    model = make_model(attention=attention, landmarks=6)
    masked = draw_mask(three.mask, 0.5, mode=mode, generator=rng)
    other = torch.where(masked[..., None], 1e3, three.features)
    before = model.reconstruct(three, masked)
    after = model.reconstruct(replace(three, features=other), masked)
    assert torch.equal(before[three.mask], after[three.mask])


def test_visible_features_do_influence_the_prediction(make_model, three, rng):
    model = make_model()
    masked = draw_mask(three.mask, 0.5, mode="block", generator=rng)
    other = torch.where(masked[..., None], three.features, three.features + 1)
    before = model.reconstruct(three, masked)
    after = model.reconstruct(replace(three, features=other), masked)
    assert (before - after)[0][masked[0]].abs().max() > 1e-4


def test_a_masked_patch_keeps_its_place(make_model, three):
    model = make_model()
    masked = three.mask.clone()
    tokens = model.image.tokens(three, masked)[0, 1:41]
    assert torch.cdist(tokens, tokens).fill_diagonal_(9).min() > 1e-2


@pytest.mark.parametrize("order", ["raster", "hilbert"])
def test_a_window_is_consecutive_patches_without_repetition(make_bag, order):
    bags = [make_bag(35), make_bag(9)]
    batch = collate(bags)
    window = sample_window(batch, 16, order=order, generator=generator(3))
    assert window.mask.sum(1).tolist() == [16, 9]
    rank = reading_rank(batch.coords_um, batch.mask, order)
    for row, bag in enumerate(bags):
        real = window.coords_um[row][window.mask[row]]
        same = (real[:, None] == bag.coords_um).all(-1)
        assert same.sum(1).eq(1).all()
        places = rank[row][same.int().argmax(1)]
        assert places.diff().eq(1).all()


def test_every_start_of_a_window_is_drawn(make_bag):
    batch, g = collate([make_bag(12)]), generator(0)
    starts = {
        float(sample_window(batch, 9, order="raster", generator=g).features[0, 0, 0])
        for _ in range(60)
    }
    assert starts == set(batch.features[0, :4, 0].tolist())


def test_a_subsample_holds_distinct_real_patches(three, rng):
    fewer = sample_patches(three, 10, generator=rng)
    assert fewer.mask.sum(1).tolist() == [10, 10, 1]
    assert fewer.features[~fewer.mask].eq(0).all()
    known = {tuple(f) for f in three.features[0].tolist()}
    kept = {tuple(f) for f in fewer.features[0].tolist()}
    assert len(kept) == 10
    assert kept <= known


def test_a_batch_of_short_bags_is_not_subsampled(three, rng):
    assert sample_patches(three, 40, generator=rng) is three


def test_dropped_genes_are_at_the_training_mean(rng):
    genes = torch.ones(4, 500)
    rate = drop_genes(genes, 0.2, generator=rng).eq(0).float().mean()
    assert 0.16 < rate < 0.24


@given(st.integers(1, 9), st.integers(1, 9), seeds)
def test_raster_order_reads_rows_whatever_the_rounding(rows, columns, seed):
    cells = torch.cartesian_prod(torch.arange(rows), torch.arange(columns))
    g = generator(seed)
    jitter = 0.02 * torch.rand(cells.shape, generator=g)
    shuffled = torch.randperm(len(cells), generator=g)
    coords = (cells[shuffled] + 3.5) * 127.6 + jitter
    assert torch.equal(cells[shuffled][reading_order(coords, "raster")], cells)


@pytest.mark.parametrize("attention", ["exact", "nystrom"])
def test_a_patient_without_patches_trains_beside_others(
    make_model, make_bag, rng, attention
):
    bag, model = make_bag(20), make_model(attention=attention, landmarks=6)
    batch, alone = collate([bag, make_bag(0)]), model(collate([bag])).logits[0]
    torch.testing.assert_close(model(batch).logits[0], alone, atol=1e-5, rtol=1e-4)
    GimpPretrain(model)(batch, rng).total.backward()
    assert all(p.grad.isfinite().all() for p in model.image.parameters())


@pytest.mark.parametrize("side", [2, 4, 8, 16])
def test_hilbert_order_steps_to_a_neighbour_each_time(side):
    cells = torch.cartesian_prod(torch.arange(side), torch.arange(side))
    order = reading_order(cells * 128.0, "hilbert")
    assert sorted(order.tolist()) == list(range(side**2))
    assert cells[order].diff(dim=0).abs().sum(1).eq(1).all()


def test_hilbert_runs_are_more_compact_than_rows():
    cells = torch.cartesian_prod(torch.arange(16), torch.arange(16)).float()
    spread = {
        order: cells[reading_order(cells * 128, order)].unfold(0, 32, 32).std(-1).mean()
        for order in ("raster", "hilbert")
    }
    assert spread["hilbert"] < 0.8 * spread["raster"]
