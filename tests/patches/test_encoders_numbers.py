"""The numbers of the included encoder's card, and the command that makes them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_gimp.errors import EncoderError
from napari_gimp.patches.encoders import load_embedded
from napari_gimp.training.encoder_numbers import (
    compare,
    held_out_hits,
    held_out_values,
    main,
    r_squared,
    read_nuclei,
    untrained,
)
from napari_gimp.training.encoder_probe import read_labelled

SHARED_DATA = Path(__file__).parents[3] / "shared" / "data"
BASELINES = ("same network, untrained", "colour histograms")
QUESTIONS = ("accuracy of classes", "R2 of nuclei per mm2")


def shipped() -> dict[str, dict[str, dict[str, list[float]]]]:
    return load_embedded("default").card.facts["metrics"]["with intervals"]


def write_nuclei(folder: Path, shape: tuple[int, int] = (40, 60)) -> None:
    """One tile with a nucleus near its top left and one near its bottom right."""
    labels = np.zeros(shape, np.uint16)
    labels[2:5, 2:5] = 1
    labels[-5:-2, -5:-2] = 7
    for name, image in (("images", labels.astype(np.uint8)), ("labels", labels)):
        (folder / name).mkdir(parents=True)
        Image.fromarray(image).save(folder / name / "a.png")


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("baseline", BASELINES)
def test_the_shipped_encoder_beats_both_baselines(question: str, baseline: str) -> None:
    numbers = shipped()[question]

    assert numbers["this encoder"]["value"] > numbers[baseline]["value"]
    assert numbers[f"gain over {baseline}"]["value"] > 0


def test_intervals_hold_their_values() -> None:
    for question in QUESTIONS:
        for row in shipped()[question].values():
            low, high = row["interval"]
            assert low <= row["value"] <= high


def test_the_card_says_what_the_network_has_seen() -> None:
    assert (
        "without their labels"
        in load_embedded("default").card.facts["metrics"]["with intervals"]["what"]
    )


def test_nuclei_are_counted_where_their_centroids_lie(tmp_path: Path) -> None:
    write_nuclei(tmp_path)

    pixels, density = read_nuclei(tmp_path, mpp=1.0, side_px=20)

    assert pixels.shape == (4, 20, 20, 3)
    np.testing.assert_allclose(density, [2500, 0, 0, 2500])


def test_tiles_are_brought_to_one_um_per_px(tmp_path: Path) -> None:
    write_nuclei(tmp_path)

    pixels, density = read_nuclei(tmp_path, mpp=0.5, side_px=20)

    assert pixels.shape == (4, 20, 20, 3)
    np.testing.assert_allclose(density, 2500)  # 20 x 30 um: one nucleus on each side


def test_a_tile_smaller_than_a_patch_is_named(tmp_path: Path) -> None:
    write_nuclei(tmp_path)

    with pytest.raises(EncoderError, match=r"a\.png is 40 x 60 um, smaller than"):
        read_nuclei(tmp_path, mpp=1.0, side_px=50)


def test_a_folder_without_tiles_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()

    with pytest.raises(EncoderError, match="has no PNG; give images and labels"):
        read_nuclei(tmp_path, mpp=1.0, side_px=20)

    words = ["--classes", str(tmp_path / "a"), "--nuclei", str(tmp_path)]
    assert main([*words, "--nuclei-mpp", "1"]) == 2
    assert "two or more classes" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "content"),
    [("images/a.png", b"no picture"), ("labels/a.png", b""), ("labels/a.png", None)],
)
def test_a_tile_or_label_that_is_no_picture_is_named(
    name: str, content: bytes | None, tmp_path: Path
) -> None:
    write_nuclei(tmp_path)
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_bytes(content)

    with pytest.raises(EncoderError, match=rf"{name} cannot be read as a picture"):
        read_nuclei(tmp_path, mpp=1.0, side_px=20)


def test_a_class_with_a_file_that_is_no_picture_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "notes.txt").write_text("no picture")

    words = ["--classes", str(tmp_path), "--nuclei", str(tmp_path)]
    assert main([*words, "--nuclei-mpp", "1"]) == 2

    said = capsys.readouterr().err
    assert "a/notes.txt cannot be read as a picture" in said
    assert len(said.splitlines()) == 1


def test_a_folder_of_classes_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="absent has 0 folders of images"):
        read_labelled(tmp_path / "absent", 20)


def test_a_density_in_the_features_is_found_and_noise_is_not() -> None:
    rng = np.random.default_rng(0)
    groups = np.arange(80) // 4
    values = rng.normal(size=80)
    noise = rng.normal(size=(80, 3)).astype(np.float32)
    told = np.column_stack([noise, values]).astype(np.float32)

    found = held_out_values(told, values, groups, seed=0)
    guessed = held_out_values(noise, values, groups, seed=0)

    assert r_squared(found, values) > 0.9
    assert r_squared(guessed, values) < 0.2


def test_classes_in_the_features_are_hit_and_noise_is_chance() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 2
    noise = rng.normal(size=(60, 3)).astype(np.float32)
    told = np.column_stack([noise, 5 * labels]).astype(np.float32)

    assert held_out_hits(told, labels, seed=0).mean() > 0.95
    assert held_out_hits(noise, labels, seed=0).mean() < 0.75


def test_a_gain_is_paired() -> None:
    """Two scores that always differ by 0.1 have a gain without spread."""
    rng = np.random.default_rng(0)
    base = rng.normal(size=50)

    told = compare(
        {"a": lambda d: base[d].mean() + 0.1, "b": lambda d: base[d].mean()},
        50,
        seed=0,
    )

    assert told["gain over b"] == {"value": 0.1, "interval": [0.1, 0.1]}
    low, high = told["a"]["interval"]
    assert high - low > 0.2


def test_an_untrained_network_follows_its_seed_alone() -> None:
    card = load_embedded("default").card
    pixels = np.random.default_rng(0).integers(0, 255, (2, 128, 128, 3), np.uint8)

    first, again, other = (untrained(card, seed)(pixels) for seed in (1, 1, 2))

    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-4


@pytest.mark.slow
@pytest.mark.real_data
def test_the_command_reproduces_the_card(capsys: pytest.CaptureFixture[str]) -> None:
    classes = SHARED_DATA / "tiles_lc25000_lung" / "dev"
    nuclei = SHARED_DATA / "tiles_dsb2018_stained"
    if not (classes.is_dir() and nuclei.is_dir()):
        pytest.skip(f"the tiles are not in {SHARED_DATA}")

    words = ["--classes", str(classes), "--nuclei", str(nuclei)]
    assert main([*words, "--nuclei-mpp", "0.625"]) == 0

    measured = json.loads(capsys.readouterr().out)
    for question in QUESTIONS:
        for name in ("this encoder", *BASELINES):
            value = measured[question][name]["value"]
            assert value == pytest.approx(shipped()[question][name]["value"], abs=0.02)
