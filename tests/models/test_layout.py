"""Layouts of Subspace: where patches lie on the grid, and whose value is whose."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from gimp_models.bag import Bag, collate
from gimp_models.errors import BatchError
from gimp_models.layout import place
from gimp_models.subspace import SubspaceConfig
from hypothesis import given, settings
from hypothesis import strategies as st

STEP_UM = 112.0


def config(layout, grid):
    return SubspaceConfig(
        patch_features=2,
        genes=2,
        classes=2,
        tumour_genes=(0,),
        micro_genes=(1,),
        layout=layout,
        grid=grid,
    )


def bag_at(cells, start_um=(0.0, 0.0)):
    """Patches at (row, column); the features are row and column."""
    cells = torch.as_tensor(cells, dtype=torch.float32)
    return Bag(cells.clone(), (cells + 0.5) * STEP_UM + torch.tensor(start_um))


def full(rows, columns):
    return torch.cartesian_prod(torch.arange(rows), torch.arange(columns))


def one(bag, layout="spatial", grid=10):
    return place(collate([bag]), config(layout, grid))


def listed(count, grid):
    """Patch of each token, of a bag of so many patches in list order."""
    return one(bag_at([(i, 0) for i in range(count)]), "list", grid).patch[0].tolist()


@pytest.mark.parametrize("count", [1, 7, 33, 64, 99, 100])
def test_a_short_list_is_repeated_then_its_beginning_again(count):
    order = list(range(count))
    expected = order * (100 // count) + order[: 100 % count]
    assert listed(count, 10) == expected


@pytest.mark.parametrize("count", [101, 150, 250, 1234])
def test_a_long_list_is_thinned_to_every_nth(count):
    assert listed(count, 10) == [round(i * count / 100) for i in range(100)]


def test_lists_have_no_empty_cell_and_no_place_on_the_slide():
    placed = one(bag_at(full(5, 3)), "list")
    assert placed.mask.all()
    with pytest.raises(BatchError, match="no place on the slide"):
        placed.slide_um(torch.zeros(1, 4, 2))


def test_list_tokens_are_the_patches_they_stand_for():
    bag = bag_at(full(7, 4))
    placed = one(bag, "list")
    assert torch.equal(placed.features[0], bag.features[placed.patch[0]])


def test_a_small_slide_has_a_patch_per_cell_at_its_row_and_column():
    cells = [(0, 0), (0, 3), (2, 1), (6, 4)]
    placed = one(bag_at(cells, start_um=(5000.0, 900.0)))
    assert placed.mask.sum() == 4
    for (row, column), token in zip(cells, placed.token[0].tolist(), strict=True):
        assert token == row * 10 + column
        assert placed.features[0, token].tolist() == [row, column]
    assert placed.features[0, ~placed.mask[0]].eq(0).all()


def test_origin_and_cell_are_in_slide_um():
    placed = one(bag_at(full(4, 4), start_um=(5000.0, 900.0)))
    assert placed.origin_um.tolist() == [[5000.0, 900.0]]
    assert placed.cell_um.tolist() == [STEP_UM]
    larger = one(bag_at(full(25, 5), start_um=(5000.0, 900.0)))
    assert larger.origin_um.tolist() == [[5000.0, 900.0]]
    assert larger.cell_um.tolist() == [2.5 * STEP_UM]


def test_a_large_slide_is_averaged_over_square_cells():
    placed = one(bag_at(full(40, 20)))  # 4 x 4 patches a cell, 10 x 5 cells
    cells = placed.mask[0].reshape(10, 10)
    assert cells[:, :5].all()
    assert not cells[:, 5:].any()
    features = placed.features[0].reshape(10, 10, 2)
    middle = torch.arange(10) * 4 + 1.5  # mean row of four
    torch.testing.assert_close(features[:, 0, 0], middle)
    torch.testing.assert_close(features[0, :5, 1], middle[:5])


def test_a_cell_of_few_patches_is_the_mean_of_those():
    placed = one(bag_at([(0, 0), (0, 1), (3, 3), (39, 39)]))
    torch.testing.assert_close(placed.features[0, 0], torch.tensor([1.0, 4 / 3]))


@given(rows=st.integers(1, 70), columns=st.integers(1, 70), grid=st.integers(8, 30))
@settings(max_examples=40, deadline=None)
def test_a_slide_without_holes_leaves_none_on_the_grid(rows, columns, grid):
    placed = one(bag_at(full(rows, columns)), grid=grid)
    cells = placed.mask[0].reshape(grid, grid)
    high, wide = int(cells.any(1).sum()), int(cells.any(0).sum())
    assert cells[:high, :wide].all()
    assert cells.sum() == high * wide
    assert max(high, wide) == min(max(rows, columns), grid)


@given(rows=st.integers(1, 60), columns=st.integers(1, 60))
@settings(max_examples=30, deadline=None)
def test_every_patch_lies_in_the_cell_that_covers_its_centre(rows, columns):
    bag = bag_at(full(rows, columns), start_um=(31.0, 7.0))
    placed = one(bag)
    cell = torch.stack([placed.token[0] // 10, placed.token[0] % 10], dim=1)
    corner = placed.origin_um[0] + cell * placed.cell_um[0]
    inside = bag.coords_um.double() - corner
    slack = 1e-6 * STEP_UM
    assert inside.ge(-slack).all()
    assert inside.le(placed.cell_um[0] + slack).all()


def test_positions_of_keys_are_drawn_where_grid_sample_reads():
    bag = bag_at(full(10, 10), start_um=(5000.0, 900.0))
    placed = one(bag)
    centres = (torch.arange(10) * 2 + 1) / 10 - 1
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    positions = torch.stack([x, y], dim=-1)[None]
    image = placed.features.transpose(1, 2).reshape(1, 2, 10, 10)
    read = torch.nn.functional.grid_sample(image, positions, align_corners=False)
    um = placed.slide_um(positions)[0]
    torch.testing.assert_close(um.flatten(0, 1), bag.coords_um.double())
    torch.testing.assert_close(read[0].flatten(1).T, bag.features)


def test_a_slide_lies_the_same_alone_and_in_any_batch():
    bags = [bag_at(full(5, 7)), bag_at(full(30, 2)), bag_at([(0, 0)])]
    for layout in ("spatial", "list"):
        many = place(collate(bags), config(layout, 10))
        for row, bag in enumerate(bags):
            alone = one(bag, layout)
            assert torch.equal(many.features[row], alone.features[0])
            assert torch.equal(many.mask[row], alone.mask[0])
            if layout == "spatial":
                assert torch.equal(many.origin_um[row], alone.origin_um[0])
                assert many.cell_um[row] == alone.cell_um[0]


def test_patches_may_come_in_any_order(rng):
    bag = bag_at(full(23, 9))
    order = torch.randperm(len(bag.features), generator=rng)
    mixed = Bag(bag.features[order], bag.coords_um[order])
    torch.testing.assert_close(one(mixed).features, one(bag).features)
    assert torch.equal(one(mixed).token[0], one(bag).token[0, order])


def test_coordinates_that_are_rounded_to_pixels_stay_on_their_rows():
    cells = full(40, 30)
    exact = (cells + 0.5) * 128.3
    placed = one(Bag(cells.float(), (exact / 0.5).round() * 0.5), grid=50)
    assert torch.equal(placed.token[0], cells[:, 0] * 50 + cells[:, 1])


@pytest.mark.parametrize("layout", ["spatial", "list"])
@pytest.mark.parametrize("rows", [4, 10, 23])
def test_patch_values_are_the_sum_over_tokens_that_stand_for_a_patch(rng, layout, rows):
    """Against a plain loop, and the sum is kept."""
    bags = [bag_at(full(rows, 3)), bag_at(full(2, 2))]
    placed = place(collate(bags), config(layout, 10))
    values = torch.randn(2, 3, 100, generator=rng) * placed.mask[:, None]
    found = placed.patch_values(values)
    assert found.shape == (2, 3, rows * 3)
    for b in range(2):
        pairs = torch.stack([placed.token[b], placed.patch[b]], dim=1).tolist()
        pairs = [pair for pair in pairs if pair != [-1, -1]]
        holds = Counter(token for token, _ in pairs)
        expected = torch.full((3, rows * 3), torch.nan)
        for token, patch in pairs:
            share = values[b, :, token] / holds[token]
            expected[:, patch] = expected[:, patch].nan_to_num() + share
        torch.testing.assert_close(found[b], expected, equal_nan=True)
    torch.testing.assert_close(found.nansum(-1), values.sum(-1))


def test_patches_that_no_token_stands_for_are_nan_and_not_zero():
    placed = one(bag_at(full(30, 8)), "list")
    values = placed.patch_values(torch.ones(1, 100))[0]
    assert values.isnan().sum() == 140
    assert values.nansum() == 100


def test_padding_is_nan_and_never_a_patch():
    bags = [bag_at(full(3, 3)), bag_at(full(2, 2))]
    for layout in ("spatial", "list"):
        placed = place(collate(bags), config(layout, 10))
        values = placed.patch_values(placed.mask.float())
        assert values[1, 4:].isnan().all()
        assert values[1, :4].gt(0).all()


def test_features_pass_gradient_to_every_patch_they_hold():
    batch = collate([bag_at(full(30, 3)), bag_at(full(2, 2))])
    batch.features.requires_grad_()
    place(batch, config("spatial", 10)).features.square().sum().backward()
    assert batch.features.grad[0, 1:].ne(0).any(-1).all()
    assert batch.features.grad[1, 4:].eq(0).all()


def test_a_patient_without_patches_is_refused_by_number():
    empty = Bag(torch.zeros(0, 2), torch.zeros(0, 2))
    batch = collate([bag_at([(0, 0)]), empty])
    for layout in ("spatial", "list"):
        with pytest.raises(BatchError, match="Patients 1 of the batch have no patch"):
            place(batch, config(layout, 10))
