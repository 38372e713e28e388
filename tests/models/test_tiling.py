"""Tiles of a region: where they lie, how they blend, what is kept in memory."""

from __future__ import annotations

import pytest
import torch
from gimp_models.errors import BatchError, ConfigError
from gimp_models.tiling import Blend, plan_tiles, raised_cosine, run_tiled
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

SIDES = st.integers(1, 70)
quickly = settings(max_examples=50, deadline=None)


def blend_all(plan, values_of, **options):
    blend = Blend(plan, channels=2, **options)
    return [band for tile in plan.tiles for band in blend.add(values_of(tile))]


def whole(bands):
    return torch.cat([band.values for band in bands], dim=1)


@given(SIDES, SIDES, st.integers(1, 24), st.sampled_from([0, 0.25, 0.5]))
@quickly
def test_tiles_cover_every_pixel_and_stay_inside(height, width, tile_px, overlap):
    plan = plan_tiles(height, width, tile_px, overlap=overlap)
    seen = torch.zeros(height, width)
    for tile in plan.tiles:
        assert (tile.height, tile.width) == (min(tile_px, height), min(tile_px, width))
        seen[tile.rows, tile.columns] += 1
        assert min(tile.y, tile.x) >= 0
        assert tile.y + tile.height <= height
        assert tile.x + tile.width <= width
    assert seen.min() >= 1
    assert len(set(plan.tiles)) == len(plan.tiles)


def test_neighbours_share_a_quarter_of_a_tile():
    plan = plan_tiles(640, 64, 64)
    steps = {b.y - a.y for a, b in zip(plan.tiles, plan.tiles[1:], strict=False)}
    assert steps == {48}


@given(SIDES, SIDES, st.integers(4, 24), st.integers(1, 9))
@quickly
def test_weights_sum_to_1_everywhere(height, width, tile_px, multiple):
    plan = plan_tiles(height, width, tile_px)
    bands = blend_all(
        plan,
        lambda tile: torch.full((2, tile.height, tile.width), 3.5),
        multiple=multiple,
    )
    assert whole(bands).shape == (2, height, width)
    torch.testing.assert_close(whole(bands), torch.full((2, height, width), 3.5))
    assert all(band.covered.all() for band in bands)


@pytest.mark.parametrize("overlap_px", [0, 1, 2, 16])
def test_the_windows_of_two_neighbours_add_up_to_1(overlap_px):
    window = raised_cosine(64, overlap_px)
    assert window.min() > 0
    shared = window[:overlap_px] + window[64 - overlap_px :]
    torch.testing.assert_close(shared, torch.ones_like(shared))
    assert window[overlap_px : 64 - overlap_px].eq(1).all()


def test_a_seam_is_a_raised_cosine_of_both_tiles():
    plan = plan_tiles(8, 14, 8)
    left, right = plan.tiles
    bands = blend_all(plan, lambda t: torch.full((2, 8, 8), float(t is right)))
    assert (left.x, right.x) == (0, 6)
    place = (torch.arange(2) + 0.5) / 2
    rise = (torch.pi / 2 * place).sin().square()
    expected = torch.cat([torch.zeros(6), rise, torch.ones(6)])
    torch.testing.assert_close(whole(bands)[0, 3], expected)


@given(SIDES, SIDES, st.integers(1, 9), st.integers(0, 1000))
@quickly
def test_only_tiles_that_meet_wanted_tissue_are_planned(height, width, cells, seed):
    g = torch.Generator().manual_seed(seed)
    tissue = torch.rand(cells, cells, generator=g) < 0.2
    fine = tissue[torch.arange(height * cells) // height][
        :, torch.arange(width * cells) // width
    ]  # each pixel cut into cells x cells parts, so that borders fall between them
    chosen = plan_tiles(height, width, 16, wanted=tissue).tiles
    expected = [
        tile
        for tile in plan_tiles(height, width, 16).tiles
        if fine[
            tile.y * cells : (tile.y + tile.height) * cells,
            tile.x * cells : (tile.x + tile.width) * cells,
        ].any()
    ]
    assert list(chosen) == expected


def test_rows_without_a_tile_are_handed_out_as_not_covered():
    tissue = torch.zeros(10, 1, dtype=torch.bool)
    tissue[4] = tissue[9] = True
    plan = plan_tiles(200, 16, 16, wanted=tissue)
    bands = blend_all(plan, lambda t: torch.ones(2, t.height, t.width), multiple=8)
    covered = torch.cat([band.covered for band in bands])
    lies = torch.zeros(200, 16, dtype=torch.bool)
    for tile in plan.tiles:
        lies[tile.rows, tile.columns] = True
    assert torch.equal(covered, lies)
    assert not covered.all()
    torch.testing.assert_close(whole(bands), lies.float().expand(2, -1, -1))


