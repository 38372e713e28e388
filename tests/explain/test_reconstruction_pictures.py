from typing import Any

import numpy as np
import pytest
import torch
from gimp_models.bag import Bag, Batch
from gimp_models.gimp import Gimp

from napari_gimp.explain import pictures
from napari_gimp.explain.reconstruction import Hidden, reconstruct
from napari_gimp.patches.grid import PatchGrid, lay_patches
from napari_gimp.patches.tissue import find_tissue
from napari_gimp.slide.source import open_slide


def bag_of(batch: Batch) -> Bag:
    return Bag(batch.features[0], batch.coords_um[0])


def test_every_patch_is_hidden_exactly_once(model: Gimp, batch: Batch) -> None:
    steps = list(reconstruct(model, bag_of(batch)))
    known = [int(np.isfinite(step.error).sum()) for step in steps]

    assert known == sorted(known)
    assert known[-1] == 60
    assert steps[-1].done == steps[-1].total == len(steps)
    assert (steps[-1].block >= 0).all()


def test_what_is_hidden_together_never_helps_the_prediction(
    model: Gimp, batch: Batch
) -> None:
    *_, before = reconstruct(model, bag_of(batch))
    together = torch.from_numpy(before.block == before.block[0])
    features = batch.features[0].clone()
    features[together] = 99.0

    *_, after = reconstruct(model, Bag(features, batch.coords_um[0]))

    np.testing.assert_allclose(
        after.predicted[together], before.predicted[together], atol=1e-4
    )


def test_the_retrieved_patch_was_visible_and_is_the_nearest() -> None:
    target = np.eye(6, dtype=np.float32)
    predicted = np.zeros_like(target)
    predicted[0] = (1.0, 0.9, 0, 0.5, 0, 0)  # itself, hidden with it, visible
    block = np.array([0, 0, 0, 1, 1, 1])
    hidden = Hidden(predicted, np.zeros(6, np.float32), block, 2, 2)

    assert pictures.nearest_visible(hidden, target, 0) == 3


def test_examples_are_taken_over_the_whole_range_of_errors() -> None:
    error = np.random.default_rng(1).permutation(np.linspace(0, 1, 101))

    chosen = pictures.pick(error.astype(np.float32), (0, 50, 100))

    assert error[chosen].tolist() == [0, 0.5, 1]


def test_a_slide_of_one_patch_has_one_example() -> None:
    assert pictures.pick(np.array([0.3], np.float32)) == [0]


@pytest.fixture
def painted(case: Any) -> Any:
    with open_slide(case.slide) as source:
        yield source


@pytest.fixture
def patches(painted: Any) -> PatchGrid:
    return lay_patches(find_tissue(painted))


def test_hidden_neighbours_are_grey_and_visible_ones_are_the_slide(
    painted: Any, patches: PatchGrid
) -> None:
    row = int(np.flatnonzero((patches.index == (3, 3)).all(axis=1))[0])
    block = np.where(patches.index[:, 0] == 3, 0, 1)  # one row of patches is hidden

    picture = pictures.surroundings(painted, patches, block, row)

    side = pictures.AROUND_PX // 5  # two patches on each side of the framed one
    hidden_row = picture[2 * side : 3 * side, : 2 * side - 2]
    assert (hidden_row == pictures.GREY).all()
    assert (picture[: 2 * side - 2] != pictures.GREY).any(axis=-1).mean() > 0.95
    assert picture.shape == (5 * side, 5 * side, 3)


def test_the_view_widens_until_something_visible_is_in_it(
    painted: Any, patches: PatchGrid
) -> None:
    row = int(np.flatnonzero((patches.index == (2, 2)).all(axis=1))[0])
    block = np.where((patches.index < 5).all(axis=1), 0, 1)  # a corner is hidden

    picture = pictures.surroundings(painted, patches, block, row)

    middle = pictures.AROUND_PX // 2
    tissue_beyond = picture[middle, -20:]
    assert (picture[middle, middle + 20] == pictures.GREY).all()
    assert (tissue_beyond != pictures.GREY).any()


def test_the_overview_covers_the_slide(painted: Any) -> None:
    found = pictures.overview_of(painted)

    assert found.grid.rect.size_um == pytest.approx((800, 1040), abs=1.0)
    assert found.pixels.shape[:2] == found.grid.shape


def test_without_a_decoder_a_ridge_fit_shows_dark_patches_dark(
    painted: Any, patches: PatchGrid, planted_um: tuple[float, float], encoder: Any
) -> None:
    from napari_gimp.patches.extract import extract_all

    features = torch.from_numpy(extract_all(painted, patches, encoder))
    decode, origin = pictures.pick_decoder(None, painted, patches, features)
    brightness = decode(features).mean(dim=(1, 2, 3))

    darkest = patches.coords_um[int(brightness.argmin())]
    assert darkest.tolist() == pytest.approx(planted_um)
    assert "this slide" in origin


def test_hot_patches_run_from_most_for_to_most_against(
    painted: Any, patches: PatchGrid
) -> None:
    contribution = np.linspace(-1, 2, len(patches)).astype(np.float32)

    hot = pictures.hot_patches(painted, patches, contribution, k=2)

    last = len(patches) - 1
    assert [h.patch for h in hot] == [last, last - 1, 1, 0]
    assert hot[0].center_um == tuple(patches.coords_um[last].tolist())


def test_a_slide_with_nothing_against_shows_nothing_against(
    painted: Any, patches: PatchGrid
) -> None:
    contribution = np.ones(len(patches), np.float32)

    hot = pictures.hot_patches(painted, patches, contribution, k=3)

    assert len(hot) == 3
    assert all(h.contribution > 0 for h in hot)
