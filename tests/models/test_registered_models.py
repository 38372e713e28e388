"""Every registered model: forward, backward, save and load, batch of one, sizes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from gimp_models.bag import Bag, collate
from gimp_models.card import Card
from gimp_models.checkpoint import load, load_as, save
from gimp_models.decoder import PixelDecoder
from gimp_models.errors import CheckpointError, ConfigError
from gimp_models.gimp import GimpConfig
from gimp_models.mgi_config import MgiConfig
from gimp_models.region import Region, collate_regions
from gimp_models.registry import MODELS, build, name_of
from gimp_models.subspace_config import SubspaceConfig

GENES, FEATURES = 150, 12


@dataclass(frozen=True)
class Case:
    """How the tests make one model and what it sees.

    Parameters
    ----------
    config
        Of a small model.
    members
        Three of different size, the second without genes.
    collate
        Members to a batch.
    seen, real
        The batch's fields of what is looked at, and of what of it is no padding.
    """

    config: Any
    members: Callable[[torch.Generator], Sequence[Any]]
    collate: Callable[[Sequence[Any]], Any]
    seen: str
    real: str


def bags(rng: torch.Generator) -> list[Bag]:
    """Make patients of 40, 23 and 1 patches on a 7 wide grid."""
    made = []
    for patches, genes in ((40, True), (23, False), (1, True)):
        index = torch.arange(patches)
        cells = torch.stack([index // 7, index % 7], dim=1)
        features = torch.randn(patches, FEATURES, generator=rng)
        profile = torch.randn(GENES, generator=rng) if genes else None
        made.append(Bag(features, (cells + 0.5) * 128.0, profile, label=0))
    return made


def regions(rng: torch.Generator) -> list[Region]:
    """Make regions of 64 x 48, 32 x 64 and 16 x 16 px, all whole patches."""
    made = []
    for height, width, genes in ((64, 48, True), (32, 64, False), (16, 16, True)):
        image = torch.rand(3, height, width, generator=rng)
        made.append(Region(image, torch.randn(GENES, generator=rng) if genes else None))
    return made


# A case for each registered model; a model without one fails here.
CASES: dict[str, Callable[[], Case]] = {
    "gimp": lambda: Case(
        GimpConfig.preset("tiny", patch_features=FEATURES, genes=GENES, classes=3),
        *(bags, collate, "features", "mask"),
    ),
    "mgi": lambda: Case(
        MgiConfig.preset("tiny", genes=GENES, classes=3),
        *(regions, collate_regions, "images", "pixels"),
    ),
    "subspace": lambda: Case(
        SubspaceConfig.preset(
            "tiny",
            **{"patch_features": FEATURES, "genes": GENES, "classes": 3},
            tumour_genes=tuple(range(0, GENES, 2)),
            micro_genes=tuple(range(1, GENES, 2)),
        ),
        *(bags, collate, "features", "mask"),
    ),
}

every_model = pytest.mark.parametrize("name", sorted(MODELS))


@pytest.fixture
def case(name: str) -> Case:
    return CASES[name]()


@pytest.fixture
def members(case: Case, rng: torch.Generator) -> Sequence[Any]:
    return case.members(rng)


@pytest.fixture
def batch(case: Case, members: Sequence[Any]) -> Any:
    return case.collate(members)


@pytest.fixture
def model(name: str, case: Case) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return build(name, case.config.as_dict()).eval()


def card_of(config: Any) -> Card:
    return Card(
        classes=tuple(f"class {k}" for k in range(config.classes)),
        genes=tuple(f"G{k}" for k in range(config.genes)),
        gene_mean=(0.0,) * config.genes,
        gene_sd=(1.0,) * config.genes,
    )


@every_model
def test_gradient_reaches_both_modalities_and_no_padding(model, case, batch, name):
    seen, real = getattr(batch, case.seen).requires_grad_(), getattr(batch, case.real)
    genes = batch.genes.requires_grad_()
    logits = model(batch).logits
    assert logits.shape[:2] == (3, case.config.classes)
    assert logits.isfinite().all()
    weight = torch.linspace(-1, 1, logits[0].numel()).view_as(logits[0])
    (logits * weight).sum().backward()
    moved = seen.grad.movedim(1, -1) if case.real == "pixels" else seen.grad
    assert moved[real].ne(0).any(-1).float().mean() > 0.9
    assert moved[~real].eq(0).all()
    assert genes.grad[0].ne(0).all()
    assert genes.grad[1].eq(0).all(), "the second has no genes"


@every_model
def test_model_comes_back_equal_from_a_checkpoint(model, case, batch, name, tmp_path):
    save(tmp_path / "m", model, card_of(case.config))
    found = load(tmp_path / "m")
    assert torch.equal(found.model(batch).logits, model(batch).logits)
    assert found.model.config == case.config
    assert found.card.architecture == name == name_of(found.model)


@every_model
def test_weights_of_other_sizes_are_refused(model, case, name, tmp_path):
    save(tmp_path / "m", model, card_of(case.config))
    path = tmp_path / "m" / "card.json"
    card = json.loads(path.read_text())
    key = next(k for k in ("depth", "gene_layers", "width") if k in card["config"])
    card["config"][key] *= 2
    path.write_text(json.dumps(card))
    with pytest.raises(CheckpointError, match="do not fit the card's config"):
        load(tmp_path / "m")


@every_model
def test_another_architecture_is_refused_by_name_before_weights_are_read(
    model, case, name, tmp_path
):
    save(tmp_path / "m", model, card_of(case.config))
    (tmp_path / "m" / "weights.safetensors").write_text("no weights at all")
    for other, architecture in MODELS.items():
        if other != name:
            with pytest.raises(CheckpointError) as caught:
                load_as(tmp_path / "m", architecture.model)
            text = str(caught.value)
            assert f"is of the architecture {name}, it must be {other}" in text
            assert architecture.title in text


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@every_model
def test_a_folder_made_on_a_gpu_loads_on_the_cpu(model, case, batch, name, tmp_path):
    expected = model(batch).logits
    save(tmp_path / "m", model.cuda(), card_of(case.config))
    found = load(tmp_path / "m").model
    assert {p.device.type for p in found.parameters()} == {"cpu"}
    assert torch.equal(found(batch).logits, expected)


@every_model
def test_only_a_model_of_patch_features_takes_a_pixel_decoder(
    model, case, name, tmp_path
):
    card, features = card_of(case.config), getattr(case.config, "patch_features", None)
    decoder = PixelDecoder(features or FEATURES).eval()
    if features is None:
        with pytest.raises(CheckpointError, match="no patch features to decode"):
            save(tmp_path / "m", model, card, decoder)
    else:
        save(tmp_path / "m", model, card, decoder)
        seen = torch.ones(1, features)
        assert torch.equal(load(tmp_path / "m").decoder(seen), decoder(seen))


def test_a_model_of_pixels_puts_its_scale_into_the_card(tmp_path):
    config = replace(CASES["mgi"]().config, mpp=0.5)
    with torch.random.fork_rng(devices=[]):
        card = save(tmp_path / "m", build("mgi", config.as_dict()), card_of(config))
    assert (card.mpp, card.patch_um) == (0.5, 64.0)


@every_model
def test_model_sees_one_as_it_does_in_a_padded_batch(model, case, batch, members, name):
    many = model(batch).logits
    for row, member in enumerate(members):
        one = model(case.collate([member])).logits[0]
        inside = many[row][tuple(slice(side) for side in one.shape)]
        torch.testing.assert_close(one, inside, atol=1e-5, rtol=1e-4)


@every_model
def test_model_runs_in_double_precision(model, case, batch, name):
    double = {field: getattr(batch, field).double() for field in (case.seen, "genes")}
    exact = model.double()(replace(batch, **double)).logits
    assert exact.dtype == torch.float64
    single = model.float()(batch).logits
    torch.testing.assert_close(single, exact.float(), atol=1e-4, rtol=1e-3)


@every_model
def test_model_trains_under_autocast(model, batch, name):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model.train()(batch).logits.float().square().mean()
    loss.backward()
    reached = [p for p in model.parameters() if p.grad is not None]
    assert len(reached) > 10
    assert all(p.grad.isfinite().all() for p in reached)


@every_model
def test_the_class_has_a_name_as_its_models_do(name):
    assert name_of(MODELS[name].model) == name


@every_model
def test_sizes_grow_from_tiny_to_base_and_are_counted_without_memory(name):
    architecture = MODELS[name]
    assert architecture.sizes == ("tiny", "small", "base")
    counts = [architecture.parameters(size) for size in architecture.sizes]
    assert counts == sorted(set(counts))


@every_model
def test_the_count_of_parameters_is_that_of_a_real_model(name):
    architecture = MODELS[name]
    real = architecture.model(architecture.preset("tiny", **architecture.typical))
    assert architecture.parameters("tiny") == sum(p.numel() for p in real.parameters())


@every_model
def test_the_card_of_an_architecture_is_whole_and_plain(name):
    card = json.loads(json.dumps(MODELS[name].as_dict()))
    assert card["name"] == name
    assert all(card[k] for k in ("title", "summary", "source", "inputs", "outputs"))
    assert "BSD-3-Clause" in card["licence"]
    assert len(card["choices"]) > 3


@every_model
def test_a_config_survives_json_and_an_unknown_field_is_refused(case, name):
    kind, held = MODELS[name].config, json.loads(json.dumps(case.config.as_dict()))
    assert kind.from_dict(held) == case.config
    with pytest.raises(ConfigError, match="flux"):
        kind.from_dict({**held, "flux": 1})


@every_model
def test_a_config_that_lacks_a_field_is_refused_by_its_name(case, name):
    values = case.config.as_dict()
    del values["genes"]
    with pytest.raises(ConfigError, match=r"incomplete.*'genes'"):
        MODELS[name].config.from_dict(values)


@every_model
def test_an_unknown_size_is_refused_with_the_known_ones(name):
    architecture = MODELS[name]
    with pytest.raises(ConfigError, match=r"'huge'.*tiny, small, base"):
        architecture.preset("huge", **architecture.typical)


def test_a_model_of_patches_leaves_the_name_decoder_free():
    # Checkpoints keep the pixel decoder's weights beside the model's as decoder.*
    for name, architecture in MODELS.items():
        with torch.device("meta"):
            model = architecture.model(CASES[name]().config)
        if hasattr(model.config, "patch_features"):
            assert "decoder" not in dict(model.named_children())
