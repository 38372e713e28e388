"""Image encoder of MGI: a vision transformer over one region (spec A).

Plain pre-norm ViT, learned positions, class token, last LayerNorm. Its layers carry
the names and the arithmetic of timm's `VisionTransformer`, so that pretrained weights
fit (`timm_weights.py`).

Padding changes nothing: pixels that are not real are zeroed, a patch that is not
wholly real is no key of the attention, and positions count from the top left.

Letters: B regions, N patches, D width, H W pixels, h w patches along the sides.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gimp_models.errors import BatchError
from gimp_models.mgi_config import MgiConfig

__all__ = ["ImageGrid", "ViT", "tap_depths"]

_EPS = 1e-6  # of every LayerNorm, as in timm and the original ViT
_FEEDFORWARD = 4  # MLP x4 (spec A)


@dataclass(frozen=True, slots=True)
class ImageGrid:
    """What the image encoder says about a batch.

    Parameters
    ----------
    patches
        (B,N,D) patch tokens Z_I after the last LayerNorm, row by row, N = h w.
    mask
        (B,N) bool, True where the patch is wholly real; these are pooled and are
        keys of the attention.
    grid
        (h,w) patches down and across.
    cls
        (B,D) class token.
    taps
        Three (B,N,D), the patch tokens after 1/4, 1/2 and 3/4 of the layers.
    pixels
        (B,h p,w p) bool, True for real pixels, on whole patches of p pixels.
    """

    patches: Tensor
    mask: Tensor
    grid: tuple[int, int]
    cls: Tensor
    taps: tuple[Tensor, ...]
    pixels: Tensor


class ViT(nn.Module):
    """Vision transformer.

    Parameters
    ----------
    config
        Sizes: `image_px`, `patch_px`, `width`, `depth`, `heads`, `dropout`.

    Attributes
    ----------
    pixel_mean, pixel_std
        (3,) colour that is shifted to 0 and scaled to 1; weights from elsewhere bring
        their own.
    """

    def __init__(self, config: MgiConfig) -> None:
        super().__init__()
        width, patch = config.width, config.patch_px
        self.config = config
        self.tap_depths = tap_depths(config.depth)
        self.pixel_mean: Tensor
        self.pixel_std: Tensor
        self.register_buffer("pixel_mean", torch.full((3,), 0.5))
        self.register_buffer("pixel_std", torch.full((3,), 0.5))
        self.patch_embed = nn.Conv2d(3, width, kernel_size=patch, stride=patch)
        self.cls_token = nn.Parameter(torch.empty(1, 1, width))
        self.pos_embed = nn.Parameter(torch.empty(1, 1 + config.side**2, width))
        self.blocks = nn.ModuleList(
            Block(width, heads=config.heads, dropout=config.dropout)
            for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(width, eps=_EPS)
        self._initialise()

    def _initialise(self) -> None:
        for parameter in (self.cls_token, self.pos_embed):
            nn.init.trunc_normal_(parameter, std=0.02)
        for module in self.blocks.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, images: Tensor, pixels: Tensor) -> ImageGrid:
        """Encode regions.

        Parameters
        ----------
        images
            (B,3,H,W) RGB in [0, 1]; H and W at most `image_px`, need not be multiples
            of the patch.
        pixels
            (B,H,W) bool, True for real pixels.

        Returns
        -------
        ImageGrid

        Raises
        ------
        BatchError
            If an image exceeds the model's, or holds no whole patch.
        """
        self._check_size(images)
        images, pixels = self.on_whole_patches(images, pixels)
        mask = _wholly_real(pixels, self.config.patch_px)
        _check_real(mask, self.config.patch_px)
        x, grid = self.embed(images, pixels)
        keys = F.pad(mask, (1, 0), value=True)  # the class token is always real
        needed = None if bool(keys.all()) else keys  # without a mask attention is fast
        taps: dict[int, Tensor] = {}
        for depth, block in enumerate(self.blocks, start=1):
            x = block(x, needed)
            if depth in self.tap_depths:
                taps[depth] = x[:, 1:]
        x = self.norm(x)
        kept = tuple(taps[depth] for depth in self.tap_depths)
        return ImageGrid(x[:, 1:], mask, grid, x[:, 0], kept, pixels)

    def on_whole_patches(self, images: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Pad (B,3,H,W) and (B,H,W) at the bottom and right to whole patches."""
        patch = self.config.patch_px
        below, right = -images.shape[-2] % patch, -images.shape[-1] % patch
        border = (0, right, 0, below)
        return F.pad(images, border), F.pad(pixels, border, value=False)

    def embed(self, images: Tensor, pixels: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Class token and embedded patches (B,1+N,D) before any layer, and (h,w)."""
        mean, std = self.pixel_mean[:, None, None], self.pixel_std[:, None, None]
        seen = torch.where(pixels[:, None], (images - mean) / std, 0)
        x = self.patch_embed(seen)
        grid = (x.shape[-2], x.shape[-1])
        x = x.flatten(2).transpose(1, 2) + self.positions(grid)
        first = (self.cls_token + self.pos_embed[:, :1]).expand(len(x), -1, -1)
        return torch.cat([first.to(x.dtype), x], dim=1), grid

    def positions(self, grid: tuple[int, int]) -> Tensor:
        """Positions (1,h w,D) of the top left h x w patches."""
        side = self.config.side
        whole = self.pos_embed[:, 1:].reshape(1, side, side, -1)
        return whole[:, : grid[0], : grid[1]].flatten(1, 2)

    def _check_size(self, images: Tensor) -> None:
        height, width = images.shape[-2:]
        if max(height, width) > self.config.image_px:
            raise BatchError(
                f"The batch has images of {height} x {width} pixels, the model sees "
                f"at most {self.config.image_px}: cut them into tiles (tiling.py)."
            )


class Block(nn.Module):
    """x + attention(LN x), then x + MLP(LN x)."""

    def __init__(self, width: int, *, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=_EPS)
        self.attn = SelfAttention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=_EPS)
        self.mlp = Mlp(width, dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, keys: Tensor | None) -> Tensor:
        """Tokens (B,T,D) to tokens; `keys` (B,T) True for real ones, None if all."""
        x = x + self.dropout(self.attn(self.norm1(x), keys))
        mixed: Tensor = x + self.dropout(self.mlp(self.norm2(x)))
        return mixed


class SelfAttention(nn.Module):
    """Multi-head self-attention with one joint projection, as timm lays it out."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, keys: Tensor | None) -> Tensor:
        """Attend over tokens (B,T,D), only to those of `keys` (B,T)."""
        parts = self.qkv(x).reshape(*x.shape[:2], 3, self.heads, -1)  # (B,T,3,H,d)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        seen = None if keys is None else keys[:, None, None]
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=seen)
        out: Tensor = self.proj(mixed.transpose(1, 2).flatten(2))
        return out


