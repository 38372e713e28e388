"""What an encoder learns from: two views of a tile, and a loss that pairs them.

A view is a random crop, turn and mirror image of a tile, its stains stronger or
weaker, sometimes blurred. Stains are varied in optical density, where they add
up. Shapes: B tiles, S = tile side, H = view side, D = projection.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

STAINS = ((0.65, 0.70, 0.29), (0.07, 0.99, 0.11), (0.27, 0.57, 0.78))
"""Haematoxylin, eosin, rest: optical density per RGB (Ruifrok and Johnston 2001)."""


@dataclass(frozen=True, slots=True)
class ViewPlan:
    """How strongly views differ.

    Parameters
    ----------
    side_px
        Side of a view.
    scales
        Smallest and largest side of a crop, as a fraction of the view's side: 1 keeps
        um/px. Nuclear size is a sign of disease, so the range is narrow.
    stain
        Largest relative change of a stain's amount.
    shift
        Largest change of a stain's amount where there is none, in optical density.
    gain
        Largest relative change of each colour channel's light.
    blur
        Fraction of views that are blurred, by up to 1.2 px.
    """

    side_px: int = 96
    scales: tuple[float, float] = (0.6, 1.2)
    stain: float = 0.35
    shift: float = 0.04
    gain: float = 0.06
    blur: float = 0.4


def make_view(tiles: Tensor, plan: ViewPlan, generator: torch.Generator) -> Tensor:
    """Return a random view (B,3,H,H) in 0..1 of tiles (B,3,S,S) in 0..1."""
    view = F.grid_sample(
        tiles,
        _places(len(tiles), tiles.shape[-1], plan, generator),
        mode="bilinear",
        padding_mode="reflection",
        align_corners=False,
    )
    return _soften(_restain(view, plan, generator), plan, generator)


def paired_loss(a: Tensor, b: Tensor, *, temperature: float) -> Tensor:
    """Return NT-Xent (SimCLR, Chen et al. 2020, eq. 1) of paired rows (B,D).

    Each row should find its partner among the 2 B - 1 others by cosine similarity.
    """
    rows = F.normalize(torch.cat([a, b]).float(), dim=1)
    scores = rows @ rows.T / temperature
    scores.fill_diagonal_(-torch.inf)
    count = len(a)
    partner = torch.arange(2 * count, device=a.device).roll(count)
    return F.cross_entropy(scores, partner)


def _places(
    count: int, tile_px: int, plan: ViewPlan, generator: torch.Generator
) -> Tensor:
    """Return sampling grids (B,H,H,2): a random place, scale, angle and mirror."""
    ratio = plan.side_px / tile_px
    low, high = (math.log(s) for s in plan.scales)
    scale = ratio * torch.exp(_between(low, high, count, generator))
    angle = _between(-math.pi, math.pi, count, generator)
    mirror = (torch.rand(count, generator=generator) < 0.5).float() * 2 - 1
    cos, sin = scale * torch.cos(angle), scale * torch.sin(angle)
    room = (1 - scale).clamp(min=0)[:, None]
    move = room * (torch.rand(count, 2, generator=generator) * 2 - 1)
    rows = torch.stack([cos * mirror, -sin, move[:, 0], sin * mirror, cos, move[:, 1]])
    shape = [count, 3, plan.side_px, plan.side_px]
    return F.affine_grid(rows.T.reshape(count, 2, 3), shape, align_corners=False)


def _restain(view: Tensor, plan: ViewPlan, generator: torch.Generator) -> Tensor:
    """Change the amount of each stain, and the light, per view."""
    count = len(view)
    stains = F.normalize(torch.tensor(STAINS), dim=1)
    amount = 1 + plan.stain * _between(-1, 1, count * 3, generator).view(count, 3)
    offset = plan.shift * _between(-1, 1, count * 3, generator).view(count, 3)
    gain = plan.gain * _between(-1, 1, count * 3, generator).view(count, 3)
    mixing = torch.linalg.inv(stains) @ (amount[:, :, None] * stains)
    density = -torch.log(view.clamp(min=1 / 255)).flatten(2)
    changed = mixing.mT @ density + (math.log(10) * (offset @ stains) + gain)[..., None]
    return torch.exp(-changed.clamp(min=0)).view_as(view)


def _soften(view: Tensor, plan: ViewPlan, generator: torch.Generator) -> Tensor:
    """Blur some of the views, all equally wide."""
    sigma = float(_between(0.4, 1.2, 1, generator))
    chosen = torch.rand(len(view), generator=generator) < plan.blur
    if not chosen.any():
        return view
    at = torch.arange(-3.0, 4.0)
    kernel = torch.exp(-0.5 * (at / sigma) ** 2)
    kernel = (kernel / kernel.sum()).expand(3, 1, -1)
    soft = F.conv2d(view[chosen], kernel[..., None, :], padding=(0, 3), groups=3)
    soft = F.conv2d(soft, kernel[..., :, None], padding=(3, 0), groups=3)
    out = view.clone()
    out[chosen] = soft
    return out


def _between(low: float, high: float, count: int, generator: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(count, generator=generator)
