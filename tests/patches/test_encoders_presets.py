"""Presets, timm and transformers: the loading code on small networks, without a hub."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from napari_gimp.errors import EncoderError
from napari_gimp.patches.encoders import encoder_facts, hub, load_encoder
from napari_gimp.patches.encoders.hub import load_preset
from napari_gimp.patches.encoders.look import IMAGENET_MEAN, IMAGENET_SD
from napari_gimp.patches.encoders.presets import PRESETS
from napari_gimp.patches.encoders.stem import ConvStem
from napari_gimp.patches.encoders.timm_models import with_layers

SMALL_VIT = {"img_size": 32, "embed_dim": 24, "depth": 1, "num_heads": 2}


def patches(count: int, side: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, side, side, 3), dtype=np.uint8)


@pytest.fixture
def timm() -> ModuleType:
    try:
        import timm
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"timm cannot be imported: {error}")
    return timm


def test_every_preset_says_all_a_user_must_know() -> None:
    for preset in PRESETS.values():
        assert preset.page.startswith("https://")
        assert preset.licence
        assert preset.source
        assert preset.width > 0
        assert preset.loader in hub.LOADERS


def test_presets_of_the_issue_are_there_with_their_published_numbers() -> None:
    seen = {f.name: (f.width, f.input_px, f.access) for f in encoder_facts()}

    assert seen == {
        "default": (192, 128, "included"),
        "uni": (1024, 224, "gated"),
        "uni2-h": (1536, 224, "gated"),
        "conch-v1.5": (768, 448, "gated"),
        "virchow": (2560, 224, "gated"),
        "virchow2": (2560, 224, "gated"),
        "gigapath": (1536, 224, "gated"),
        "h-optimus-0": (1536, 224, "gated"),
        "h-optimus-1": (1536, 224, "gated"),
        "phikon-v2": (1024, 224, "open"),
        "ctranspath": (768, 224, "open"),
        "resnet50-1024": (1024, 224, "open"),
    }


@pytest.mark.parametrize(
    ("name", "patch_um"),
    [("uni", 128), ("conch-v1.5", 256), ("virchow2", 112), ("ctranspath", 256)],
)
def test_a_preset_s_patch_covers_the_published_tissue(
    name: str, patch_um: float
) -> None:
    assert math.isclose(PRESETS[name].look.patch_um, patch_um)


def test_no_access_is_one_sentence_with_where_to_ask(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("401 Client Error.\nCannot access gated repo")

    monkeypatch.setattr(hub, "fetch", refuse)

    with pytest.raises(EncoderError) as caught:
        load_encoder("uni")

    assert str(caught.value) == (
        "UNI could not be loaded (401 Client Error); UNI is gated: ask for access at "
        "https://huggingface.co/MahmoodLab/UNI, log in with `hf auth login` and try "
        "again, or give its weights as uni=FILE"
    )


@pytest.mark.parametrize("name", ["uni", "conch-v1.5"])
def test_a_missing_library_does_not_hide_where_to_ask(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for library in ("timm", "transformers"):
        monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.setenv(hub.TRUST, "1")

    with pytest.raises(EncoderError, match=r"pip install \w+; .* ask for access at h"):
        load_encoder(name)


def test_an_open_preset_without_its_library_says_only_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)

    with pytest.raises(EncoderError, match=r"pip install timm$"):
        load_encoder("ctranspath")


def test_code_of_a_hub_is_not_run_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(hub.TRUST, raising=False)

    with pytest.raises(EncoderError, match=f"not run unasked; .* set {hub.TRUST}=1"):
        load_encoder("conch-v1.5")


def test_weights_of_another_width_are_not_taken_for_the_preset(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Flat(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x[:, :, 0, :8].flatten(1)

    monkeypatch.setattr(hub, "fetch", lambda *_: Flat())

    with pytest.raises(EncoderError, match=r"UNI gives 1024 features, .* gives 24"):
        load_preset("uni")


def test_a_preset_without_an_architecture_takes_no_bare_weights(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="cannot be built from the weights"):
        load_encoder(f"phikon-v2={tmp_path / 'model.safetensors'}")


def test_a_network_of_timm_needs_its_um_per_px() -> None:
    with pytest.raises(EncoderError, match=r"as in timm:resnet18@0\.5"):
        load_encoder("timm:resnet18")


@pytest.mark.parametrize("number", ["0", "-1", "inf", "nan"])
def test_um_per_px_after_a_name_must_be_possible(number: str) -> None:
    with pytest.raises(EncoderError, match=f"must be above 0, got {number}"):
        load_encoder(f"uni@{number}")


@pytest.mark.parametrize("name", ["unni", "conch-v1.6", "UNI"])
def test_an_unknown_name_lists_presets_and_other_ways(name: str) -> None:
    with pytest.raises(EncoderError, match=r"known: default, uni, .* timm:NAME@UM"):
        load_encoder(name)


def test_timm_weights_load_alike_from_every_file(
    timm: ModuleType, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    network = timm.create_model("vit_tiny_patch16_224", num_classes=3, **SMALL_VIT)
    config = {
        "architecture": "vit_tiny_patch16_224",
        "model_args": SMALL_VIT,
        "pretrained_cfg": {
            "input_size": [3, 32, 32],
            "mean": IMAGENET_MEAN,
            "std": IMAGENET_SD,
        },
    }
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    torch.save({"model": network.state_dict()}, tmp_path / "other.pt")
    for name in ("config", "model", "other"):
        (tmp_path / f"{name}.json").write_text(json.dumps(config))

    ways = ["", "/model.safetensors", "/other.pt"]
    loaded = [load_encoder(f"{tmp_path}{way}@0.5") for way in ways]

    assert len({encoder.fingerprint for encoder in loaded}) == 1
    pixels = patches(3, side=32)
    shown = (pixels / 255 - np.array(IMAGENET_MEAN)) / np.array(IMAGENET_SD)
    batch = torch.from_numpy(shown.astype(np.float32).transpose(0, 3, 1, 2))
    network.reset_classifier(0)
    with torch.inference_mode():
        expected = network.eval()(batch).numpy()
    for encoder in loaded:
        np.testing.assert_allclose(encoder(pixels), expected, atol=1e-5)


def test_weights_that_do_not_fit_timm_s_network_are_refused(
    timm: ModuleType, tmp_path: Path
) -> None:
    save_file({"conv": torch.zeros(2)}, tmp_path / "model.safetensors")
    card = {"architecture": "resnet18", "input_px": 32, "mpp": 0.5}
    text = json.dumps({**card, "mean": [0, 0, 0], "sd": [1, 1, 1]})
    (tmp_path / "model.json").write_text(text)

    with pytest.raises(EncoderError, match="do not make timm's resnet18"):
        load_encoder(str(tmp_path / "model.safetensors"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ctranspath", "resnet50-1024"])
def test_a_preset_loads_alike_from_its_file_and_from_its_hub(
    name: str, timm: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub is stood in for by the same architecture with seeded weights."""
    preset = PRESETS[name]

    def seeded(_: str, arguments: dict[str, object]) -> torch.nn.Module:
        torch.manual_seed(0)
        layers = with_layers({"num_classes": 0, **arguments})
        return timm.create_model(preset.architecture, **layers).eval()

    monkeypatch.setattr(hub, "fetch", seeded)
    weights = seeded("", dict(preset.arguments)).state_dict()
    save_file({k: t.clone() for k, t in weights.items()}, tmp_path / "w.safetensors")

    fetched = load_encoder(name)
    local = load_encoder(f"{name}={tmp_path / 'w.safetensors'}")

    assert fetched.width == preset.width
    assert fetched.fingerprint == local.fingerprint
    pixels = patches(2, side=preset.look.input_px)
    np.testing.assert_array_equal(fetched(pixels), local(pixels))