@given(SIDES, st.integers(1, 20), st.integers(0, 1000))
@quickly
def test_bands_follow_each_other_in_multiples_of_a_chunk(height, multiple, seed):
    g = torch.Generator().manual_seed(seed)
    plan = plan_tiles(height, 20, 12, wanted=torch.rand(9, 2, generator=g) < 0.4)
    bands = blend_all(
        plan, lambda t: torch.ones(2, t.height, t.width), multiple=multiple
    )
    assert sum(band.values.shape[1] for band in bands) == (height if bands else 0)
    row = 0
    for band in bands:
        assert band.top == row
        assert band.top % multiple == 0
        row += band.values.shape[1]


def test_a_row_leaves_as_soon_as_no_tile_can_touch_it():
    plan = plan_tiles(100, 40, 16)
    blend = Blend(plan, channels=1)
    done = 0
    for index, tile in enumerate(plan.tiles):
        for band in blend.add(torch.zeros(1, tile.height, tile.width)):
            done += band.values.shape[1]
        later = plan.tiles[index + 1 :]
        assert done == (later[0].y if later else 100)


def test_memory_is_a_band_however_tall_the_region():
    def held(height):
        blend = Blend(plan_tiles(height, 32, 16), channels=2, multiple=4)
        tensors = [v for v in vars(blend).values() if isinstance(v, torch.Tensor)]
        return sum(t.untyped_storage().nbytes() for t in tensors)

    assert held(160) == held(16_000)


def test_a_far_gap_costs_no_memory():
    wanted = torch.zeros(1000, 1, dtype=torch.bool)
    wanted[0] = wanted[-1] = True
    plan = plan_tiles(100_000, 32, 16, wanted=wanted)
    bands = blend_all(plan, lambda t: torch.ones(2, t.height, t.width))
    assert sum(band.values.shape[1] for band in bands) == 100_000
    storage = {
        b.values.untyped_storage().data_ptr(): b.values.untyped_storage().nbytes()
        for b in bands
    }
    assert sum(storage.values()) < 1e5  # the full map would be 26 MB


def test_a_pointwise_network_is_the_same_in_tiles():
    g = torch.Generator().manual_seed(0)
    image = torch.rand(3, 53, 70, generator=g, dtype=torch.float64)
    tiled = run_tiled(lambda x: x.square().sum(1, keepdim=True), image, 16, at_once=3)
    torch.testing.assert_close(tiled[0], image.square().sum(0))


@pytest.mark.parametrize("reach", [1, 2])
def test_a_local_network_in_tiles_equals_the_whole_away_from_borders(reach):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = [nn.Conv2d(3, 3, 3, padding=1) for _ in range(reach)]
    network = nn.Sequential(*layers).double()
    g = torch.Generator().manual_seed(1)
    image = torch.rand(3, 61, 75, generator=g, dtype=torch.float64)
    with torch.no_grad():
        tiled, alone = run_tiled(network, image, 24), network(image[None])[0]
    inside = torch.ones(61, 75, dtype=torch.bool)
    for tile in plan_tiles(61, 75, 24).tiles:
        near = torch.ones(tile.height, tile.width, dtype=torch.bool)
        near[reach:-reach, reach:-reach] = False
        inside[tile.rows, tile.columns] &= ~near
    assert inside.float().mean() > 0.5
    torch.testing.assert_close(tiled[:, inside], alone[:, inside])
    assert (tiled - alone)[:, ~inside].abs().max() > 1e-3


def test_tiles_in_a_wrong_order_or_too_many_are_refused():
    blend = Blend(plan_tiles(8, 8, 8), channels=1)
    with pytest.raises(BatchError, match="order of the plan"):
        blend.add(torch.zeros(1, 8, 7))
    blend.add(torch.zeros(1, 8, 8))
    with pytest.raises(BatchError, match="All 1 tiles"):
        blend.add(torch.zeros(1, 8, 8))


@pytest.mark.parametrize(("side", "overlap"), [(0, 0.25), (8, 0.6), (8, -0.1)])
def test_an_impossible_plan_is_refused(side, overlap):
    with pytest.raises(ConfigError):
        plan_tiles(side, 8, 8, overlap=overlap)
