"""Regions and profiles as training sees them: turned, re-stained, disturbed (mgi C).

Every draw comes from the generator that is handed in.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from gimp_models.errors import ConfigError
from gimp_models.masking import drop_genes
from gimp_models.region import UNKNOWN, RegionBatch

__all__ = ["Augmentation", "disturb_genes", "jitter_stain", "turn_regions"]

# Optical density (R, G, B) of haematoxylin, eosin and DAB, the last as the residual of
# the first two: Ruifrok and Johnston, Anal. Quant. Cytol. Histol. 23 (2001).
_STAINS = ((0.650, 0.704, 0.286), (0.072, 0.990, 0.105), (0.268, 0.570, 0.776))
_DARKEST = 1 / 255  # the logarithm of black


@dataclass(frozen=True, slots=True)
class Augmentation:
    """What is done to a batch of regions before a training step.

    Parameters
    ----------
    turn
        Flip and turn by right angles, each of the eight ways equally likely.
    stain
        Largest change of a stain: its amount is multiplied by 1 +- stain and shifted
        by +- stain (optical density). 0 for images that are not stained.
    gene_dropout
        Probability that a gene is set to its training mean.
    gene_noise
        Standard deviation of the noise added to z-scores.

    Raises
    ------
    ConfigError
        If a rate is not in [0, 1), or a strength is negative.
    """

    turn: bool = True
    stain: float = 0.05
    gene_dropout: float = 0.2
    gene_noise: float = 0.1

    def __post_init__(self) -> None:
        for name in ("stain", "gene_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(
                    f"The augmentation's {name} is {getattr(self, name):g}, it must be "
                    "at least 0 and below 1; 0 switches it off."
                )
        if self.gene_noise < 0:
            raise ConfigError(
                f"The augmentation's gene_noise is {self.gene_noise:g}, it must be at "
                "least 0; 0 switches it off."
            )

    def __call__(self, batch: RegionBatch, generator: torch.Generator) -> RegionBatch:
        """Return the batch as this step of training sees it."""
        if self.turn:
            batch = turn_regions(batch, generator)
        if self.stain:
            batch = jitter_stain(batch, self.stain, generator)
        return disturb_genes(batch, self.gene_dropout, self.gene_noise, generator)

    def __str__(self) -> str:
        turned = "flips and right-angle turns" if self.turn else "no turns"
        return (
            f"{turned}, stain jitter {self.stain:g}, gene dropout "
            f"{self.gene_dropout:g}, gene noise {self.gene_noise:g}"
        )


def turn_regions(batch: RegionBatch, generator: torch.Generator) -> RegionBatch:
    """Flip and turn each region in one of the eight ways, image and mask together.

    Parameters
    ----------
    batch
        Regions (B,3,H,W). The real pixels of one are turned within their own
        rectangle, so that padding stays at the bottom and the right.
    generator
        Draws one of eight ways per region.

    Returns
    -------
    RegionBatch
        Padded to the largest region after the turns.
    """
    drawn = torch.randint(8, (len(batch),), generator=generator, device=_at(generator))
    ways = drawn.tolist()
    sizes = _sizes(batch.pixels)
    turned = [
        size[::-1] if way % 2 else size for way, size in zip(ways, sizes, strict=True)
    ]
    canvas = max(h for h, _ in turned), max(w for _, w in turned)

    def every(field: Tensor, value: float) -> Tensor:
        rows = zip(field, ways, sizes, strict=True)
        return torch.stack(
            [_pad(_turn(x[..., :h, :w], way), canvas, value) for x, way, (h, w) in rows]
        )

    return replace(
        batch,
        images=every(batch.images, 0),
        pixels=every(batch.pixels, 0),
        masks=None if batch.masks is None else every(batch.masks, UNKNOWN),
    )


def jitter_stain(
    batch: RegionBatch, strength: float, generator: torch.Generator
) -> RegionBatch:
    """Change the amount of each stain of each region.

    The image is split into haematoxylin, eosin and a residual by colour
    deconvolution; each is multiplied by 1 + U(-s, s) and shifted by U(-s, s) (Tellez
    et al., IEEE TMI 37, 2018).

    Parameters
    ----------
    batch
        Regions (B,3,H,W) in [0, 1].
    strength
        s; 0 leaves the image as it is, but for black.
    generator
        Draws two numbers per stain and region.

    Returns
    -------
    RegionBatch
        Images in [0, 1], 0 where padded.
    """
    drawn = torch.rand(
        (2, len(batch), 3, 1, 1), generator=generator, device=_at(generator)
    )
    factor, shift = (strength * (2 * drawn - 1)).to(batch.images)
    stains = torch.tensor(_STAINS, dtype=torch.float64)
    mixing = F.normalize(stains, dim=1)
    density = -batch.images.clamp_min(_DARKEST).log()
    amount = _colours(density, mixing.inverse()) * (1 + factor) + shift
    seen = (-_colours(amount, mixing)).exp().clamp(0, 1)
    return replace(batch, images=seen * batch.pixels[:, None])


def disturb_genes(
    batch: RegionBatch, dropout: float, noise: float, generator: torch.Generator
) -> RegionBatch:
    """Add noise to z-scores and set some of them to the training mean, 0.

    Regions without a profile keep theirs at the mean, or have none.

    Parameters
    ----------
    batch
        Regions with profiles (B,G), or None.
    dropout
        Probability per gene and region.
    noise
        Standard deviation, in those of the training cohort.
    generator
        Draws both.
    """
    if batch.genes is None:
        return batch
    drawn = torch.randn(batch.genes.shape, generator=generator, device=_at(generator))
    noisy = batch.genes + noise * drawn.to(batch.genes)
    kept = drop_genes(noisy, dropout, generator=generator)
    return replace(batch, genes=kept * batch.has_genes[:, None])


def _at(generator: torch.Generator) -> torch.device:
    return generator.device


def _sizes(pixels: Tensor) -> list[tuple[int, int]]:
    """Height and width of the rectangle that holds each region's real pixels."""
    down, across = pixels.any(2), pixels.any(1)  # (B,H), (B,W)
    return list(zip(_last(down), _last(across), strict=True))


def _last(real: Tensor) -> list[int]:
    count = torch.arange(1, real.shape[1] + 1, device=real.device)
    lengths: list[int] = (real * count).amax(1).tolist()
    return lengths


def _turn(x: Tensor, way: int) -> Tensor:
    """One of the eight ways: `way % 4` right angles, mirrored from 4 on."""
    turned = torch.rot90(x, way % 4, (-2, -1))
    return turned.flip(-1) if way >= 4 else turned


def _pad(x: Tensor, canvas: tuple[int, int], value: float) -> Tensor:
    below, right = canvas[0] - x.shape[-2], canvas[1] - x.shape[-1]
    return F.pad(x, (0, right, 0, below), value=value)


def _colours(images: Tensor, matrix: Tensor) -> Tensor:
    """Multiply the channels (B,3,H,W) of every pixel, as a row, by a matrix (3,3)."""
    # Not a matrix product, which autocast would run in bf16.
    return (images[:, :, None] * matrix.to(images)[..., None, None]).sum(1)
