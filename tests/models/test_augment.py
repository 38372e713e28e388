"""Augmentation: what belongs together stays together, and nothing leaks."""

from __future__ import annotations

import pytest
import torch
from gimp_models.augment import Augmentation, disturb_genes, jitter_stain, turn_regions
from gimp_models.errors import ConfigError
from gimp_models.region import Region, collate_regions

SIZES = [(8, 8), (5, 8), (6, 3), (8, 4)]


def drawn(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def batch():
    """Ragged regions whose first channel is the mask, the last without genes."""
    regions = []
    for index, (height, width) in enumerate(SIZES * 4):
        image = 0.2 + 0.7 * torch.rand(3, height, width, generator=drawn(index))
        mask = torch.randint(0, 9, (height, width), generator=drawn(index))
        image[0] = (mask + 1) / 10
        genes = torch.randn(400, generator=drawn(index)) if index else None
        regions.append(Region(image, genes, mask, patient=f"p{index % 6}"))
    return collate_regions(regions)


def test_image_and_mask_turn_together(batch):
    turned = turn_regions(batch, drawn())
    values = (turned.images[:, 0] * 10 - 1).round().long()
    assert torch.equal(values[turned.pixels], turned.masks[turned.pixels])
    assert turned.masks[~turned.pixels].eq(-1).all()
    assert turned.images.movedim(1, -1)[~turned.pixels].eq(0).all()
    assert not torch.equal(turned.masks, batch.masks)


def test_padding_stays_at_the_bottom_and_the_right(batch):
    turned = turn_regions(batch, drawn())
    for pixels, (height, width) in zip(turned.pixels, SIZES * 4, strict=True):
        shape = pixels.any(1).sum(), pixels.any(0).sum()
        assert shape in [(height, width), (width, height)]
        assert pixels[: shape[0], : shape[1]].all()
        assert pixels.sum() == height * width


def test_all_eight_ways_occur_equally_often():
    image = torch.arange(12.0).view(3, 2, 2) / 12
    many = collate_regions([Region(image)] * 800)
    turned = turn_regions(many, drawn())
    ways, counts = turned.images.flatten(1).unique(dim=0, return_counts=True)
    assert len(ways) == 8
    assert counts.min() > 70


def test_turning_changes_no_number(batch):
    turned = turn_regions(batch, drawn())
    for a, b, real, moved in zip(
        batch.images, turned.images, batch.pixels, turned.pixels, strict=True
    ):
        before, after = a[:, real].sort().values, b[:, moved].sort().values
        assert torch.equal(before, after)


def test_regions_without_masks_turn_too(batch):
    alone = collate_regions([Region(torch.rand(3, 4, 6))])
    assert turn_regions(alone, drawn()).masks is None


def test_stain_of_no_strength_is_the_identity(batch):
    same = jitter_stain(batch, 0.0, drawn())
    torch.testing.assert_close(same.images, batch.images, atol=2e-6, rtol=0)


def test_stain_jitter_stays_in_range_and_out_of_the_padding(batch):
    other = jitter_stain(batch, 0.3, drawn())
    assert other.images.min() >= 0
    assert other.images.max() <= 1
    assert other.images.movedim(1, -1)[~other.pixels].eq(0).all()
    assert (other.images - batch.images).abs().max() > 0.02


def test_stain_jitter_moves_along_one_stain_at_a_time():
    stain = torch.tensor([0.650, 0.704, 0.286], dtype=torch.float64)
    stain = stain / stain.norm()  # pure haematoxylin of several amounts
    amount = torch.linspace(0.5, 1, 16, dtype=torch.float64).view(4, 4)
    image = (-stain[:, None, None] * amount).exp()
    batch = collate_regions([Region(image)])
    other = jitter_stain(batch, 0.05, drawn(3)).images[0]
    change = -other.log() + image.log()  # (3,4,4) optical density
    linear = change.flatten(1) - change.flatten(1).mean(1, keepdim=True)
    along = stain @ linear  # the shift is the same everywhere, the factor is not
    torch.testing.assert_close(linear, stain[:, None] * along, atol=1e-6, rtol=0)
    assert along.abs().max() > 1e-3


def test_regions_are_stained_independently():
    image = torch.full((3, 4, 4), 0.6)
    other = jitter_stain(collate_regions([Region(image)] * 5), 0.1, drawn())
    assert len(other.images[:, 0, 0, 0].unique()) == 5


def test_a_fifth_of_the_genes_drops_and_the_rest_is_noisy(batch):
    other = disturb_genes(batch, 0.2, 0.1, drawn())
    with_genes = other.genes[other.has_genes]
    dropped = with_genes == 0
    assert dropped.float().mean() == pytest.approx(0.2, abs=0.02)
    change = (with_genes - batch.genes[batch.has_genes])[~dropped]
    assert change.std() == pytest.approx(0.1, rel=0.05)
    assert change.mean() == pytest.approx(0, abs=0.01)


def test_a_region_without_a_profile_stays_at_the_mean(batch):
    assert disturb_genes(batch, 0.2, 0.1, drawn()).genes[0].eq(0).all()
    slides = collate_regions([Region(torch.rand(3, 4, 4))])
    assert disturb_genes(slides, 0.2, 0.1, drawn()).genes is None


def test_the_same_generator_gives_the_same_batch(batch):
    augment = Augmentation()
    one, two, other = (augment(batch, drawn(seed)) for seed in (0, 0, 1))
    for name in ("images", "pixels", "masks", "genes"):
        assert torch.equal(getattr(one, name), getattr(two, name))
    assert not torch.equal(one.genes, other.genes)


def test_everything_can_be_switched_off(batch):
    nothing = Augmentation(turn=False, stain=0, gene_dropout=0, gene_noise=0)
    same = nothing(batch, drawn())
    assert torch.equal(same.images, batch.images)
    assert torch.equal(same.genes, batch.genes)


def test_patients_and_inputs_are_left_as_they_are(batch):
    before = batch.images.clone(), batch.genes.clone(), batch.masks.clone()
    after = Augmentation()(batch, drawn())
    assert torch.equal(after.patients, batch.patients)
    assert torch.equal(after.has_genes, batch.has_genes)
    for kept, now in zip(before, (batch.images, batch.genes, batch.masks), strict=True):
        assert torch.equal(kept, now)


@pytest.mark.parametrize(
    "options", [{"stain": -0.1}, {"gene_dropout": 1.0}, {"gene_noise": -1}]
)
def test_impossible_rates_are_refused(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        Augmentation(**options)
