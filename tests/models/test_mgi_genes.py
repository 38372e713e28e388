"""The gene encoders MGI's Mamba is compared with."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from gimp_models.gene_encoders import gene_encoder
from gimp_models.mgi_config import MgiConfig
from torch import Tensor, nn

GENES = 90
every_encoder = pytest.mark.parametrize(
    "encoder", ["mamba", "transformer", "mlp", "snn"]
)


def make(encoder: str, **options: Any) -> tuple[MgiConfig, nn.Module]:
    sizes = {"fragment": 16, "gene_width": 32, "gene_layers": 2, "fusion": "film"}
    config = MgiConfig(
        **{"genes": GENES, "classes": 1, "gene_encoder": encoder, **sizes, **options}
    )
    torch.manual_seed(0)
    return config, gene_encoder(config).eval()


@pytest.fixture
def profiles(rng: torch.Generator) -> Tensor:
    return torch.randn(3, GENES, generator=rng)


@every_encoder
@pytest.mark.parametrize("kind", ["chunk", "gene"])
@pytest.mark.parametrize("pool", ["mean", "last"])
def test_all_yield_the_tokens_the_config_counts(encoder, kind, pool, profiles):
    config, genes = make(encoder, gene_tokens=kind, pool=pool)
    found = genes(profiles)
    assert found.tokens.shape == (3, config.gene_length, 32)
    assert found.mask.shape == (3, config.gene_length)
    assert found.mask.all()
    assert found.pooled.shape == (3, 32)


@every_encoder
def test_each_gene_is_in_the_token_it_is_said_to_be_in(encoder, profiles):
    config, genes = make(encoder)
    token = genes.tokens_of_genes()
    fragments = torch.arange(GENES) // 16
    assert token.equal(fragments if config.gene_length > 1 else fragments * 0)


@pytest.mark.parametrize("encoder", ["mamba", "transformer"])
def test_the_profile_is_the_mean_or_the_last_of_the_tokens(encoder, profiles):
    _, genes = make(encoder, pool="mean")
    found = genes(profiles)
    torch.testing.assert_close(found.pooled, found.tokens.mean(1))
    _, genes = make(encoder, pool="last")
    found = genes(profiles)
    torch.testing.assert_close(found.pooled, found.tokens[:, -1])


@pytest.mark.parametrize("pool", ["mean", "last"])
def test_masked_tokens_of_the_transformer_change_nothing(pool, profiles):
    _, genes = make("transformer", pool=pool)
    mask = torch.ones(3, 6, dtype=torch.bool)
    mask[:, 4:] = False
    junk = profiles.clone()
    junk[:, 64:] = 50.0
    torch.testing.assert_close(genes(junk, mask).pooled, genes(profiles, mask).pooled)
    assert (genes(junk).pooled - genes(profiles).pooled).abs().max() > 1e-3


@every_encoder
def test_the_mean_profile_has_a_direction(encoder):
    _, genes = make(encoder)
    assert genes(torch.zeros(1, GENES)).pooled.norm() > 0.1


@every_encoder
def test_profiles_of_a_batch_do_not_meet(encoder, profiles):
    _, genes = make(encoder)
    alone = torch.cat([genes(one[None]).pooled for one in profiles])
    torch.testing.assert_close(genes(profiles).pooled, alone, atol=1e-5, rtol=1e-4)


@every_encoder
def test_every_gene_and_every_parameter_counts(encoder, profiles):
    _, genes = make(encoder)
    profiles.requires_grad_()
    found = genes(profiles)
    weight = torch.linspace(-1, 1, found.pooled.numel()).view_as(found.pooled)
    (found.pooled * weight).sum().backward()
    assert profiles.grad.ne(0).any(0).all()
    dead = [n for n, p in genes.named_parameters() if not p.grad.ne(0).any()]
    assert dead == []
