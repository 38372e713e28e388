"""Scores of MGI's masks, patient by patient, against counting by hand."""

from __future__ import annotations

import math

import pytest
import torch
from gimp_models.errors import BatchError
from gimp_models.evidence.mgi_scores import patient_scores
from gimp_models.mgi import Mgi, MgiConfig
from gimp_models.overlap import hd95_um
from gimp_models.region import Region

SIDES = [(32, 32), (24, 30), (32, 17), (32, 32)]


@pytest.fixture
def model():
    sizes = {"image_px": 32, "patch_px": 8, "width": 16, "depth": 2, "heads": 2}
    genes = {"gene_width": 16, "gene_layers": 1, "fragment": 10, "decoder_width": 16}
    config = MgiConfig(genes=40, classes=3, mpp=0.5, **sizes, **genes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Mgi(config)


@pytest.fixture
def regions():
    g = torch.Generator().manual_seed(0)
    names = ["a", "b", "a", ""]
    return [
        Region(
            image=torch.rand(3, *side, generator=g),
            genes=torch.randn(40, generator=g),
            mask=torch.randint(-1, 3, side, generator=g),
            patient=name,
        )
        for side, name in zip(SIDES, names, strict=True)
    ]


def predicted(model, region):
    from gimp_models.region import collate_regions

    model.eval()
    with torch.no_grad():
        return model(collate_regions([region])).logits[0].argmax(0)


@pytest.mark.parametrize("at_once", [1, 3, 16])
def test_regions_of_a_patient_are_scored_together(model, regions, at_once):
    scores = patient_scores(model, regions, at_once=at_once)
    names = ["a", "a", "b", "b", "region 3", "region 3"]
    assert [s.patient for s in scores] == names
    assert [s.tissue for s in scores] == [1, 2] * 3
    for score in scores[:2]:
        both = found = truth = 0
        apart = []
        for region in (regions[0], regions[2]):
            known = region.mask >= 0
            ours = (predicted(model, region) == score.tissue) & known
            theirs = region.mask == score.tissue
            both += int((ours & theirs).sum())
            found, truth = found + int(ours.sum()), truth + int(theirs.sum())
            apart.append(hd95_um(ours, theirs, mpp=0.5))
        assert score.dice == pytest.approx(2 * both / (found + truth))
        assert score.iou == pytest.approx(both / (found + truth - both))
        assert score.hd95_um == pytest.approx(sum(apart) / 2)


def test_a_tissue_nobody_finds_and_nobody_drew_is_perfect(model, regions):
    with torch.no_grad():
        model.decoder.head.bias[0] += 99
    empty = [Region(r.image, r.genes, r.mask.clamp(max=0)) for r in regions]
    for score in patient_scores(model, empty):
        assert (score.dice, score.iou, score.hd95_um) == (1, 1, 0)
    for score in patient_scores(model, regions):
        assert (score.dice, score.iou, score.hd95_um) == (0, 0, math.inf)


def test_regions_without_a_known_pixel_take_no_part(model, regions):
    unknown = torch.full((32, 32), -1)
    more = [Region(torch.rand(3, 32, 32), mask=m, patient="c") for m in (None, unknown)]
    model.train()
    assert patient_scores(model, [*regions, *more]) == patient_scores(model, regions)
    assert model.training
    with pytest.raises(BatchError, match="None of the 2 regions has a known pixel"):
        patient_scores(model, more)