class Mlp(nn.Module):
    """Linear, GELU, Linear, four times as wide inside."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, _FEEDFORWARD * width)
        self.dropout = nn.Dropout(dropout)
        self.fc2 = nn.Linear(_FEEDFORWARD * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (B,T,D) to tokens (B,T,D)."""
        out: Tensor = self.fc2(self.dropout(F.gelu(self.fc1(x))))
        return out


def tap_depths(depth: int) -> tuple[int, int, int]:
    """Layers after which tokens are tapped: 1/4, 1/2, 3/4 of the depth, rounded up."""
    first, second, third = (-(-depth * quarter // 4) for quarter in (1, 2, 3))
    return first, second, third


def _wholly_real(pixels: Tensor, patch: int) -> Tensor:
    """(B,H,W) real pixels to (B,N) patches without a padded pixel."""
    batch, height, width = pixels.shape
    cut = pixels.reshape(batch, height // patch, patch, width // patch, patch)
    return cut.all(4).all(2).flatten(1)


def _check_real(mask: Tensor, patch: int) -> None:
    empty = ~mask.any(1)
    if bool(empty.any()):
        raise BatchError(
            f"{int(empty.sum())} of {len(mask)} regions hold no whole patch of "
            f"{patch} x {patch} real pixels: leave them out or cut larger regions."
        )
