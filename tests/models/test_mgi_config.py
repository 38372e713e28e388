"""MGI's config: the specification's sizes, and what contradicts itself."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from gimp_models.errors import ConfigError
from gimp_models.mgi_config import MgiConfig

SMALL = MgiConfig(genes=20_530, classes=1)


@pytest.mark.parametrize(
    ("size", "image", "branch", "genes"),
    [
        ("tiny", (128, 16, 64), (128, 4, 4), (128, 2)),
        ("small", (256, 16, 256), (384, 12, 6), (256, 4)),
        ("base", (256, 16, 256), (768, 12, 12), (384, 8)),
    ],
)
def test_sizes_are_the_tables_of_the_specification(size, image, branch, genes):
    config = MgiConfig.preset(size, genes=20_530, classes=1)
    assert (config.image_px, config.patch_px, config.side**2) == image
    assert (config.width, config.depth, config.heads) == branch
    assert (config.gene_width, config.gene_layers) == genes
    assert (config.states, config.conv, config.embedding) == (16, 4, 256)
    assert config.mpp == 1.0


def test_the_default_is_the_small_size():
    assert MgiConfig.preset("small", genes=20_530, classes=1) == SMALL


def test_a_profile_of_the_paper_is_321_fragments():
    assert SMALL.gene_length == 321


def test_tokens_are_counted_for_each_gene_encoder():
    few = replace(SMALL, genes=130)
    assert few.gene_length == 3
    assert replace(few, gene_tokens="gene").gene_length == 130
    assert replace(few, gene_encoder="transformer").gene_length == 3
    assert replace(few, gene_encoder="snn", fusion="film").gene_length == 1


def test_a_config_survives_json():
    config = replace(SMALL, fusion="concat", gene_encoder="mlp", skips=False)
    assert MgiConfig.from_dict(json.loads(json.dumps(config.as_dict()))) == config


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"classes": 0}, "at least 1"),
        ({"image_px": 250}, r"image_px is 250, .* multiple of patch_px \(16\)"),
        ({"patch_px": 12}, "power of two"),
        ({"patch_px": 1}, "power of two"),
        ({"width": 100}, "multiple of heads"),
        ({"mpp": 0.0}, "above 0"),
        ({"gene_tokens": "gene"}, "at most 4096"),
        ({"gene_encoder": "lstm"}, "mamba, transformer, mlp, snn"),
        ({"fusion": "sum"}, "cross_attention, concat, film, none"),
        ({"pool": "max"}, "mean, last"),
        ({"decoder_width": 12}, "multiple of 8"),
        ({"dropout": 1.0}, "below 1"),
        ({"fusion_layers": 0}, "at least 1"),
    ],
)
def test_a_config_that_contradicts_itself_is_refused(options, text):
    with pytest.raises(ConfigError, match=text):
        replace(SMALL, **options)


@pytest.mark.parametrize("encoder", ["mlp", "snn"])
def test_one_gene_token_is_nothing_to_attend_to(encoder):
    with pytest.raises(ConfigError, match="single token"):
        replace(SMALL, gene_encoder=encoder)
    assert replace(SMALL, fusion="concat", gene_encoder=encoder).gene_length == 1


@pytest.mark.parametrize("encoder", ["mamba", "transformer"])
def test_one_gene_token_is_no_sequence(encoder):
    few = {"genes": 64, "gene_encoder": encoder, "fusion": "concat"}
    with pytest.raises(ConfigError, match=r"fragment is 64, .* below genes \(64\)"):
        replace(SMALL, **few)
    assert replace(SMALL, **few, fragment=32).gene_length == 2


def test_an_unknown_size_is_refused_with_the_choices():
    with pytest.raises(ConfigError, match="tiny, small, base"):
        MgiConfig.preset("huge", genes=200, classes=2)
