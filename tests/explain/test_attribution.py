from dataclasses import replace

import pytest
import torch
from gimp_models.bag import Batch
from gimp_models.gimp import Gimp

from napari_gimp.explain.prediction import attributions, contributions, predict


def change_of_logit(model: Gimp, batch: Batch, other: Batch, target: int) -> float:
    with torch.no_grad():
        return float((model(batch).logits - model(other).logits)[0, target])


@pytest.mark.parametrize("target", [0, 1, 2])
def test_patch_contributions_are_complete_within_two_percent(
    model: Gimp, batch: Batch, target: int
) -> None:
    *_, last = contributions(model, batch, target)

    average = replace(batch, features=model.feature_mean.expand_as(batch.features))
    change = change_of_logit(model, batch, average, target)
    assert float(last.attribution.sum()) == pytest.approx(change, rel=0.02, abs=1e-3)
    assert last.attribution.shape == (60,)
    assert last.gap < 0.02


@pytest.mark.parametrize("target", [0, 1, 2])
def test_gene_attributions_are_complete_within_two_percent(
    model: Gimp, batch: Batch, target: int
) -> None:
    *_, last = attributions(model, batch, target)

    assert batch.genes is not None
    average = replace(batch, genes=torch.zeros_like(batch.genes))
    change = change_of_logit(model, batch, average, target)
    assert float(last.attribution.sum()) == pytest.approx(change, rel=0.02, abs=1e-3)
    assert last.attribution.shape == batch.genes.shape[1:]


def test_without_genes_the_head_of_the_slide_alone_is_explained(
    model: Gimp, without_genes: Batch
) -> None:
    *_, last = contributions(model, without_genes, 1)

    average = model.feature_mean.expand_as(without_genes.features)
    with torch.no_grad():
        seen = model(without_genes).image_logits[0, 1]
        baseline = model(replace(without_genes, features=average)).image_logits[0, 1]
    change = float(seen - baseline)
    assert float(last.attribution.sum()) == pytest.approx(change, rel=0.02, abs=1e-3)


def test_a_gene_at_the_training_mean_gets_nothing(model: Gimp, batch: Batch) -> None:
    assert batch.genes is not None
    genes = batch.genes.clone()
    genes[:, 10] = 0
    *_, last = attributions(model, replace(batch, genes=genes), 0)

    assert float(last.attribution[10]) == 0
    assert float(last.attribution.abs().max()) > 0


def test_attributing_leaves_no_gradient_in_the_model(model: Gimp, batch: Batch) -> None:
    for _ in contributions(model, batch, 0):
        pass

    assert all(p.grad is None for p in model.parameters())


def test_the_path_is_walked_from_the_baseline_to_the_patient(
    model: Gimp, batch: Batch
) -> None:
    done = [part.done for part in contributions(model, batch, 0)]

    assert done == sorted(done)
    assert done[0] > 0
    assert done[-1] == 1


def test_shares_of_the_modalities_add_up(model: Gimp, batch: Batch) -> None:
    share = predict(model, batch).share

    assert share is not None
    assert share.slide + share.genes == pytest.approx(share.total, abs=1e-5)
    assert 0 <= share.slide_fraction <= 1


def test_a_slide_alone_is_answered_by_its_own_head_and_has_no_share(
    model: Gimp, without_genes: Batch
) -> None:
    answer = predict(model, without_genes)

    assert answer.share is None
    assert answer.probabilities.tolist() == answer.slide_only.tolist()
    assert answer.attention.sum() == pytest.approx(1, abs=1e-5)
