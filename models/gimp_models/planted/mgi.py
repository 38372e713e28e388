"""Regions whose tumour shape is written in the genes and hardly in the image.

A tumour is a ring around a small dark nest of cells. Its outer radius and how hollow
it is differ between patients, and a module of 25 genes follows each of the two. The
image shows the nest clearly, but the ring only by a faint shade that drowns in the
noise of single pixels. So a model that reads the genes can draw the outline, and one
that is given another patient's genes draws the wrong one. The shape looks the same
from all sides: turning a region leaves its genes true.

A third module follows the tint of the tissue, which says nothing about the shape: by
it an image and a profile can be matched. All other genes are noise. A module is a run
of neighbours in the panel, as co-regulated genes are where a panel is in order of
place or pathway.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gimp_models.errors import ConfigError
from gimp_models.region import Region

__all__ = ["PlantedRegions", "planted_regions"]

_TISSUE = (0.86, 0.66, 0.80)  # RGB of eosinophilic background
_NEST = (0.42, 0.30, 0.58)  # RGB of crowded nuclei
_SHADE = (0.5, 1.0, 0.6)  # how a tumour darkens red, green, blue
_TINT = (0.10, -0.06, -0.14)  # RGB between a mean and the reddest tissue
_NEST_RADIUS = 0.06  # of the side
_RADIUS = 0.12, 0.38  # smallest and largest tumour, of the side
_HOLLOW = 0.8  # largest inner radius over the outer one
_LOADING = 0.8  # correlation of a module's gene with what it follows


@dataclass(frozen=True, slots=True, eq=False)
class PlantedRegions:
    """The truth that the regions are made from.

    Parameters
    ----------
    modules
        (3,G) bool: the genes that follow size, hollow, and tint.
    side_px
        Side of a region in pixels.
    contrast
        Darkening of the tumour, as a fraction of white.
    noise
        Standard deviation of a pixel, likewise.
    """

    modules: Tensor
    side_px: int
    contrast: float
    noise: float

    @property
    def drivers(self) -> Tensor:
        """(G,) bool, True for the genes that the shape depends on."""
        return self.modules[:2].any(0)

    def cohort(self, patients: int, *, seed: int) -> list[Region]:
        """Draw one region of each of several patients, with profile and mask."""
        g = torch.Generator().manual_seed(seed)
        return [self._region(f"patient {i}", g) for i in range(patients)]

    def _region(self, patient: str, g: torch.Generator) -> Region:
        latent = 2 * torch.rand(3, generator=g) - 1  # size, hollow, tint: -1 to 1
        size, hollow = ((latent[:2] + 1) / 2).tolist()
        centre = 0.5 + 0.2 * (torch.rand(2, generator=g) - 0.5)
        outer = _RADIUS[0] + (_RADIUS[1] - _RADIUS[0]) * size
        tumour = self._disk(centre, outer) & ~self._disk(
            centre, outer * _HOLLOW * hollow
        )
        nest = self._disk(centre, _NEST_RADIUS)
        return Region(
            image=self._paint(tumour, nest, latent[2], g),
            genes=self._profile(latent, g),
            mask=tumour.long(),
            patient=patient,
        )

    def _disk(self, centre: Tensor, radius: float) -> Tensor:
        """(H,W) bool; centre (y, x) and radius as fractions of the side."""
        place = (torch.arange(self.side_px) + 0.5) / self.side_px
        cells = torch.cartesian_prod(place, place)
        inside: Tensor = (cells - centre).norm(dim=1) <= radius
        return inside.view(self.side_px, self.side_px)

    def _paint(
        self, tumour: Tensor, nest: Tensor, tint: Tensor, g: torch.Generator
    ) -> Tensor:
        colours = torch.tensor([_TISSUE, _NEST, _SHADE, _TINT])[..., None, None]
        tissue, dark, shade, redder = colours
        tissue = tissue + tint * redder - self.contrast * shade * tumour
        image = torch.where(nest, dark, tissue)
        grain = self.noise * torch.randn(image.shape, generator=g)
        return (image + grain).clamp(0, 1)

    def _profile(self, latent: Tensor, g: torch.Generator) -> Tensor:
        """(G,) z-scores; a uniform variable on [-1, 1] has variance 1/3."""
        followed = (latent * 3**0.5) @ self.modules.float()
        noise = torch.randn(self.modules.shape[1], generator=g)
        alone = (1 - _LOADING**2) ** 0.5
        follows = self.modules.any(0)
        return torch.where(follows, _LOADING * followed + alone * noise, noise)


def planted_regions(
    *,
    genes: int = 2000,
    drivers: int = 50,
    side_px: int = 32,
    contrast: float = 0.02,
    noise: float = 0.1,
    seed: int = 2024,
) -> PlantedRegions:
    """Plant a truth: place three modules of genes in the panel.

    Parameters
    ----------
    genes
        G, size of the panel.
    drivers
        Genes that the shape depends on, an even number: half for the size and half
        for the hollow. The tint has as many as each of them.
    side_px, contrast, noise
        As in `PlantedRegions`.
    seed
        Of the modules' places.

    Raises
    ------
    ConfigError
        If three modules do not fit in the panel.
    """
    g = torch.Generator().manual_seed(seed)
    each = drivers // 2
    if not 0 < 3 * each <= genes:
        raise ConfigError(
            f"Three modules of {each} genes do not fit in a panel of {genes}: plant "
            "fewer drivers (at least 2), or take more genes."
        )
    slots = torch.randperm(genes // each, generator=g)[:3]
    modules = torch.zeros(3, genes, dtype=torch.bool)
    for module, slot in zip(modules, slots.tolist(), strict=True):
        module[slot * each : (slot + 1) * each] = True
    return PlantedRegions(modules, side_px, contrast, noise)
