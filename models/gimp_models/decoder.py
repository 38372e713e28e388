"""Pictures of features: low-resolution decodings, shown as what they are.

Both decoders standardise what they are given, so that a patch's own feature and
GiMP's prediction of it, which is on the standardised scale, decode alike. Spec gimp,
"What the viewer shows": pixel decoding.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gimp_models.losses import standardise
from gimp_models.precision import at_least_float32

__all__ = ["SIDE_PX", "PixelDecoder", "RidgeDecoder", "fit_decoder"]

SIDE_PX = 32
_START_PX, _START_CHANNELS = 4, 64


class PixelDecoder(nn.Module):
    """Features to thumbnails of 32 x 32 pixels; about 0.3 M parameters at P = 192.

    Parameters
    ----------
    patch_features
        P.
    """

    def __init__(self, patch_features: int) -> None:
        super().__init__()
        self.start = nn.Linear(patch_features, _START_CHANNELS * _START_PX**2)
        self.grow = nn.Sequential(
            _doubling(_START_CHANNELS, 48), _doubling(48, 32), _doubling(32, 24)
        )
        self.colour = nn.Conv2d(24, 3, kernel_size=1)

    def forward(self, features: Tensor) -> Tensor:
        """Decode features (B,P), raw or standardised.

        Returns
        -------
        Tensor
            (B,32,32,3) RGB in [0, 1].
        """
        x = self.start(standardise(features))
        x = x.reshape(-1, _START_CHANNELS, _START_PX, _START_PX)
        return torch.sigmoid(self.colour(self.grow(x))).permute(0, 2, 3, 1)


@dataclass(frozen=True, slots=True)
class RidgeDecoder:
    """Linear decoding fitted in closed form, for an encoder without a decoder.

    Parameters
    ----------
    weight
        (1+P,3072), the first row is the mean picture.
    """

    weight: Tensor

    @classmethod
    def fit(
        cls, features: Tensor, thumbnails: Tensor, *, penalty: float = 10.0
    ) -> RidgeDecoder:
        """Fit on the slide at hand.

        Parameters
        ----------
        features
            (B,P).
        thumbnails
            (B,32,32,3) RGB in [0, 1].
        penalty
            Ridge penalty on standardised features; the mean is not penalised.

        Returns
        -------
        RidgeDecoder
        """
        x = _with_one(features)
        y = thumbnails.flatten(1).to(x.dtype)
        ridge = penalty * torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
        ridge[0, 0] = 1e-6
        return cls(torch.linalg.solve(x.T @ x + ridge, x.T @ y))

    def __call__(self, features: Tensor) -> Tensor:
        """Decode features (B,P) to (B,32,32,3) RGB in [0, 1]."""
        flat = _with_one(features) @ self.weight
        return flat.reshape(-1, SIDE_PX, SIDE_PX, 3).clamp(0, 1)


def fit_decoder(
    decoder: PixelDecoder,
    features: Tensor,
    thumbnails: Tensor,
    *,
    generator: torch.Generator,
    steps: int = 1000,
    batch_size: int = 128,
    lr: float = 2e-3,
) -> float:
    """Fit a pixel decoder by mean squared error.

    Parameters
    ----------
    decoder
        Changed in place.
    features, thumbnails
        (B,P) and (B,32,32,3) RGB in [0, 1] of training patches, on one device.
    generator
        Draws the batches.
    steps, batch_size, lr
        Schedule of AdamW, one-cycle.

    Returns
    -------
    float
        Mean squared error of the last tenth of the steps.
    """
    optimizer = torch.optim.AdamW(decoder.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
    losses = []
    for _ in range(steps):
        rows = torch.randint(len(features), (batch_size,), generator=generator)
        rows = rows.to(features.device)
        loss = (decoder(features[rows]) - thumbnails[rows]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.detach())
    return float(torch.stack(losses[-max(1, steps // 10) :]).mean())


def _doubling(inside: int, outside: int) -> nn.Sequential:
    """Twice the side: nearest neighbour, then a convolution (no checkerboard)."""
    return nn.Sequential(
        nn.Upsample(scale_factor=2),
        nn.Conv2d(inside, outside, kernel_size=3, padding=1),
        nn.GELU(),
    )


def _with_one(features: Tensor) -> Tensor:
    x = standardise(at_least_float32(features))
    return torch.cat([torch.ones_like(x[:, :1]), x], dim=1)
