"""Encoders in local files: small ones that the tests make."""

from __future__ import annotations

import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from napari_gimp.errors import EncoderError
from napari_gimp.patches.encoders import load_encoder
from napari_gimp.patches.encoders.archives import read_tensors
from napari_gimp.patches.encoders.look import Look
from napari_gimp.patches.encoders.module import digest

CARD = {
    "input_px": 16,
    "mpp": 0.5,
    "mean": [0.1, 0.2, 0.3],
    "sd": [0.5, 1.0, 2.0],
}


class Tiny(nn.Module):
    """(B,3,16,16) -> (B,4): the mean of a convolution's maps."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).mean((-2, -1))


class Scorer(nn.Module):
    """A network whose output is no tensor."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"score": x.mean((1, 2, 3))}


def tiny(seed: int = 0) -> Tiny:
    torch.manual_seed(seed)
    return Tiny().eval()


def patches(count: int, side: int = 16) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def write_card(path: Path, card: dict[str, Any] | None = None) -> None:
    path.with_suffix(".json").write_text(json.dumps(CARD if card is None else card))


def save_script(path: Path, network: nn.Module) -> Path:
    torch.jit.save(torch.jit.script(network), path)
    write_card(path)
    return path


def save_export(path: Path, network: nn.Module) -> Path:
    batch = torch.export.Dim("B")
    shown = (torch.zeros(2, 3, 16, 16),)
    program = torch.export.export(network, shown, dynamic_shapes=({0: batch},))
    torch.export.save(program, path)
    write_card(path)
    return path


def by_hand(network: nn.Module, pixels: np.ndarray) -> np.ndarray:
    """Features as the card says, computed without our code."""
    shown = (pixels / 255 - np.array(CARD["mean"])) / np.array(CARD["sd"])
    batch = torch.from_numpy(shown.astype(np.float32).transpose(0, 3, 1, 2))
    with torch.inference_mode():
        return network(batch).numpy()


@pytest.fixture(params=[save_script, save_export], ids=["torchscript", "torch.export"])
def model_file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return request.param(tmp_path / "tiny.pt2", tiny())


def test_a_model_file_gives_the_network_s_features(model_file: Path) -> None:
    pixels = patches(5)

    encoder = load_encoder(str(model_file))

    assert (encoder.width, encoder.input_px, encoder.mpp) == (4, 16, 0.5)
    assert encoder.patch_um == 8.0
    expected = by_hand(tiny(), pixels)
    np.testing.assert_allclose(encoder(pixels), expected, atol=1e-5)


def test_a_patch_has_the_same_features_alone_and_in_a_batch(model_file: Path) -> None:
    encoder, pixels = load_encoder(str(model_file)), patches(3)

    alone = np.concatenate([encoder(p[None]) for p in pixels])

    np.testing.assert_allclose(encoder(pixels), alone, atol=1e-6)
    assert encoder(patches(0)).shape == (0, 4)


def test_its_name_loads_it_again_with_the_same_fingerprint(model_file: Path) -> None:
    first = load_encoder(f"{model_file}@0.25")

    again = load_encoder(first.name)

    assert again.mpp == 0.25
    assert again.fingerprint == first.fingerprint
    assert len(again.fingerprint) == 64


def test_a_fingerprint_follows_weights_and_card(model_file: Path) -> None:
    marks = [load_encoder(str(model_file)).fingerprint]
    marks.append(load_encoder(f"{model_file}@1").fingerprint)
    write_card(model_file, {**CARD, "mean": [0, 0, 0]})
    marks.append(load_encoder(str(model_file)).fingerprint)
    save_script(model_file, tiny(seed=1))
    marks.append(load_encoder(str(model_file)).fingerprint)

    assert len(set(marks)) == 4


def test_pixels_of_another_size_are_refused(model_file: Path) -> None:
    with pytest.raises(EncoderError, match=r"\(B, 16, 16, 3\), got \(1, 8, 8, 3\)"):
        load_encoder(str(model_file))(patches(1, side=8))


def test_an_export_of_one_fixed_batch_is_refused(tmp_path: Path) -> None:
    program = torch.export.export(tiny(), (torch.zeros(1, 3, 16, 16),))
    torch.export.save(program, tmp_path / "one.pt2")
    write_card(tmp_path / "one.pt2")

    with pytest.raises(EncoderError, match="dynamic batch"):
        load_encoder(str(tmp_path / "one.pt2"))


def test_an_output_that_is_no_tensor_is_refused(tmp_path: Path) -> None:
    path = save_script(tmp_path / "scorer.pt", Scorer())

    with pytest.raises(EncoderError, match="output is a dict; an encoder must give"):
        load_encoder(str(path))


@pytest.mark.parametrize("lacking", ["input_px", "mpp", "mean", "sd"])
def test_what_a_card_leaves_open_is_asked_for(lacking: str, tmp_path: Path) -> None:
    path = save_script(tmp_path / "tiny.pt", tiny())
    write_card(path, {k: v for k, v in CARD.items() if k != lacking})

    with pytest.raises(EncoderError, match=f"does not say {lacking}; add to it"):
        load_encoder(str(path))


