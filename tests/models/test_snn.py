"""The gene encoder of Subspace (spec subspace 3.1)."""

from __future__ import annotations

import pytest
import torch
from gimp_models.snn import SNN
from torch import nn


@pytest.fixture
def encoder() -> SNN:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return SNN(400, 128, dropout=0.1)


def test_weights_begin_as_normal_of_variance_one_over_fan_in_and_biases_as_zero(
    encoder,
):
    shapes = [tuple(layer.weight.shape) for layer in encoder.layers]
    assert shapes == [(64, 400), (48, 64), (32, 48), (128, 32)]
    for layer in encoder.layers:
        scaled = layer.weight * layer.in_features**0.5
        assert abs(scaled.mean()) < 4 / scaled.numel() ** 0.5
        assert abs(scaled.std() - 1) < 4 / (2 * scaled.numel()) ** 0.5
        assert scaled.abs().max() > 2.5  # normal, not uniform in +- sqrt(3)
        assert layer.bias.eq(0).all()


def test_encoding_is_the_formula(encoder, rng):
    z = torch.randn(5, 400, generator=rng)
    expected = z
    for layer in encoder.layers:
        x = expected @ layer.weight.T + layer.bias
        expected = torch.where(x > 0, x, x.exp() - 1)
    found = encoder.eval()(z)
    torch.testing.assert_close(found, expected.clamp_min(0))
    assert found.ge(0).all()
    assert found.gt(0).any()


def test_dropout_acts_in_training_only(encoder, rng):
    z = torch.randn(3, 400, generator=rng)
    assert not torch.equal(encoder.train()(z), encoder(z))
    assert torch.equal(encoder.eval()(z), encoder(z))
    assert [m.p for m in encoder.modules() if isinstance(m, nn.AlphaDropout)] == [0.1]


def test_every_layer_learns(encoder, rng):
    encoder(torch.randn(8, 400, generator=rng)).sum().backward()
    assert all(p.grad.ne(0).any() for p in encoder.parameters())
