"""Evidence against plain, full computations."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from gimp_models.bag import Bag, collate
from gimp_models.errors import BatchError
from gimp_models.evidence import (
    class_attention,
    fragment_weights,
    masked_reconstruction,
    measure_reference,
    modality_share,
    nearest_patches,
    plan_blocks,
    reconstruct_block,
)
from gimp_models.losses import standardise
from hypothesis import given
from hypothesis import strategies as st


def full_matrix(layer, x, mask):
    """Attention of all tokens to all (B,H,T,T), by the formula."""
    attention = layer.attention
    x = layer.norm_attention(x)
    d = x.shape[-1] // attention.heads
    query = attention.query(x).split(d, dim=-1)
    key = attention.key_value(x).unflatten(-1, (attention.heads, 2 * d))[..., :d]
    rows = []
    for head, q in enumerate(query):
        scores = q @ key[:, :, head].transpose(1, 2) / d**0.5
        scores = scores.masked_fill(~mask[:, None], -torch.inf)
        rows.append(scores.softmax(-1))
    return torch.stack(rows, dim=1)


def test_class_attention_equals_the_full_matrix_row(make_model, three):
    model = make_model()
    mask = F.pad(three.mask, (1, 0), value=True)
    x = model.image.tokens(three, None)
    *early, last = model.image.mixer.layers
    for layer in early:
        x = layer(x, mask)
    row = full_matrix(last, x, mask)[:, :, 0, 1:].mean(1)
    expected = row / row.sum(1, keepdim=True)
    found = class_attention(model, three)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(found.sum(1), torch.ones(3))


def test_exact_attention_equals_the_formula(make_model, three, rng):
    layer = make_model().image.mixer.layers[0]
    mask = F.pad(three.mask, (1, 0), value=True)
    x = torch.randn(3, 41, 32, generator=rng)
    _, value = (
        layer.attention.key_value(layer.norm_attention(x))
        .unflatten(-1, (4, 16))
        .chunk(2, dim=-1)
    )
    mixed = full_matrix(layer, x, mask) @ value.transpose(1, 2)
    expected = layer.attention.out(mixed.transpose(1, 2).flatten(2))
    found = layer.attention(layer.norm_attention(x), mask)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_under_nystrom_the_attention_shown_is_the_attention_used(make_model, three):
    """The class token reads by its exact row, whatever the landmarks."""
    exact, nystrom = make_model(), make_model(attention="nystrom", landmarks=4)
    mask = F.pad(three.mask, (1, 0), value=True)
    x = exact.image.tokens(three, None)
    landmarks = nystrom.image._pooling(three, mask)
    found = exact.image.mixer.layers[0](x, mask, landmarks)
    expected = exact.image.mixer.layers[0](x, mask)
    torch.testing.assert_close(found[:, 0], expected[:, 0])
    assert (found - expected)[:, 1:][three.mask].abs().max() > 1e-3


def test_fragment_weights_are_between_times_within(make_model, three):
    model = make_model()
    weights = fragment_weights(model, three)
    tokens = model.genes(three.genes, attention=True)
    expected = tokens.between[0, :, None] * tokens.within[0]
    torch.testing.assert_close(weights[0], expected)
    torch.testing.assert_close(weights.sum((1, 2)), torch.tensor([1.0, 0, 1]))
    empty = (model.genes.layout == model.config.genes).all(-1)
    assert empty.any()
    assert weights[:, empty].eq(0).all()


def test_fragment_weights_need_genes(make_model, three):
    nobody = replace(three, genes=None, has_genes=torch.zeros(3).bool())
    with pytest.raises(BatchError, match="None of the 3 patients"):
        fragment_weights(make_model(), nobody)


def test_modality_shares_add_up_to_the_logit(make_model, three):
    model, target = make_model(), torch.tensor([0, 1, 2])
    share = modality_share(model, three, target)
    logit = model(three).logits.gather(1, target[:, None])[:, 0]
    torch.testing.assert_close(share.logit, logit)
    summed = share.baseline + share.image + share.genes
    torch.testing.assert_close(summed, logit, atol=1e-5, rtol=0)
    assert share.genes[1] == 0
    assert share.genes[0].abs() > 1e-4
    assert share.image.abs().min() > 1e-4


def test_modality_shares_add_up_under_autocast(make_model, three):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        share = modality_share(make_model(), three, torch.tensor([0, 1, 2]))
    summed = share.baseline + share.image + share.genes
    torch.testing.assert_close(summed, share.logit, atol=1e-5, rtol=0)


def test_modality_share_is_the_mean_over_both_orders_of_arrival(make_model, three):
    model, target = make_model(), torch.tensor([0, 0, 0])
    image, genes = model.encode_image(three).cls, model.encode_genes(three)[0]
    mean_image = model.image_token_mean.expand_as(image)
    mean_genes = model.gene_token_mean.expand_as(genes)

    def worth(first, second):
        return model.classify(first, second)[:, 0]

    first = worth(image, mean_genes) - worth(mean_image, mean_genes)
    second = worth(image, genes) - worth(mean_image, genes)
    share = modality_share(model, three, target)
    torch.testing.assert_close(share.image, (first + second) / 2)


@given(
    st.integers(1, 90),
    st.integers(1, 40),
    st.floats(0.05, 0.95),
    st.sampled_from(["block", "random"]),
)
def test_blocks_hide_every_patch_exactly_once(patches, window, ratio, mode):
    from gimp_models.gimp import GimpConfig

    config = GimpConfig(
        patch_features=2,
        genes=2,
        classes=2,
        window=window,
        mask_ratio=ratio,
        mask_mode=mode,
    )
    index = torch.arange(patches)
    coords = torch.stack([index // 7, index % 7], dim=1) * 128.0
    blocks = plan_blocks(coords, config)
    hidden = torch.cat([block.hidden for block in blocks])
    assert hidden.sort().values.equal(index)
    for block in blocks:
        steps = [b for b in blocks if b.window is block.window]
        sizes = {len(b.hidden) for b in steps}
        assert max(sizes) - min(sizes) <= 1
        assert len(block.window) <= window
        assert torch.isin(block.hidden, block.window).all()
        assert len(block.hidden) < len(block.window) or len(block.window) == 1
        if mode == "block":
            assert (block.hidden.diff() == 1).all()  # raster order is index order


@pytest.mark.parametrize("window", [2048, 11])
def test_reconstruction_of_a_patch_ignores_that_patch(
    make_model, make_bag, window, rng
):
    model, bag = make_model(window=window), make_bag(30)
    before = masked_reconstruction(model, bag)
    for patch in (0, 13, 29):
        features = bag.features.clone()
        features[patch] += 5 * torch.randn(len(features[patch]), generator=rng)
        after = masked_reconstruction(model, replace(bag, features=features))
        same = (before.predicted == after.predicted).all(1)
        assert same[before.block == before.block[patch]].all()
        assert before.error[patch] != after.error[patch]


def test_reconstruction_error_is_one_minus_the_cosine(make_model, make_bag):
    model, bag = make_model(mask_ratio=0.25), make_bag(16)
    found = masked_reconstruction(model, bag)
    masked = (found.block == 1)[None]
    predicted = model.reconstruct(collate([bag]), masked)[0]
    chosen = masked[0]
    assert found.block.unique().tolist() == [0, 1, 2, 3]
    torch.testing.assert_close(found.predicted[chosen], predicted[chosen])
    cosine = F.cosine_similarity(predicted, standardise(bag.features), dim=-1)
    torch.testing.assert_close(found.error[chosen], 1 - cosine[chosen])


def test_all_of_a_block_lies_on_the_device_of_its_bag(make_model, three_bags):
    """Nyström reads mask and places together; `meta` stands for any device."""
    model, bag, given = make_model(), three_bags[0], []

    def reconstruct(batch, masked):
        given.append(batch)
        return torch.zeros(1, masked.shape[1], 1)

    model.reconstruct = reconstruct
    elsewhere = Bag(bag.features.to("meta"), bag.coords_um.to("meta"))
    reconstruct_block(model, elsewhere, plan_blocks(bag.coords_um, model.config)[0])
    for field in ("features", "coords_um", "mask", "has_genes"):
        assert getattr(given[0], field).device.type == "meta"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("attention", ["exact", "nystrom"])
def test_a_gpu_reconstructs_the_same(make_model, three_bags, attention):
    model, bag = make_model(attention=attention, landmarks=6), three_bags[0]
    expected = masked_reconstruction(model, bag).error
    there = Bag(bag.features.cuda(), bag.coords_um.cuda())
    found = masked_reconstruction(model.cuda(), there).error
    torch.testing.assert_close(found.cpu(), expected, atol=1e-4, rtol=1e-3)


def test_a_bag_of_one_patch_is_reconstructed(make_model, make_bag):
    found = masked_reconstruction(make_model(), make_bag(1))
    assert found.predicted.isfinite().all()


def test_retrieval_finds_the_most_similar_patch(rng):
    known = torch.randn(50, 8, generator=rng)
    wanted = torch.tensor([3, 49, 3, 0])
    noisy = 7 * known[wanted] + 0.01 * torch.randn(4, 8, generator=rng)
    assert nearest_patches(noisy, known, rows=3).equal(wanted)


def test_the_reference_is_the_mean_over_patients(make_model, three_bags):
    model = make_model()
    bags = [collate(three_bags[:2]), collate(three_bags[2:])]
    measure_reference(model, bags)
    every = collate(three_bags)
    features = torch.cat([bag.features for bag in three_bags])
    close = torch.testing.assert_close
    close(model.feature_mean, features.mean(0))
    close(model.image_token_mean, model.encode_image(every).cls.mean(0))
    close(model.gene_token_mean, model.encode_genes(every)[0][[0, 2]].mean(0))


def test_a_reference_without_patients_is_refused(make_model):
    with pytest.raises(BatchError, match="no batch"):
        measure_reference(make_model(), [])


def test_evidence_leaves_a_model_in_training_as_it_was(make_model, make_bag):
    model, bag = make_model().train(), make_bag(5)
    first, second = (class_attention(model, collate([bag])) for _ in range(2))
    assert model.training
    assert torch.equal(first, second)
    assert not first.requires_grad
