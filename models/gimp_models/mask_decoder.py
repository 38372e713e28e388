"""Lightweight decoder of MGI: fused tokens to a mask at the image's size (spec D).

Each step doubles the side, x_j = GELU(GroupNorm(Up(x_{j-1}) + Skip_j(tap))), down to
single pixels; a 1 x 1 convolution gives the logits. Cells without a real pixel are
held at zero and take no part in GroupNorm's statistics, so that padding changes
nothing.

Letters: B regions, N = h w tokens of width D, p pixels per token side, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gimp_models.mgi_config import MgiConfig
from gimp_models.precision import at_least_float32
from gimp_models.vit import ImageGrid

__all__ = ["MaskDecoder", "MaskedGroupNorm"]

_NARROWEST = 16  # channels of the finest step: the fewer, the slower logits grow
_GROUPS = 8  # of every GroupNorm, or as many as divide the channels


class MaskDecoder(nn.Module):
    """Token grid to logits.

    Parameters
    ----------
    config
        `width`, `patch_px`, `decoder_width`, `classes`, `skips`.
    """

    def __init__(self, config: MgiConfig) -> None:
        super().__init__()
        steps = int(math.log2(config.patch_px))
        least = min(_NARROWEST, config.decoder_width)
        channels = [max(least, config.decoder_width >> step) for step in range(steps)]
        wide = [config.width, *channels]
        self.steps = nn.ModuleList(
            Doubling(inside, outside)
            for inside, outside in zip(wide, channels, strict=False)
        )
        # The deepest tap joins the coarsest step, the shallowest the finest of three.
        joined = channels[:3] if config.skips else []
        self.skips = nn.ModuleList(
            Skip(config.width, outside, factor=2**step)
            for step, outside in enumerate(joined, start=1)
        )
        self.head = nn.Conv2d(channels[-1], config.classes, kernel_size=1)

    def forward(self, tokens: Tensor, image: ImageGrid) -> Tensor:
        """Decode.

        Parameters
        ----------
        tokens
            (B,N,D) fused tokens, row by row.
        image
            The image's grid, taps and real pixels.

        Returns
        -------
        Tensor
            (B,K,h p,w p) logits.
        """
        cells = _real_cells(image.pixels, len(self.steps))
        x = _zero_outside(_as_map(tokens, image.grid), cells[0])
        skipped = self._skipped(image)
        for step, real, extra in zip(self.steps, cells[1:], skipped, strict=True):
            x = step(x, extra, real)
        logits: Tensor = self.head(x)
        return logits

    def _skipped(self, image: ImageGrid) -> list[Tensor | None]:
        """Return what each step adds from the taps; None where it adds nothing."""
        taps = reversed(image.taps)
        added = [
            skip(tap, image.grid) for skip, tap in zip(self.skips, taps, strict=False)
        ]
        return [*added, *[None] * (len(self.steps) - len(added))]


class Doubling(nn.Module):
    """Twice the side: GELU(GroupNorm(ConvTranspose(x) + skip))."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        # Kernel 4 at stride 2: neighbours overlap evenly, so no checkerboard and no
        # seams between tokens, which a kernel of 2 would leave.
        self.up = nn.ConvTranspose2d(inside, outside, 4, stride=2, padding=1)
        self.norm = MaskedGroupNorm(math.gcd(_GROUPS, outside), outside)

    def forward(self, x: Tensor, skip: Tensor | None, real: Tensor | None) -> Tensor:
        """(B,C,h,w) to (B,C',2h,2w); `real` (B,1,2h,2w) bool, None if all are."""
        x = self.up(x)
        if skip is not None:
            x = x + skip
        return _zero_outside(F.gelu(self.norm(x, real)), real)


class Skip(nn.Module):
    """A tap of the ViT, normalised and spread over the cells of its patches."""

    def __init__(self, width: int, outside: int, *, factor: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.spread = nn.ConvTranspose2d(width, outside, factor, stride=factor)

    def forward(self, tap: Tensor, grid: tuple[int, int]) -> Tensor:
        """(B,N,D) to (B,C,f h,f w)."""
        spread: Tensor = self.spread(_as_map(self.norm(tap), grid))
        return spread


class MaskedGroupNorm(nn.GroupNorm):
    """GroupNorm whose mean and variance are those of the real cells."""

    def forward(self, input: Tensor, real: Tensor | None = None) -> Tensor:  # noqa: A002 - torch's name
        """Normalise (B,C,h,w); `real` (B,1,h,w) bool, None if all cells are."""
        if real is None:
            return super().forward(input)
        # A sum over 65,536 bf16 cells would lose the variance: at least float32.
        batch, _, height, width = input.shape
        x = at_least_float32(input).reshape(batch, self.num_groups, -1, height, width)
        weight = real[:, None].to(x.dtype)
        count = weight.sum((2, 3, 4), keepdim=True) * x.shape[2]
        mean = (x * weight).sum((2, 3, 4), keepdim=True) / count
        centred = (x - mean) * weight
        variance = centred.square().sum((2, 3, 4), keepdim=True) / count
        x = (centred * (variance + self.eps).rsqrt()).flatten(1, 2)
        return x * self.weight[:, None, None] + self.bias[:, None, None]


def _as_map(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """(B,h w,D) to (B,D,h,w)."""
    return tokens.transpose(1, 2).reshape(len(tokens), -1, *grid)


def _real_cells(pixels: Tensor, steps: int) -> Sequence[Tensor | None]:
    """Cells with a real pixel, (B,1,h,w) for tokens first, single pixels last."""
    if bool(pixels.all()):
        return [None] * (steps + 1)
    levels = [pixels[:, None]]
    for _ in range(steps):
        levels.append(_any_of_four(levels[-1]))
    return levels[::-1]


def _any_of_four(cells: Tensor) -> Tensor:
    batch, _, height, width = cells.shape
    cut = cells.reshape(batch, 1, height // 2, 2, width // 2, 2)
    return cut.any(5).any(3)


def _zero_outside(x: Tensor, real: Tensor | None) -> Tensor:
    return x if real is None else torch.where(real, x, 0)
