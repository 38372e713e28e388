"""Integrated gradients of GiMP: complete, exact at the baseline, without traces."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from gimp_models.bag import collate
from gimp_models.errors import BatchError
from gimp_models.evidence import path
from gimp_models.evidence.gimp_gradients import gene_attributions, patch_contributions

BOTH = pytest.mark.parametrize("attention", ["exact", "nystrom"])


@pytest.fixture
def patient(make_bag):
    return collate([make_bag(30)])


@pytest.fixture
def gimp(make_model, patient):
    model = make_model()
    model.feature_mean.copy_(patient.features[0].mean(0) + 0.5)
    return model


def pair_head(model, batch):
    """The logits as a function of the image token, genes as they are."""
    token = model.encode_genes(batch)[0].detach()
    return lambda image: model.classify(image, token.expand(len(image), -1))


def change(model, batch, other, target):
    with torch.no_grad():
        return float((model(batch).logits - model(other).logits)[0, target])


@BOTH
@pytest.mark.parametrize("target", [0, 1, 2])
def test_contributions_of_patches_are_complete_within_2_percent(
    make_model, patient, attention, target
):
    model = make_model(attention=attention, landmarks=6)
    *_, last = patch_contributions(model, patient, pair_head(model, patient), target)

    average = replace(patient, features=model.feature_mean.expand(1, 30, -1))
    expected = change(model, patient, average, target)
    assert last.attribution.shape == (30,)
    assert float(last.attribution.sum()) == pytest.approx(expected, rel=0.02, abs=1e-3)
    assert last.gap < 0.02
    assert last.done == 1


@pytest.mark.parametrize("per_fragment", [True, False])
@pytest.mark.parametrize("target", [0, 1, 2])
def test_attributions_of_genes_are_complete_within_2_percent(
    make_model, patient, per_fragment, target
):
    model = make_model(per_fragment=per_fragment)
    *_, last = gene_attributions(model, patient, target)

    average = replace(patient, genes=torch.zeros_like(patient.genes))
    expected = change(model, patient, average, target)
    assert last.attribution.shape == patient.genes.shape[1:]
    assert float(last.attribution.sum()) == pytest.approx(expected, rel=0.02, abs=1e-3)
    assert last.gap < 0.02


def test_a_slide_alone_is_explained_through_the_head_of_the_image(gimp, patient):
    alone = replace(patient, genes=None, has_genes=torch.zeros(1, dtype=torch.bool))
    *_, last = patch_contributions(gimp, alone, gimp.image_head, 1)

    average = replace(alone, features=gimp.feature_mean.expand(1, 30, -1))
    with torch.no_grad():
        expected = (gimp(alone).image_logits - gimp(average).image_logits)[0, 1]
    assert float(last.attribution.sum()) == pytest.approx(
        float(expected), rel=0.02, abs=1e-3
    )


def test_what_is_at_the_training_mean_gets_exactly_nothing(gimp, patient):
    genes, features = patient.genes.clone(), patient.features.clone()
    genes[:, 10], features[:, 7] = 0, gimp.feature_mean
    average = replace(patient, genes=genes, features=features)
    *_, of_genes = gene_attributions(gimp, average, 0)
    head = pair_head(gimp, average)
    *_, of_patches = patch_contributions(gimp, average, head, 0)

    assert of_genes.attribution[10] == 0
    assert of_patches.attribution[7] == 0
    assert of_genes.attribution.ne(0).sum() == gimp.config.genes - 1
    assert of_patches.attribution.ne(0).sum() == 29


def test_single_patches_agree_with_a_fine_integral(gimp, patient, monkeypatch):
    head = pair_head(gimp, patient)
    *_, usual = patch_contributions(gimp, patient, head, 2)
    monkeypatch.setattr(path, "_PARTS", 40)
    *_, fine = patch_contributions(gimp, patient, head, 2)

    off = (usual.attribution - fine.attribution).abs().max()
    assert off < 0.01 * fine.attribution.abs().max()


def test_explaining_leaves_no_gradient_in_the_model(gimp, patient):
    list(patch_contributions(gimp, patient, pair_head(gimp, patient), 0))
    list(gene_attributions(gimp, patient, 0))

    assert all(p.grad is None for p in gimp.parameters())


def test_a_large_bag_goes_through_one_point_at_a_time(gimp, patient, monkeypatch):
    from gimp_models.evidence import gimp_gradients

    head, seen = pair_head(gimp, patient), []

    def watched(image):
        seen.append(len(image))
        return head(image)

    *_, whole = patch_contributions(gimp, patient, watched, 0)
    assert max(seen) == 2
    monkeypatch.setattr(gimp_gradients, "PATCHES_AT_ONCE", 30)
    seen.clear()
    *_, piecewise = patch_contributions(gimp, patient, watched, 0)

    assert max(seen) == 1
    torch.testing.assert_close(piecewise.attribution, whole.attribution)


def test_a_path_of_several_patients_is_refused(gimp, three):
    with pytest.raises(BatchError, match="the batch has 3"):
        next(patch_contributions(gimp, three, gimp.image_head, 0))
    with pytest.raises(BatchError, match="one by one"):
        next(gene_attributions(gimp, three, 0))


@pytest.mark.parametrize("genes", [None, torch.zeros(1, 150)])
def test_genes_that_are_not_there_are_refused(gimp, patient, genes):
    nobody = replace(patient, genes=genes, has_genes=torch.zeros(1, dtype=torch.bool))
    with pytest.raises(BatchError, match="add a gene table"):
        next(gene_attributions(gimp, nobody, 0))