def test_a_file_without_a_card_is_told_what_to_write(tmp_path: Path) -> None:
    path = save_script(tmp_path / "tiny.pt", tiny())
    path.with_suffix(".json").unlink()

    with pytest.raises(EncoderError, match=r'there is no card .* write one such as {"'):
        load_encoder(str(path))


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("input_px", 0, "a whole number of pixels, 1 or more, got 0"),
        ("mpp", -1, "um/px, above 0, got -1"),
        ("sd", [1, 0, 1], r"three numbers above 0, got \(1, 0, 1\)"),
        ("mean", [1, 2], r"three numbers, got \(1, 2\)"),
        ("pooling", "max", "one of vector, class, class.mean, map, got 'max'"),
        ("prefix", 0, "a whole number of tokens, 1 or more, got 0"),
    ],
)
def test_an_impossible_value_of_a_card_is_named(
    key: str, value: object, text: str, tmp_path: Path
) -> None:
    path = save_script(tmp_path / "tiny.pt", tiny())
    write_card(path, {**CARD, key: value})

    with pytest.raises(EncoderError, match=text):
        load_encoder(str(path))


def test_pickled_objects_are_never_run(tmp_path: Path) -> None:
    path = tmp_path / "evil.pt"
    torch.save({"weights": Path("anything")}, path)
    write_card(path, {**CARD, "architecture": "resnet18"})

    with pytest.raises(EncoderError, match="may run any code; save its state_dict"):
        read_tensors(path)


@pytest.mark.parametrize(
    "member",
    [
        "data/constants/opaque_obj_0",
        "data/constants/custom_obj_0",
        "data/weights/model.pt",
        "data/aotinductor/model/model.so",
        "data/sample_inputs/model.pt",
    ],
)
def test_an_export_that_could_run_code_is_not_opened(
    member: str, tmp_path: Path
) -> None:
    whole, path = save_export(tmp_path / "a.pt2", tiny()), tmp_path / "b.pt2"
    write_card(path)
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(path, "w") as new:
        root = old.namelist()[0].partition("/")[0]
        kept = [n for n in old.namelist() if n != f"{root}/{member}"]
        for name in kept:
            new.writestr(name, old.read(name))
        new.writestr(f"{root}/{member}", pickle.dumps(Path("anything")))

    with pytest.raises(EncoderError, match=f"holds '{member}', a pickled object"):
        load_encoder(str(path))


def test_an_export_of_pickled_weights_is_not_opened(tmp_path: Path) -> None:
    whole, path = save_export(tmp_path / "a.pt2", tiny()), tmp_path / "b.pt2"
    write_card(path)
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            text = old.read(name)
            if name.endswith("weights_config.json"):
                text = text.replace(b'"use_pickle": false', b'"use_pickle": true')
                text = text.replace(b'"use_pickle":false', b'"use_pickle":true')
            new.writestr(name, text)

    with pytest.raises(EncoderError, match=r"weights_config\.json', a pickled object"):
        load_encoder(str(path))


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "junk.pt"
    path.write_bytes(b"no archive at all")

    with pytest.raises(EncoderError, match="neither safetensors nor an archive"):
        load_encoder(str(path))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="there is no encoder file"):
        load_encoder(str(tmp_path / "none.safetensors"))


def test_weights_alone_need_the_name_of_their_network(tmp_path: Path) -> None:
    torch.save(tiny().state_dict(), tmp_path / "bare.pt")
    write_card(tmp_path / "bare.pt")

    with pytest.raises(EncoderError, match='add "architecture": a name of timm'):
        load_encoder(str(tmp_path / "bare.pt"))


@pytest.mark.parametrize("nest", ["state_dict", "model", "teacher"])
def test_weights_are_found_within_a_training_checkpoint(
    nest: str, tmp_path: Path
) -> None:
    torch.save({nest: tiny().state_dict()}, tmp_path / "run.pt")

    found = read_tensors(tmp_path / "run.pt")

    assert set(found) == {"conv.weight", "conv.bias"}


def test_other_things_among_the_weights_are_named(tmp_path: Path) -> None:
    torch.save({"conv": torch.zeros(2), "epoch": 3}, tmp_path / "run.pt")

    with pytest.raises(EncoderError, match=r"other things than tensors .'epoch'"):
        read_tensors(tmp_path / "run.pt")


def test_a_digest_knows_names_values_types_and_settings() -> None:
    base = {"a": torch.zeros(2, 3)}
    others: list[tuple[dict[str, Tensor], dict[str, Any]]] = [
        (base, {}),
        (base, {"mpp": 1}),
        ({"b": torch.zeros(2, 3)}, {}),
        ({"a": torch.ones(2, 3)}, {}),
        ({"a": torch.zeros(3, 2)}, {}),
        ({"a": torch.zeros(2, 3, dtype=torch.float16)}, {}),
    ]

    assert len({digest(tensors, settings) for tensors, settings in others}) == 6
    assert digest({"a": torch.zeros(3, 2).T}, {}) == digest(base, {})


def look(pooling: str, prefix: int = 1) -> Look:
    return Look(16, 0.5, (0, 0, 0), (1, 1, 1), pooling, prefix)


def test_each_pooling_takes_what_it_names() -> None:
    tokens = torch.arange(24.0).reshape(1, 4, 6)
    maps = torch.arange(12.0).reshape(1, 3, 2, 2)

    assert look("class").pool(tokens).tolist() == [[0, 1, 2, 3, 4, 5]]
    both = look("class+mean", prefix=2).pool(tokens)
    assert both[0, 6:].tolist() == [15, 16, 17, 18, 19, 20]
    assert look("map").pool([maps]).tolist() == [[1.5, 5.5, 9.5]]
    assert look("vector").pool(maps[0, 0]).tolist() == [[0, 1], [2, 3]]


def test_an_output_of_another_shape_is_refused() -> None:
    with pytest.raises(
        EncoderError, match=r"shape \(1, 3, 2, 2\), but pooling 'class'"
    ):
        look("class").pool(torch.zeros(1, 3, 2, 2))