def test_every_preset_of_timm_names_sizes_that_timm_builds(timm: ModuleType) -> None:
    for preset in PRESETS.values():
        if not preset.architecture:
            continue
        with torch.device("meta"):
            sizes = with_layers({"num_classes": 0, **preset.arguments})
            network = timm.create_model(preset.architecture, **sizes)
        tokens = 2 if preset.look.pooling == "class+mean" else 1
        width = getattr(network, "num_features", None)
        if preset.look.pooling == "map":
            width = network.feature_info.channels()[-1]
        assert tokens * width == preset.width, preset.name


def test_a_folder_of_transformers_gives_the_class_token(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is missing")
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.Dinov2Config(image_size=28, patch_size=14, **sizes)
    network = transformers.Dinov2Model(config).eval()
    network.save_pretrained(tmp_path)
    shown = {"image_mean": [0, 0, 0], "image_std": [1, 1, 1]}
    crop = {"crop_size": {"height": 28, "width": 28}}
    text = json.dumps({**shown, **crop})
    (tmp_path / "preprocessor_config.json").write_text(text)

    encoder = load_encoder(f"{tmp_path}@0.5")

    pixels = patches(2, side=28)
    batch = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    with torch.inference_mode():
        expected = network(pixel_values=batch).last_hidden_state[:, 0].numpy()
    assert encoder.width == 16
    np.testing.assert_allclose(encoder(pixels), expected, atol=1e-5)


def test_the_stem_of_ctranspath_quarters_the_side_channels_last() -> None:
    stem = ConvStem(img_size=32, embed_dim=96, norm_layer=torch.nn.LayerNorm)

    assert stem(torch.zeros(2, 3, 32, 32)).shape == (2, 8, 8, 96)
    assert stem.num_patches == 64


def test_importing_the_registry_loads_neither_torch_nor_a_hub() -> None:
    code = (
        "import sys, napari_gimp.patches.encoders as e; e.encoder_facts(); "
        "print([m for m in ('timm', 'transformers', 'huggingface_hub') "
        "if m in sys.modules])"
    )

    run = [sys.executable, "-c", code]
    told = subprocess.run(run, capture_output=True, text=True, check=True)

    assert told.stdout.strip() == "[]"


def test_another_um_per_px_makes_another_encoder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Wide(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.flatten(1)[:, :1024]

    monkeypatch.setattr(hub, "fetch", lambda *_: Wide())

    usual, finer = load_encoder("uni"), load_encoder("uni@0.25")

    assert finer.mpp == 0.25
    assert finer.name == "uni@0.25"
    assert usual.fingerprint != finer.fingerprint
    assert replace(PRESETS["uni"].look, mpp=0.25).patch_um == 56.0
