"""Decoders: features to thumbnails."""

from __future__ import annotations

import pytest
import torch
from gimp_models.decoder import SIDE_PX, PixelDecoder, RidgeDecoder, fit_decoder
from gimp_models.losses import standardise


@pytest.fixture
def coloured(rng):
    """Features whose first entries set the colour of a flat thumbnail."""
    features = torch.randn(200, 10, generator=rng)
    colour = torch.sigmoid(standardise(features)[:, :3])
    return features, colour[:, None, None].expand(-1, SIDE_PX, SIDE_PX, -1)


def test_a_decoding_is_a_picture(rng):
    picture = PixelDecoder(10)(torch.randn(4, 10, generator=rng))
    assert picture.shape == (4, 32, 32, 3)
    assert picture.min() >= 0
    assert picture.max() <= 1


def test_raw_and_standardised_features_decode_alike(rng):
    features, decoder = torch.randn(4, 10, generator=rng), PixelDecoder(10)
    found = decoder(standardise(features))
    torch.testing.assert_close(found, decoder(features), atol=1e-4, rtol=0)


def test_a_fitted_decoder_beats_the_mean_picture(coloured, rng):
    features, thumbnails = coloured
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        decoder = PixelDecoder(10)
    error = fit_decoder(
        decoder, features, thumbnails, generator=rng, steps=30, batch_size=16, lr=5e-3
    )
    spread = (thumbnails - thumbnails.mean(0)).square().mean()
    assert error < 0.5 * spread


def test_ridge_decoding_recovers_new_patches(coloured):
    features, thumbnails = coloured
    decoder = RidgeDecoder.fit(features[:150], thumbnails[:150], penalty=1.0)
    error = (decoder(features[150:]) - thumbnails[150:]).square().mean()
    spread = (thumbnails[150:] - thumbnails[:150].mean(0)).square().mean()
    assert error < 0.05 * spread


def test_a_heavy_penalty_leaves_the_mean_picture(coloured):
    features, thumbnails = coloured
    decoder = RidgeDecoder.fit(features, thumbnails, penalty=1e9)
    expected = thumbnails.mean(0).expand(2, -1, -1, -1)
    torch.testing.assert_close(decoder(features[:2]), expected, atol=1e-3, rtol=0)
