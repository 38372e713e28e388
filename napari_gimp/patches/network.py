"""PatchNet: a small residual network that turns a patch into one feature vector.

Sized for a CPU: 0.08 G multiply-adds for 128 x 128 px, 0.5 M parameters. The feature
is the mean of every stage's map, not of the last alone: nuclear texture and stain
live in the first ones. Shapes: B patches, P features, H = W = 128 px at 1 um/px.
Plain torch; trained without labels by `napari_gimp.training.encoder`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

MEAN_RGB = (0.80, 0.65, 0.76)
SD_RGB = (0.16, 0.20, 0.15)
"""Centre and spread of stained tissue, so that the first layer sees unit scale."""


@dataclass(frozen=True, slots=True)
class PatchNetConfig:
    """Sizes of a PatchNet.

    Parameters
    ----------
    stem
        Channels after the first stride-2 convolution.
    widths
        Channels per stage; the first runs at stride 4, each next halves the side.
    depths
        Residual blocks per stage.

    Raises
    ------
    ValueError
        If widths and depths differ in number.
    """

    stem: int = 24
    widths: tuple[int, ...] = (32, 64, 96)
    depths: tuple[int, ...] = (1, 1, 2)

    def __post_init__(self) -> None:
        if len(self.widths) != len(self.depths) or not self.widths:
            raise ValueError(
                f"one depth per width is needed, got {self.widths} and {self.depths}"
            )

    @property
    def features(self) -> int:
        """P: the channels of all stages."""
        return sum(self.widths)


class ConvNorm(nn.Sequential):
    """3 x 3 convolution without bias, then batch normalisation."""

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1) -> None:
        conv = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        super().__init__(conv, nn.BatchNorm2d(outputs))


class Residual(nn.Module):
    """(B,C,h,w) -> (B,C,h,w): relu(x + two convolutions of x)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = ConvNorm(channels, channels)
        self.second = ConvNorm(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output, (B,C,h,w) like `x`."""
        return torch.relu(x + self.second(torch.relu(self.first(x))))


class Stage(nn.Sequential):
    """(B,C,h,w) -> (B,D,h/2,w/2): halve the side, then residual blocks."""

    def __init__(self, inputs: int, outputs: int, depth: int) -> None:
        blocks = [Residual(outputs) for _ in range(depth)]
        super().__init__(ConvNorm(inputs, outputs, stride=2), nn.ReLU(), *blocks)


class PatchNet(nn.Module):
    """Patches to features.

    The buffers `feature_mean` and `feature_sd` (P,) standardise the output; they are
    fitted on the training tiles after training and travel with the weights.
    """

    feature_mean: Tensor
    feature_sd: Tensor

    def __init__(self, config: PatchNetConfig) -> None:
        super().__init__()
        self.config = config
        self.stem = nn.Sequential(ConvNorm(3, config.stem, stride=2), nn.ReLU())
        inputs = (config.stem, *config.widths)
        self.stages = nn.ModuleList(
            Stage(*sizes)
            for sizes in zip(inputs, config.widths, config.depths, strict=False)
        )
        self.register_buffer("feature_mean", torch.zeros(config.features))
        self.register_buffer("feature_sd", torch.ones(config.features))

    def forward(self, x: Tensor) -> Tensor:
        """Return features (B,P) of pixels (B,3,H,W), RGB in 0..1."""
        return (self.pooled(x) - self.feature_mean) / self.feature_sd

    def pooled(self, x: Tensor) -> Tensor:
        """Return features (B,P) before standardisation; what training works on."""
        mean = x.new_tensor(MEAN_RGB).view(3, 1, 1)
        sd = x.new_tensor(SD_RGB).view(3, 1, 1)
        maps = self.stem((x - mean) / sd)
        means = []
        for stage in self.stages:
            maps = stage(maps)
            means.append(maps.mean((-2, -1)))
        return torch.cat(means, dim=1)


def fuse(network: PatchNet) -> PatchNet:
    """Fold each batch normalisation into its convolution, in place, for inference."""
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    network.eval()
    for module in list(network.modules()):
        if isinstance(module, ConvNorm) and len(module) == 2:
            conv, norm = module[0], module[1]
            assert isinstance(conv, nn.Conv2d)
            assert isinstance(norm, nn.BatchNorm2d)
            module[0], module[1] = fuse_conv_bn_eval(conv, norm), nn.Identity()
    return network
