"""The stem of CTransPath: convolutions where a Swin transformer has one projection.

Written from the paper's description (Wang et al., Medical Image Analysis 81, 102559,
2022): two 3 x 3 convolutions of stride 2, each with batch normalisation and ReLU, then
a 1 x 1 convolution. The names of the parameters are those of the published weights.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


class ConvStem(nn.Module):
    """(B,3,H,W) -> (B,H/4,W/4,D), in place of timm's PatchEmbed.

    Parameters
    ----------
    img_size, patch_size, in_chans, embed_dim, norm_layer
        As timm passes them; `patch_size` is 4.
    rest
        What else timm passes to a PatchEmbed; it does not apply here.
    """

    def __init__(
        self,
        img_size: int = 224,
        patch_size: int = 4,
        in_chans: int = 3,
        embed_dim: int = 96,
        norm_layer: Any = None,
        **rest: Any,
    ) -> None:
        super().__init__()
        side = img_size if isinstance(img_size, int) else img_size[0]
        self.grid_size = (side // patch_size, side // patch_size)
        self.num_patches = self.grid_size[0] * self.grid_size[1]
        eighth, quarter = embed_dim // 8, embed_dim // 4
        self.proj = nn.Sequential(
            nn.Conv2d(in_chans, eighth, 3, 2, 1, bias=False),
            nn.BatchNorm2d(eighth),
            nn.ReLU(),
            nn.Conv2d(eighth, quarter, 3, 2, 1, bias=False),
            nn.BatchNorm2d(quarter),
            nn.ReLU(),
            nn.Conv2d(quarter, embed_dim, 1),
        )
        self.norm = norm_layer(embed_dim) if norm_layer else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Return the tokens (B,H/4,W/4,D) of pixels (B,3,H,W)."""
        tokens: Tensor = self.norm(self.proj(x).permute(0, 2, 3, 1))
        return tokens
