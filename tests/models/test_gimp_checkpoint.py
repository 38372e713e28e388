"""Checkpoint folders: what comes back, what is refused, what is left behind."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from gimp_models import checkpoint
from gimp_models.card import FORMAT, Card
from gimp_models.checkpoint import CARD, WEIGHTS, load, load_as, read_card, save
from gimp_models.decoder import PixelDecoder
from gimp_models.errors import CheckpointError
from gimp_models.gimp import Gimp
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file


@pytest.fixture
def card():
    genes = tuple(f"GENE{i}" for i in reversed(range(150)))
    return Card(
        stage="finetune",
        classes=("benign", "luminal-like", "basal-like"),
        genes=genes,
        gene_mean=tuple(i / 7 for i in range(150)),
        gene_sd=tuple(1 + i / 9 for i in range(150)),
        encoder={"name": "default", "fingerprint": "abc", "width": 12},
        cohort={"patients": 24},
        metrics={"auc": {"value": 0.9, "interval": [0.8, 1.0]}, "f1": math.nan},
        licence="CC0-1.0",
        description="A model of the tests.",
    )


@pytest.fixture
def folder(tmp_path, make_model, card):
    """A whole checkpoint."""
    save(tmp_path / "model", make_model(), card)
    return tmp_path / "model"


def rewrite(folder, **changes):
    values = json.loads((folder / CARD).read_text())
    values.update(changes)
    (folder / CARD).write_text(json.dumps(values))


def refused(folder, *words):
    with pytest.raises(CheckpointError) as caught:
        load(folder)
    for word in (*words, str(folder.name)):
        assert word in str(caught.value)


def test_a_loaded_model_gives_equal_outputs(folder, make_model, three):
    found = load(folder)
    expected = make_model()(three, attention=True)
    output = found.model(three, attention=True)
    for name in ("logits", "embedding", "patch_attention", "group_attention"):
        assert torch.equal(getattr(output, name), getattr(expected, name))
    assert not found.model.training
    assert found.decoder is None


def test_the_card_comes_back_with_genes_in_order(folder, card):
    found = load(folder).card
    kept = ("genes", "gene_mean", "gene_sd", "classes", "encoder", "stage", "licence")
    assert all(getattr(found, name) == getattr(card, name) for name in kept)
    assert found.architecture == "gimp"
    assert found.metrics["auc"]["interval"] == [0.8, 1.0]
    assert found.metrics["f1"] is None
    assert found.format == FORMAT
    assert any("raster" in choice for choice in found.choices)


def test_explicit_gene_groups_come_back(tmp_path, make_model, card, three):
    groups = ((5, 3, 3 * 7), (0, 5))
    model = make_model(grouping="pathway", groups=groups, group_names=("a", "b"))
    save(tmp_path / "m", model, card)
    found = load(tmp_path / "m").model
    assert found.config == model.config
    assert torch.equal(found(three).logits, model(three).logits)


def test_the_pixel_decoder_travels_in_the_same_weights(tmp_path, make_model, card, rng):
    decoder = PixelDecoder(12).eval()
    save(tmp_path / "m", make_model(), card, decoder)
    features = torch.randn(2, 12, generator=rng)
    assert torch.equal(load(tmp_path / "m").decoder(features), decoder(features))
    names = load_file(tmp_path / "m" / WEIGHTS)
    assert any(name.startswith("decoder.") for name in names)


def test_a_checkpoint_holds_weights_and_card_and_nothing_else(folder):
    assert {p.name for p in folder.iterdir()} == {WEIGHTS, CARD}
    assert [p.name for p in folder.parent.iterdir()] == ["model"]


def test_saving_again_replaces_the_model(folder, make_model, card):
    other = make_model(order="hilbert")
    save(folder, other, replace(card, description="Second."))
    assert load(folder).card.description == "Second."
    assert load(folder).model.config.order == "hilbert"
    assert [p.name for p in folder.parent.iterdir()] == ["model"]


@pytest.mark.parametrize("moment", ["save_file", "_put_in_place"])
def test_a_save_that_fails_leaves_the_old_model_and_no_rubbish(
    folder, make_model, card, monkeypatch, moment
):
    def fail(*_args):
        raise OSError("disk full")

    before = read_card(folder)
    monkeypatch.setattr(checkpoint, moment, fail)
    with pytest.raises(OSError, match="disk full"):
        save(folder, make_model(order="hilbert"), card)
    assert load(folder).card == before
    assert [p.name for p in folder.parent.iterdir()] == ["model"]


@pytest.mark.parametrize("reason", [OSError, KeyboardInterrupt])
def test_the_old_model_returns_if_the_new_one_cannot_take_its_place(
    folder, make_model, card, monkeypatch, reason
):
    rename = type(folder).replace

    def fail(self, target):
        if target == folder and not self.name.endswith(".old"):
            raise reason("refused")
        return rename(self, target)

    monkeypatch.setattr(type(folder), "replace", fail)
    with pytest.raises(reason, match="refused"):
        save(folder, make_model(), card)
    assert load(folder).card.stage == "finetune"
    assert [p.name for p in folder.parent.iterdir()] == ["model"]


def test_a_folder_that_is_no_checkpoint_is_not_overwritten(tmp_path, make_model, card):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(CheckpointError, match="new or empty folder"):
        save(tmp_path, make_model(), card)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_a_missing_folder_is_refused(tmp_path):
    refused(tmp_path / "nowhere", "There is no model folder", WEIGHTS)


def test_a_folder_without_weights_is_refused(folder):
    (folder / WEIGHTS).unlink()
    refused(folder, "is no model", f"lacks {WEIGHTS}")


def test_weights_of_another_training_are_refused(folder):
    save_file({"x": torch.ones(1)}, folder / WEIGHTS)
    refused(folder, "not those of the card", "copy the model's folder again")


def test_one_flipped_bit_is_noticed(folder):
    content = bytearray((folder / WEIGHTS).read_bytes())
    content[-1] ^= 1
    (folder / WEIGHTS).write_bytes(content)
    refused(folder, "sha256")


@pytest.mark.parametrize("name", ["model.pt", "optimizer.pkl", "weights.bin"])
def test_a_folder_with_a_pickle_is_refused_before_anything_is_read(folder, name):
    (folder / name).write_bytes(b"\x80\x04.")
    (folder / CARD).write_text("not even JSON")
    refused(folder, name, "may run code")


def test_an_unknown_architecture_is_refused_with_the_known_ones(folder):
    rewrite(folder, architecture="alchemy")
    with pytest.raises(CheckpointError, match=r"'alchemy'.*one of gimp"):
        load(folder)


def test_a_newer_format_is_refused(folder):
    rewrite(folder, format=FORMAT + 1)
    with pytest.raises(CheckpointError, match="update napari-gimp"):
        load(folder)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"format": 1}'])
def test_a_damaged_card_is_refused(folder, text):
    (folder / CARD).write_text(text)
    with pytest.raises(CheckpointError, match="card"):
        load(folder)


def test_a_config_of_other_sizes_is_refused(folder):
    config = json.loads((folder / CARD).read_text())["config"]
    rewrite(folder, config={**config, "depth": 3})
    refused(folder, "do not fit the card's config")


def test_a_config_with_an_unknown_field_is_refused(folder):
    config = json.loads((folder / CARD).read_text())["config"]
    rewrite(folder, config={**config, "flux": 3})
    refused(folder, "flux")


def test_a_text_file_as_weights_is_refused(folder):
    (folder / WEIGHTS).write_text("hello")
    rewrite(folder, sha256=checkpoint._sha256(folder / WEIGHTS))
    refused(folder, "safetensors")


def test_a_card_with_too_few_genes_is_refused(tmp_path, make_model, card):
    fewer = replace(card, genes=("A",), gene_mean=(0.0,), gene_sd=(1.0,))
    with pytest.raises(CheckpointError, match="names 1 genes, the model has 150"):
        save(tmp_path / "m", make_model(), fewer)
    assert not (tmp_path / "m").exists()


def test_a_card_without_a_mean_for_each_gene_is_refused(card):
    with pytest.raises(CheckpointError, match="149 values of gene_mean"):
        replace(card, gene_mean=card.gene_mean[:-1])


def test_an_unregistered_model_is_refused(tmp_path, card):
    with pytest.raises(CheckpointError, match="Linear is no registered"):
        save(tmp_path / "m", torch.nn.Linear(2, 2), card)


def test_loading_draws_nothing_from_the_global_seed(folder):
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    load(folder)
    assert torch.equal(torch.rand(1), expected)


numbers = st.floats(allow_nan=False, allow_infinity=False)


@given(st.lists(st.tuples(st.text(), numbers, numbers), max_size=9), st.text())
def test_any_card_survives_json(panel, description):
    genes, mean, sd = zip(*panel, strict=True) if panel else ((), (), ())
    card = Card(
        genes=genes,
        gene_mean=mean,
        gene_sd=sd,
        description=description,
        choices=("one",),
    )
    assert Card.from_dict(json.loads(json.dumps(card.as_dict()))) == card


SHIPPED = Path(__file__).parents[2] / "napari_gimp" / "checkpoints"


@pytest.mark.parametrize("folder", sorted(SHIPPED.iterdir()), ids=lambda p: p.name)
def test_a_shipped_checkpoint_loads_as_what_it_was_saved_as(folder):
    found = load_as(folder, Gimp)
    assert found.card.format == FORMAT
    assert found.decoder is not None
    assert len(found.card.genes) == found.model.config.genes
