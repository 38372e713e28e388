"""Segmentation losses and scores against hand counts and scipy."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from gimp_models.errors import BatchError
from gimp_models.overlap import (
    Overlap,
    class_overlap,
    dice_loss,
    dice_score,
    hard_dice,
    hd95_um,
    iou_score,
    mask_loss_parts,
    overlap,
    pixel_entropy,
    predicted_classes,
    probabilities,
    spread,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import binary_erosion, distance_transform_edt

EMPTY, FULL = torch.zeros(4, 4).bool(), torch.ones(4, 4).bool()


def random_logits(classes, seed=0, side=6):
    g = torch.Generator().manual_seed(seed)
    logits = torch.randn(3, classes, side, side, generator=g, dtype=torch.float64)
    masks = torch.randint(-1, max(classes, 2), (3, side, side), generator=g)
    return logits, masks


def test_binary_dice_loss_equals_the_formula():
    logits, masks = random_logits(1)
    expected = []
    for p, mask in zip(logits[:, 0].sigmoid(), masks, strict=True):
        p, y = p[mask >= 0], mask[mask >= 0]
        expected.append(1 - (2 * (p * y).sum() + 1) / (p.sum() + y.sum() + 1))
    torch.testing.assert_close(dice_loss(logits, masks), torch.stack(expected).mean())


def test_dice_loss_of_several_classes_is_their_mean():
    logits, masks = random_logits(3)
    expected = []
    for p, mask in zip(logits.softmax(1), masks, strict=True):
        for k in range(3):
            q, y = p[k][mask >= 0], (mask[mask >= 0] == k).double()
            expected.append(1 - (2 * (q * y).sum() + 1) / (q.sum() + y.sum() + 1))
    torch.testing.assert_close(dice_loss(logits, masks), torch.stack(expected).mean())


def test_entropy_is_that_of_the_known_pixels():
    logits, masks = random_logits(1)
    known = masks >= 0
    expected = F.binary_cross_entropy_with_logits(
        logits[:, 0][known], masks[known].double()
    )
    torch.testing.assert_close(pixel_entropy(logits, masks), expected)
    logits, masks = random_logits(4)
    expected = F.cross_entropy(logits, masks, ignore_index=-1)
    torch.testing.assert_close(pixel_entropy(logits, masks), expected)


def test_class_weights_weigh_the_pixels():
    logits, masks = random_logits(4)
    weights = torch.tensor([1.0, 2, 0, 5], dtype=torch.float64)
    expected = F.cross_entropy(logits, masks, weight=weights, ignore_index=-1)
    found = pixel_entropy(logits, masks, class_weights=weights)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("classes", [1, 3])
def test_unknown_pixels_change_nothing(classes):
    logits, masks = random_logits(classes)
    other = torch.where((masks < 0)[:, None], logits + 9, logits)
    for loss in (dice_loss, pixel_entropy):
        torch.testing.assert_close(loss(other, masks), loss(logits, masks))


@pytest.mark.parametrize("classes", [1, 3])
def test_a_batch_of_unknown_pixels_costs_0_with_a_live_graph(classes):
    logits, masks = random_logits(classes)
    logits.requires_grad_()
    parts = mask_loss_parts(logits, torch.full_like(masks, -1))
    total = parts["dice"] + parts["entropy"]
    total.backward()
    assert total == 0
    assert logits.grad.eq(0).all()


@pytest.mark.parametrize("classes", [1, 3])
def test_a_region_without_annotation_is_left_out_of_the_mean(classes):
    logits, masks = random_logits(classes)
    masks[1] = -1
    rest = [0, 2]
    torch.testing.assert_close(
        dice_loss(logits, masks), dice_loss(logits[rest], masks[rest])
    )


@pytest.mark.parametrize("classes", [1, 4])
def test_a_perfect_prediction_costs_almost_nothing(classes):
    _, masks = random_logits(classes)
    masks = masks.clamp_min(0)
    truth = F.one_hot(masks, max(classes, 2)).movedim(-1, 1).double()
    logits = 80 * truth[:, -1:] - 40 if classes == 1 else 80 * truth
    parts = mask_loss_parts(logits, masks)
    assert parts["dice"] < 1e-6
    assert parts["entropy"] < 1e-6


def test_losses_have_the_right_gradient():
    for classes in (1, 3):
        logits, masks = random_logits(classes, side=3)
        for loss in (dice_loss, pixel_entropy):
            torch.autograd.gradcheck(loss, (logits.requires_grad_(), masks))


def test_losses_of_bf16_logits_are_float32():
    logits, masks = random_logits(1)
    parts = mask_loss_parts(logits.bfloat16(), masks)
    assert {part.dtype for part in parts.values()} == {torch.float32}
    assert probabilities(logits.bfloat16()).dtype == torch.float32


def test_probabilities_of_classes_sum_to_1():
    logits, _ = random_logits(3)
    summed = probabilities(logits).sum(1)
    torch.testing.assert_close(summed, torch.ones_like(summed))


@pytest.mark.parametrize("classes", [1, 3])
def test_a_class_the_model_does_not_know_is_refused(classes):
    logits, masks = random_logits(classes)
    masks[0, 0, 0] = max(classes, 2)
    with pytest.raises(BatchError, match=f"holds class {max(classes, 2)}"):
        mask_loss_parts(logits, masks)


def test_masks_of_another_size_are_refused():
    logits, masks = random_logits(1)
    with pytest.raises(BatchError, match="size of the regions"):
        mask_loss_parts(logits, masks[:, :5])


def test_scores_of_hand_counted_masks():
    found = torch.tensor([[1, 1, 0], [0, 1, 0]]).bool()
    truth = torch.tensor([[1, 0, 0], [1, 1, 0]]).bool()
    assert overlap(found, truth) == Overlap(both=2, found=3, truth=3)
    assert dice_score(found, truth) == pytest.approx(2 * 2 / 6)
    assert iou_score(found, truth) == pytest.approx(2 / 4)
    known = torch.tensor([[1, 0, 1], [1, 1, 1]]).bool()
    assert overlap(found, truth, known) == Overlap(both=2, found=2, truth=3)


@pytest.mark.parametrize("score", [dice_score, iou_score])
def test_both_empty_is_1_and_one_empty_is_0(score):
    assert score(EMPTY, EMPTY) == 1
    assert score(EMPTY, FULL) == score(FULL, EMPTY) == 0
    assert score(FULL, FULL) == 1
    assert score(FULL, EMPTY, EMPTY) == 1  # nothing known counts as both empty


def test_regions_of_a_patient_are_counted_together():
    one = overlap(FULL, FULL) + overlap(EMPTY, FULL)
    assert one.dice == pytest.approx(2 * 16 / (16 + 32))


@pytest.mark.parametrize("classes", [1, 3])
def test_hard_dice_is_the_mean_of_the_scores(classes):
    logits, masks = random_logits(classes)
    masks[1], logits[1, 0] = 0, 99.0 if classes > 1 else -99.0  # nothing to find
    found = predicted_classes(logits)
    scores = [
        class_overlap(found[b], masks[b], tissue).dice
        for b in range(3)
        for tissue in range(1, max(classes, 2))
    ]
    assert 1.0 in scores
    expected = sum(scores) / len(scores)
    assert float(hard_dice(logits, masks)) == pytest.approx(expected)


def test_a_pixel_is_of_the_most_probable_class():
    logits = torch.tensor([[2.0, -1], [0.5, 3], [1, 1]]).view(1, 3, 1, 2)
    assert predicted_classes(logits).tolist() == [[[0, 1]]]
    assert predicted_classes(logits[:, :1]).tolist() == [[[1, 0]]]


@given(st.integers(0, 10_000), st.integers(1, 14), st.integers(1, 14))
@settings(max_examples=60, deadline=None)
def test_hd95_equals_scipy(seed, height, width):
    g = torch.Generator().manual_seed(seed)
    found, truth = torch.rand(2, height, width, generator=g) < 0.3
    found[0, 0] = truth[-1, -1] = True
    outlines = [m & ~binary_erosion(m) for m in (found.numpy(), truth.numpy())]
    away = [distance_transform_edt(~outline) for outline in outlines]
    there = torch.tensor(away[1][outlines[0]]).quantile(0.95)
    back = torch.tensor(away[0][outlines[1]]).quantile(0.95)
    expected = 0.5 * float(max(there, back))
    assert hd95_um(found, truth, mpp=0.5) == pytest.approx(expected)


def test_hd95_of_a_shifted_square_is_the_shift_in_um():
    square = torch.zeros(40, 40).bool()
    square[10:20, 10:20] = True
    assert hd95_um(square, square, mpp=2.0) == 0
    assert hd95_um(square, square.roll(3, 1), mpp=2.0) == pytest.approx(6)


def test_hd95_of_empty_masks_is_0_or_infinite():
    assert hd95_um(EMPTY, EMPTY, mpp=1.0) == 0
    assert hd95_um(EMPTY, FULL, mpp=1.0) == hd95_um(FULL, EMPTY, mpp=1.0) == math.inf


def test_spread_of_patients():
    found = spread([0.2, 0.4, 0.9])
    assert (found.mean, found.median, found.count) == (pytest.approx(0.5), 0.4, 3)
    assert found.sd == pytest.approx(math.sqrt((0.09 + 0.01 + 0.16) / 2))
    assert math.isnan(spread([0.2]).sd)
    assert math.isnan(spread([]).mean)
