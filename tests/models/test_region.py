"""Regions of different size in one batch."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch
from gimp_models.errors import BatchError
from gimp_models.region import UNKNOWN, Region, collate_regions


def region(height, width, *, genes=5, mask=True, patient=""):
    drawn = torch.Generator().manual_seed(height * 100 + width)
    return Region(
        image=torch.rand(3, height, width, generator=drawn),
        genes=torch.randn(genes, generator=drawn) if genes else None,
        mask=torch.randint(0, 3, (height, width), generator=drawn) if mask else None,
        patient=patient,
    )


def test_padding_keeps_every_region_as_it_was():
    members = [region(4, 6), region(7, 3), region(5, 5)]
    batch = collate_regions(members)
    assert batch.images.shape == (3, 3, 7, 6)
    for row, member in enumerate(members):
        height, width = member.image.shape[1:]
        assert torch.equal(batch.images[row, :, :height, :width], member.image)
        assert torch.equal(batch.masks[row, :height, :width], member.mask)
        assert batch.pixels[row].sum() == height * width
        assert batch.pixels[row, :height, :width].all()
        assert batch.images[row][:, ~batch.pixels[row]].eq(0).all()
        assert batch.masks[row][~batch.pixels[row]].eq(UNKNOWN).all()


def test_a_region_without_annotation_is_unknown_everywhere():
    batch = collate_regions([region(4, 4), region(4, 4, mask=False)])
    assert batch.masks[1].eq(UNKNOWN).all()


def test_no_annotation_at_all_is_none():
    assert collate_regions([region(4, 4, mask=False)]).masks is None


def test_regions_of_one_patient_share_a_number_and_nameless_ones_do_not():
    names = ("P1", "", "P2", "P1", "")
    batch = collate_regions([region(3, 3, patient=name) for name in names])
    numbers = batch.patients.tolist()
    assert numbers[0] == numbers[3]
    assert len(set(numbers)) == 4


def test_a_region_without_genes_gets_the_training_mean_and_is_marked():
    batch = collate_regions([region(3, 3), region(3, 3, genes=0)])
    assert batch.has_genes.tolist() == [True, False]
    assert batch.genes[1].eq(0).all()
    assert collate_regions([region(3, 3, genes=0)]).genes is None


def test_moving_a_batch_moves_every_field():
    moved = collate_regions([region(3, 3, mask=False)]).to("meta")
    held = [getattr(moved, f.name) for f in fields(moved)]
    assert {t.device.type for t in held if t is not None} == {"meta"}
    assert moved.masks is None


@pytest.mark.parametrize("shape", [(3, 4), (4, 4, 3), (1, 4, 4)])
def test_an_image_that_is_no_rgb_is_refused_with_its_shape(shape):
    with pytest.raises(BatchError) as caught:
        Region(torch.zeros(shape))
    assert str(shape) in str(caught.value)


def test_a_mask_of_another_size_is_refused_with_both():
    with pytest.raises(BatchError, match=r"\(2, 2\), it must be the image's \(4, 5\)"):
        Region(torch.zeros(3, 4, 5), mask=torch.zeros(2, 2, dtype=torch.int64))


def test_an_empty_batch_is_refused():
    with pytest.raises(BatchError, match="at least one region"):
        collate_regions([])


def test_profiles_of_different_panels_are_refused_with_both_sizes():
    with pytest.raises(BatchError, match=r"genes G, got \[5, 7\]"):
        collate_regions([region(3, 3), region(3, 3, genes=7)])
