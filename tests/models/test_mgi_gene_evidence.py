"""What genes do to MGI's answer: attributions and counterfactuals."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from gimp_models.errors import BatchError, ConfigError
from gimp_models.evidence.mgi import mask_probabilities, similarity_map
from gimp_models.evidence.mgi_genes import (
    counterfactual,
    genes_at_mean,
    genes_of,
    mask_attributions,
    mean_genes,
    similarity_attributions,
)
from gimp_models.mgi import Mgi, MgiConfig
from gimp_models.region import Region, collate_regions

GENES = 60
SMALL = {
    "image_px": 32,
    "patch_px": 8,
    "width": 32,
    "depth": 2,
    "heads": 4,
    "fragment": 10,
    "gene_width": 24,
    "gene_layers": 2,
    "embedding": 16,
    "decoder_width": 16,
}
SIDES = [(32, 32), (24, 32), (19, 26)]


def make_model(classes=1, **options):
    config = MgiConfig(genes=GENES, classes=classes, **{**SMALL, **options})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Mgi(config).eval()


def make_region(index, side=(32, 32), *, genes=True):
    g = torch.Generator().manual_seed(index)
    image, profile = torch.rand(3, *side, generator=g), torch.randn(GENES, generator=g)
    return Region(image, profile if genes else None)


@pytest.fixture
def ragged():
    return collate_regions([make_region(i, side) for i, side in enumerate(SIDES)])


@pytest.fixture
def one():
    return collate_regions([make_region(0)])


def double(batch):
    return replace(batch, images=batch.images.double(), genes=batch.genes.double())


def last_of(parts):
    *_, last = parts
    return last


def test_attributions_of_the_similarity_sum_to_its_change(one):
    model = make_model()
    found = last_of(similarity_attributions(model, one, tolerance=0.001))
    average = replace(one, genes=mean_genes(model, one))
    change = similarity_map(model, one).similarity
    change = change - similarity_map(model, average).similarity
    assert found.attribution.shape == (GENES,)
    assert found.gap < 0.001
    assert abs(float(change)) > 0.005
    torch.testing.assert_close(found.attribution.sum(), change[0], atol=1e-4, rtol=0)


def inner_sum(model, batch, inside, channel):
    with torch.no_grad():
        return float(model(batch).logits[:, channel][inside].sum())


@pytest.mark.parametrize("classes", [1, 3])
def test_attributions_of_the_mask_sum_to_the_change_of_its_logits(one, classes):
    model, one = make_model(classes).double(), double(one)
    with torch.no_grad():
        for layer in (model.fusion.layers[0].mix.value, model.fusion.layers[0].mix.out):
            layer.weight *= 4  # so that genes matter in an untrained model
        logits = model(one).logits
        if classes == 1:  # so that the mask is about half of the region
            model.decoder.head.bias -= logits.median()
            logits = model(one).logits
    tissue = 1 if classes == 1 else int(logits.argmax(1).mode().values.mode().values)
    inside = logits[:, 0] > 0 if classes == 1 else logits.argmax(1) == tissue
    found = last_of(mask_attributions(model, one, tissue=tissue, tolerance=0.001))
    channel = 0 if classes == 1 else tissue
    average = replace(one, genes=mean_genes(model, one))
    change = inner_sum(model, one, inside, channel)
    change -= inner_sum(model, average, inside, channel)
    assert abs(change) > 1
    assert float(found.attribution.sum()) == pytest.approx(change, rel=0.01)


def test_genes_without_effect_get_no_attribution(one):
    model = make_model()
    genes = one.genes.clone()
    genes[:, 20:30] = 0  # at the mean: nothing to attribute
    found = last_of(similarity_attributions(model, replace(one, genes=genes)))
    assert found.attribution[20:30].eq(0).all()
    assert found.attribution[:20].ne(0).any()


def test_a_mask_made_without_genes_has_no_attribution(one):
    with pytest.raises(ConfigError, match="image only"):
        last_of(mask_attributions(make_model(fusion="none"), one))


def test_paths_need_one_region_with_genes_and_a_mask(ragged, one):
    model = make_model()
    slide = collate_regions([make_region(0, genes=False)])
    for attributions in (similarity_attributions, mask_attributions):
        with pytest.raises(BatchError, match="the batch has 3"):
            last_of(attributions(model, ragged))
        with pytest.raises(BatchError, match="has no genes"):
            last_of(attributions(model, slide))
    with torch.no_grad():
        model.decoder.head.bias -= 99
    with pytest.raises(BatchError, match="No pixel is predicted as class 1"):
        last_of(mask_attributions(model, one))


def test_attributions_leave_no_gradient(one):
    model = make_model()
    last_of(similarity_attributions(model, one))
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


def test_the_own_genes_change_nothing(ragged):
    found = counterfactual(make_model(), ragged, ragged.genes)
    assert found.change.eq(0).all()


def test_a_model_without_genes_knows_no_counterfactual(ragged):
    model = make_model(fusion="none")
    found = counterfactual(model, ragged, mean_genes(model, ragged))
    assert found.change.eq(0).all()


def test_mean_genes_are_what_a_region_without_genes_has(ragged):
    model = make_model()
    found = counterfactual(model, ragged, mean_genes(model, ragged))
    absent = replace(ragged, genes=None, has_genes=torch.zeros(3).bool())
    torch.testing.assert_close(found.other, mask_probabilities(model, absent))
    assert found.change.abs().max() > 1e-4


def test_another_patients_genes_give_that_patients_mask_of_this_image(ragged):
    model = make_model()
    profile = ragged.genes[2]
    found = counterfactual(model, ragged, genes_of(ragged, profile))
    expected = mask_probabilities(model, replace(ragged, genes=profile.expand(3, -1)))
    torch.testing.assert_close(found.other, expected)
    assert found.change[2].abs().max() < 1e-6


def test_a_gene_set_moves_alone(ragged):
    chosen = torch.tensor([3, 17, 59])
    moved = genes_at_mean(ragged, chosen)
    assert moved[:, chosen].eq(0).all()
    rest = torch.ones(GENES).bool()
    rest[chosen] = False
    assert torch.equal(moved[:, rest], ragged.genes[:, rest])
    slide = collate_regions([make_region(0, genes=False)])
    with pytest.raises(BatchError, match="none can be moved"):
        genes_at_mean(slide, chosen)
