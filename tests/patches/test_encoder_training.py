from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from napari_gimp.errors import EncoderError, PatchError, RunError
from napari_gimp.patches.encoders import load_encoder
from napari_gimp.patches.network import PatchNet, PatchNetConfig
from napari_gimp.training.encoder import (
    EncoderPlan,
    Trainer,
    draw,
    fit_output,
    main,
    rate,
)
from napari_gimp.training.encoder_probe import (
    accuracy,
    colour_histograms,
    effective_rank,
    probe,
)
from napari_gimp.training.encoder_tiles import SlideSpec, TileSet, cut_tiles
from napari_gimp.training.encoder_views import ViewPlan, make_view, paired_loss

SMALL = PatchNetConfig(stem=4, widths=(6, 8), depths=(1, 1))


def tiles_of(slides: tuple[int, ...] = (12, 12, 12)) -> TileSet:
    """Tiles of random blotches; a slide is a name, nothing more."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(60, 250, (sum(slides), 20, 20, 3), dtype=np.uint8)
    owner = np.repeat(np.arange(len(slides)), slides)
    names = tuple(f"slide {k}" for k in range(len(slides)))
    return TileSet(coarse.repeat(8, 1).repeat(8, 2), owner, names)


def small_plan(**kwargs: float) -> EncoderPlan:
    given = {"steps": 8, "batch": 12, "bf16": False, "lr": 3e-3, **kwargs}
    return EncoderPlan(views=ViewPlan(side_px=32), **given)


def write_slide(path: Path, side: int = 700) -> Path:
    rng = np.random.default_rng(0)
    pixels = np.full((side, side, 3), 243, np.uint8)
    stained = rng.integers(120, 180, (side // 2, side, 3), dtype=np.uint8)
    stained[..., 1] -= 60
    pixels[: side // 2] = stained
    tifffile.imwrite(
        path,
        pixels,
        tile=(256, 256),
        photometric="rgb",
        resolution=(1e4, 1e4),
        resolutionunit="CENTIMETER",
    )
    return path


def test_a_view_has_the_right_size_and_range_and_varies() -> None:
    tiles = torch.from_numpy(tiles_of().pixels).permute(0, 3, 1, 2).float() / 255
    generator = torch.Generator().manual_seed(0)

    first, second = (make_view(tiles, ViewPlan(), generator) for _ in range(2))

    assert first.shape == (36, 3, 96, 96)
    assert first.min() >= 0
    assert first.max() <= 1
    assert (first - second).abs().mean() > 0.02


def test_views_without_any_change_of_colour_keep_the_colour() -> None:
    plan = ViewPlan(stain=0, shift=0, gain=0, blur=0)
    tiles = torch.full((5, 3, 160, 160), 0.6)

    view = make_view(tiles, plan, torch.Generator().manual_seed(0))

    torch.testing.assert_close(view, torch.full_like(view, 0.6), atol=1e-4, rtol=0)


def test_equal_seeds_give_equal_views() -> None:
    tiles = torch.rand(4, 3, 160, 160)
    views = [
        make_view(tiles, ViewPlan(), torch.Generator().manual_seed(7)) for _ in range(2)
    ]

    assert torch.equal(*views)


def test_the_loss_is_smaller_for_pairs_that_agree() -> None:
    rows = torch.randn(16, 8, generator=torch.Generator().manual_seed(0))

    agreeing = paired_loss(rows, rows, temperature=0.2)
    mixed = paired_loss(rows, rows.roll(1, 0), temperature=0.2)

    assert agreeing < mixed - 1


def test_the_loss_equals_its_definition() -> None:
    a, b = torch.eye(2), torch.tensor([[1.0, 0.0], [1.0, 0.0]])

    loss = paired_loss(a, b, temperature=1.0)

    rows = torch.cat([a, b])
    expected = 0.0
    for i, partner in enumerate((2, 3, 0, 1)):
        others = [rows[i] @ rows[k] for k in range(4) if k != i]
        expected += torch.logsumexp(torch.stack(others), 0) - rows[i] @ rows[partner]
    torch.testing.assert_close(loss, expected / 4)


def test_training_lowers_the_loss_and_does_not_collapse() -> None:
    plan = small_plan(steps=40)

    steps = list(Trainer(SMALL, plan).run(tiles_of()))

    losses = [step.loss for step in steps]
    assert np.mean(losses[-8:]) < np.mean(losses[:8]) - 0.1
    assert steps[-1].spread > 0.15


def test_equal_seeds_train_equal_networks() -> None:
    states = []
    for _ in range(2):
        trainer = Trainer(SMALL, small_plan(steps=3))
        list(trainer.run(tiles_of()))
        states.append(trainer.average.state_dict())

    for name, tensor in states[0].items():
        assert torch.equal(tensor, states[1][name]), name


def test_time_ends_training_and_closing_does_too() -> None:
    assert not list(
        Trainer(SMALL, small_plan(minutes=1e-9, steps=100)).run(tiles_of())
    )[1:]
    steps = Trainer(SMALL, small_plan(steps=10**6)).run(tiles_of())
    next(steps)
    steps.close()


def test_batches_come_from_few_slides_and_repeat_no_tile() -> None:
    tiles = tiles_of((30, 30, 30, 30, 30))
    plan = small_plan(slides_per_batch=3)

    chosen = draw(tiles, plan, np.random.default_rng(0))

    assert len(np.unique(tiles.slide[chosen])) == 3
    assert len(np.unique(chosen)) == len(chosen) == 12


def test_the_learning_rate_warms_up_then_falls_to_nothing() -> None:
    values = [rate(p) for p in np.linspace(0, 1, 50)]

    assert max(values) == pytest.approx(1, abs=0.01)
    assert values[0] < 0.05
    assert values[-1] == pytest.approx(0, abs=1e-6)


def test_the_fitted_output_has_unit_scale() -> None:
    torch.manual_seed(0)
    network, tiles = PatchNet(SMALL), tiles_of()

    features = fit_output(network, tiles, most=36, seed=0)

    torch.testing.assert_close(features.mean(0), torch.zeros(14), atol=1e-4, rtol=0)
    centre = torch.from_numpy(tiles.pixels[:, 16:144, 16:144])
    with torch.inference_mode():
        again = network(centre.permute(0, 3, 1, 2).float() / 255)
    torch.testing.assert_close(again, features, atol=1e-3, rtol=1e-3)


def test_effective_rank_counts_directions() -> None:
    rng = torch.Generator().manual_seed(0)
    line = torch.randn(500, 1, generator=rng) * torch.ones(1, 10)

    assert effective_rank(line) == pytest.approx(1, abs=0.01)
    assert effective_rank(torch.randn(500, 10, generator=rng)) > 9


def test_tiles_are_cut_from_tissue_and_kept(tmp_path: Path) -> None:
    spec, cache = SlideSpec(write_slide(tmp_path / "a.tif")), tmp_path / "tiles.npz"

    tiles = cut_tiles([spec, spec], per_slide=5, seed=0, cache=cache)

    assert tiles.pixels.shape == (10, 160, 160, 3)
    assert (tiles.pixels.mean((1, 2, 3)) < 215).all()
    np.testing.assert_array_equal(np.bincount(tiles.slide), [5, 5])
    again = cut_tiles([], per_slide=5, seed=0, cache=cache)
    np.testing.assert_array_equal(again.pixels, tiles.pixels)
    assert again.names == ("a.tif", "a.tif")


def test_a_folder_of_images_counts_as_one_slide(tmp_path: Path) -> None:
    (tmp_path / "many").mkdir()
    for k in range(3):
        write_slide(tmp_path / "many" / f"{k}.tif", side=400)

    tiles = cut_tiles([SlideSpec(tmp_path / "many")], per_slide=2, seed=0)

    assert tiles.names == ("many",)
    assert set(tiles.slide) == {0}
    assert len(tiles) > 2


def test_a_slide_without_tissue_is_named(tmp_path: Path) -> None:
    Image.fromarray(np.full((400, 400, 3), 244, np.uint8)).save(tmp_path / "w.png")

    with pytest.raises(PatchError, match=r"w\.png"):
        cut_tiles([SlideSpec(tmp_path / "w.png", 1.0)], per_slide=5, seed=0)


def test_a_slide_may_bring_its_resolution() -> None:
    assert SlideSpec.parse("a.jpg@0.69") == SlideSpec(Path("a.jpg"), 0.69)
    assert SlideSpec.parse("a.svs") == SlideSpec(Path("a.svs"))
    with pytest.raises(RunError, match="no number"):
        SlideSpec.parse("a.jpg@20x")


@pytest.mark.slow
def test_the_probe_finds_colour_and_refuses_a_single_class(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name, colour in (("pink", (220, 150, 190)), ("blue", (120, 120, 200))):
        (tmp_path / name).mkdir()
        for k in range(10):
            image = np.array(colour) + rng.normal(0, 5, (40, 40, 3))
            path = tmp_path / name / f"{k}.png"
            Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(path)

    scores = probe({"default": load_encoder()}, tmp_path)

    assert scores == {"default": 1.0, "colour histograms": 1.0}
    with pytest.raises(EncoderError, match="two or more"):
        probe({"default": load_encoder()}, tmp_path / "pink")


def test_features_of_noise_classify_no_better_than_chance() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(60, 4)).astype(np.float32)

    assert accuracy(features, np.arange(60) % 2, seed=0) < 0.75


def test_histograms_sum_to_one_per_channel() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (3, 9, 9, 3), dtype=np.uint8)

    shares = colour_histograms(pixels).reshape(3, 3, 8)

    np.testing.assert_allclose(shares.sum(-1), 1, rtol=1e-5)


@pytest.mark.slow
def test_the_command_makes_an_encoder_that_loads(tmp_path: Path) -> None:
    slide = write_slide(tmp_path / "a.tif")
    command = f"--slides {slide} --out {tmp_path} --name mine --steps 2 --batch 8"

    assert main(command.split()) == 0

    encoder = load_encoder("mine", folder=tmp_path)
    assert encoder(np.full((1, 128, 128, 3), 150, np.uint8)).shape == (1, 192)
    facts = json.loads((tmp_path / "mine.json").read_text())
    assert facts["tiles"]["a.tif"] > 8
    assert facts["metrics"]["effective rank of features"] >= 1
    assert not list(tmp_path.glob("*.part"))


def test_too_few_tiles_end_with_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slide = write_slide(tmp_path / "a.tif", side=400)
    command = f"--slides {slide} --out {tmp_path} --batch 500"

    assert main(command.split()) == 2

    assert "fewer than a batch of 500" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", ["--steps 0", "--minutes 0"])
def test_training_for_no_time_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], wrong: str
) -> None:
    assert main(f"--slides none.tif --out {tmp_path} {wrong}".split()) == 2

    assert "at least 1 step" in capsys.readouterr().err
