"""MGI on regions whose tumour shape is written in the genes, not in the image."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from gimp_models.errors import ConfigError
from gimp_models.evidence.mgi import similarity_table
from gimp_models.evidence.mgi_genes import mask_attributions
from gimp_models.mgi import Mgi, MgiConfig
from gimp_models.objective.mgi import MgiFinetune, MgiPretrain, mgi_parameter_groups
from gimp_models.overlap import dice_score
from gimp_models.planted.mgi import planted_regions
from gimp_models.region import collate_regions

TRUTH = planted_regions()
PRETRAIN_STEPS, FINETUNE_STEPS = 100, 200


def config(**options):
    sizes = {
        "image_px": 32,
        "patch_px": 8,
        "width": 48,
        "depth": 2,
        "heads": 4,
        "gene_width": 48,
        "gene_layers": 1,
        "embedding": 32,
        "decoder_width": 32,
    }
    return MgiConfig(genes=2000, classes=1, **{**sizes, **options})


def train(objective, regions, *, steps, lr=3e-3):
    model, g = objective.model, torch.Generator().manual_seed(0)
    groups = mgi_parameter_groups(model, lr=lr, encoder_scale=1)  # from scratch
    optimizer = torch.optim.AdamW(groups)
    objective.train()
    for _ in range(steps):
        rows = torch.randperm(len(regions), generator=g)[:16]
        loss = objective(collate_regions([regions[i] for i in rows]), g)
        optimizer.zero_grad()
        loss.total.backward()
        torch.nn.utils.clip_grad_norm_(objective.parameters(), 1.0)
        optimizer.step()
    return model.eval()


def fresh(**options):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Mgi(config(**options))


def mean_dice(model, regions, genes):
    batch = replace(collate_regions(regions), genes=genes)
    with torch.no_grad():
        found = model(batch).logits[:, 0] > 0
    scores = map(dice_score, found, batch.masks == 1)
    return sum(scores) / len(regions)


@pytest.fixture(scope="module")
def train_set():
    return TRUTH.cohort(256, seed=1)


@pytest.fixture(scope="module")
def held_back():
    return TRUTH.cohort(64, seed=2)


@pytest.fixture(scope="module")
def pretrained(train_set):
    return train(MgiPretrain(fresh()), train_set, steps=PRETRAIN_STEPS)


@pytest.fixture(scope="module")
def finetuned(pretrained, train_set):
    model = Mgi(pretrained.config)
    model.load_state_dict(pretrained.state_dict())
    return train(MgiFinetune(model), train_set, steps=FINETUNE_STEPS)


@pytest.fixture(scope="module")
def profiles(held_back):
    return torch.stack([region.genes for region in held_back])


def test_the_shape_follows_its_modules_and_nothing_else():
    regions = TRUTH.cohort(300, seed=3)
    genes = torch.stack([r.genes for r in regions])
    size = torch.stack([r.mask.float().mean() for r in regions])
    z = (genes - genes.mean(0)) / genes.std(0)
    correlation = (z * ((size - size.mean()) / size.std())[:, None]).mean(0).abs()
    assert TRUTH.drivers.sum() == 50
    for module in TRUTH.modules[:2]:
        assert correlation[module].mean() > 0.2
    for other in (TRUTH.modules[2], ~TRUTH.modules.any(0)):
        assert correlation[other].mean() < 0.08


def test_every_region_has_tumour_and_z_scores():
    regions = TRUTH.cohort(300, seed=4)
    genes = torch.stack([r.genes for r in regions])
    torch.testing.assert_close(genes.std(0).mean(), torch.ones(()), atol=0.01, rtol=0)
    assert genes.mean(0).abs().mean() < 0.06
    covered = torch.stack([r.mask.float().mean() for r in regions])
    assert covered.min() > 0.01
    assert covered.max() < 0.5
    assert all(0 <= r.image.min() <= r.image.max() <= 1 for r in regions)


def test_a_cohort_is_the_same_for_the_same_seed():
    one, two, other = (TRUTH.cohort(2, seed=s)[1] for s in (5, 5, 6))
    assert torch.equal(one.image, two.image)
    assert torch.equal(one.genes, two.genes)
    assert not torch.equal(one.image, other.image)


@pytest.mark.parametrize("drivers", [0, 1, 40])
def test_modules_that_do_not_fit_are_refused(drivers):
    with pytest.raises(ConfigError, match="do not fit in a panel of 50"):
        planted_regions(genes=50, drivers=drivers)


def test_the_shade_of_a_tumour_is_far_below_the_noise_of_a_pixel():
    assert TRUTH.contrast <= TRUTH.noise / 4


@pytest.mark.slow
def test_held_back_pairs_are_matched_better_than_by_chance(pretrained, held_back):
    found = similarity_table(pretrained, held_back).retrieval
    for way in (found.profiles, found.regions):
        assert way.median_rank < 0.75 * way.chance_rank
        assert way.recall_5 > way.chance_5


@pytest.mark.slow
def test_own_genes_beat_shuffled_genes(finetuned, held_back, profiles):
    own = mean_dice(finetuned, held_back, profiles)
    shuffled = mean_dice(finetuned, held_back, profiles.roll(1, 0))
    assert own > 0.7
    assert own > shuffled + 0.06


@pytest.mark.slow
def test_training_on_shuffled_genes_teaches_nothing_of_them(
    finetuned, train_set, held_back, profiles
):
    wrong = torch.stack([r.genes for r in train_set]).roll(1, 0)
    mixed = [replace(r, genes=g) for r, g in zip(train_set, wrong, strict=True)]
    control = train(MgiPretrain(fresh()), mixed, steps=PRETRAIN_STEPS)
    control = train(MgiFinetune(control), mixed, steps=FINETUNE_STEPS)
    own = mean_dice(finetuned, held_back, profiles)
    assert own > mean_dice(control, held_back, profiles) + 0.05


@pytest.mark.slow
def test_the_planted_genes_lead_the_attribution_of_the_mask(finetuned, held_back):
    score = torch.zeros(2000)
    for region in held_back[:8]:
        paths = mask_attributions(finetuned, collate_regions([region]), tolerance=0.1)
        *_, last = paths
        score += last.attribution.abs()
    drivers = TRUTH.drivers
    assert score[drivers].mean() > 4 * score[~drivers].mean()
    assert drivers[score.topk(25).indices].float().mean() > 0.4  # 0.025 by chance
