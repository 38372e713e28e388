"""Pictures of an analysis: the slide, and patches as the model expected them.

A predicted feature is no picture, so it is shown twice: as the visible real patch
nearest to it (a retrieval), and as a low-resolution decoding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_gimp.explain.maps import Floats, percentile_ranks
from napari_gimp.explain.reconstruction import Hidden
from napari_gimp.explain.result import (
    HotPatch,
    Image,
    Overview,
    ReconstructionExample,
)
from napari_gimp.geometry import YX
from napari_gimp.patches.brightfield import overview_rgb, read_rgb

if TYPE_CHECKING:
    import torch
    from gimp_models.bag import Bag
    from gimp_models.decoder import PixelDecoder
    from gimp_models.gimp import Gimp
    from torch import Tensor

    from napari_gimp.patches.grid import PatchGrid
    from napari_gimp.slide.source import SlideSource

OVERVIEW_PX = 2400
"""Longer side of the slide's overview, px."""
PATCH_PX = 128
"""Side of a real patch as shown, px."""
AROUND = (2, 4, 8, 16, 32, 64)
"""How many patches the surroundings may show on each side, nearest view first."""
SEEN = 0.25
"""Least part of the patches in view that was visible, else the view widens."""
AROUND_PX = 200
"""Side of the surroundings as shown, px."""
HOT = 5
"""Patches shown that speak most for, and most against, the class."""
RANKS = (2, 35, 65, 90, 97, 100)
"""Percentiles of the error from which examples are taken."""
GREY = 150
RIDGE_PATCHES = 400
"""Patches on which a missing decoder is fitted: reading them takes a second."""

Decode = Callable[["Tensor"], "Tensor"]


def overview_of(source: SlideSource) -> Overview:
    """Return the whole slide, `OVERVIEW_PX` on its longer side, never magnified."""
    (height, width), (my, mx) = source.levels[0].shape, source.mpp
    mpp = max(height * my / OVERVIEW_PX, width * mx / OVERVIEW_PX, my, mx)
    pixels, grid = overview_rgb(source, mpp)
    return Overview(np.ascontiguousarray(pixels), grid)


def gallery(
    model: Gimp,
    decoder: PixelDecoder | None,
    source: SlideSource,
    patches: PatchGrid,
    bag: Bag,
    hidden: Hidden,
) -> tuple[tuple[ReconstructionExample, ...], str]:
    """Return examples of the reconstruction, and where their decoding comes from."""
    from gimp_models.evidence import reconstruction_target

    decode, origin = pick_decoder(decoder, source, patches, bag.features)
    target = reconstruction_target(model, bag.features).cpu().numpy()
    return examples(source, patches, hidden, target, decode), origin


def hot_patches(
    source: SlideSource, patches: PatchGrid, contribution: Floats, k: int = HOT
) -> tuple[HotPatch, ...]:
    """Return up to k patches most for and k most against, from for to against.

    Parameters
    ----------
    contribution
        (N,) logit.
    """
    order = np.argsort(-contribution, kind="stable")
    most_for = [row for row in order[:k] if contribution[row] > 0]
    against = [row for row in order[-k:] if contribution[row] < 0]
    return tuple(
        HotPatch(
            int(row),
            (float(patches.coords_um[row, 0]), float(patches.coords_um[row, 1])),
            float(contribution[row]),
            _picture(source, patches, int(row)),
        )
        for row in [*most_for, *against]
    )


def pick(error: Floats, ranks: tuple[int, ...] = RANKS) -> list[int]:
    """Return the patches at some percentiles of the error, each once."""
    order = np.argsort(error, kind="stable")
    places = [round(rank / 100 * (len(error) - 1)) for rank in ranks]
    return [int(order[place]) for place in dict.fromkeys(places)]


def examples(
    source: SlideSource,
    patches: PatchGrid,
    hidden: Hidden,
    target: Floats,
    decode: Decode,
) -> tuple[ReconstructionExample, ...]:
    """Return patches from the least to the most unexpected, with their pictures.

    Parameters
    ----------
    source
        The slide.
    patches
        Its N patches.
    hidden
        All of them reconstructed.
    target
        (N, P) true features on the scale of the prediction.
    decode
        Features (B, P) to pictures (B, 32, 32, 3) in 0..1.
    """
    chosen = pick(hidden.error)
    decoded = _decoded(decode, hidden.predicted[chosen])
    ranks = percentile_ranks(hidden.error)
    return tuple(
        _example(source, patches, hidden, target, row, picture, float(ranks[row]))
        for row, picture in zip(chosen, decoded, strict=True)
    )


def _example(
    source: SlideSource,
    patches: PatchGrid,
    hidden: Hidden,
    target: Floats,
    row: int,
    decoded: Image,
    percentile: float,
) -> ReconstructionExample:
    near = nearest_visible(hidden, target, row)
    y, x = patches.coords_um[row].tolist()
    return ReconstructionExample(
        patch=row,
        center_um=(y, x),
        error=float(hidden.error[row]),
        percentile=percentile,
        real=_picture(source, patches, row),
        masked=surroundings(source, patches, hidden.block, row),
        retrieved=_picture(source, patches, near),
        retrieved_patch=near,
        decoded=decoded,
    )


def nearest_visible(hidden: Hidden, target: Floats, row: int) -> int:
    """Return the patch most like the prediction among those not hidden with it.

    Where a block hides the whole bag, all other patches are candidates.
    """
    guess = hidden.predicted[row]
    known = target / np.linalg.norm(target, axis=1, keepdims=True).clip(1e-12)
    likeness = known @ guess
    seen = hidden.block != hidden.block[row]
    if not seen.any():
        seen = np.arange(len(target)) != row
    return int(np.argmax(np.where(seen, likeness, -np.inf))) if seen.any() else row


def surroundings(
    source: SlideSource, patches: PatchGrid, block: NDArray[np.int64], row: int
) -> Image:
    """Return what was visible around a hidden patch (200, 200, 3); hidden is grey.

    The patch itself is framed. A block may hide half of a slide, so the view is as
    near as it can be while showing something that was visible.
    """
    around = _how_far(patches, block, row)
    cell_px = AROUND_PX / (2 * around + 1)
    corner = patches.coords_um[row] - (around + 0.5) * patches.patch_um
    pixels = _read(source, tuple(corner), AROUND_PX, patches.patch_um / cell_px)
    hidden = patches.corners_um[block == block[row]]
    for top, left in (hidden - corner) / patches.patch_um * cell_px:
        _box(pixels, top, left, cell_px)[:] = GREY
    _frame(pixels, cell_px)
    return pixels


def _how_far(patches: PatchGrid, block: NDArray[np.int64], row: int) -> int:
    """Return the patches on each side at which enough of the view was visible."""
    away = np.abs(patches.coords_um - patches.coords_um[row]).max(axis=1)
    seen = block != block[row]
    for around in AROUND:
        near = away < (around + 0.5) * patches.patch_um
        if seen[near].mean() >= SEEN:
            return around
    return AROUND[0]


def _box(pixels: Image, top: float, left: float, side: float) -> Image:
    """Return the view of a square, cut off at the picture's edge."""
    rows = slice(max(round(top), 0), max(round(top + side), 0))
    return pixels[rows, max(round(left), 0) : max(round(left + side), 0)]


def _frame(pixels: Image, cell_px: float, width: int = 2) -> None:
    """Draw a dark frame around the patch in the middle, at least 10 px wide."""
    side = max(cell_px, 10)
    start = (len(pixels) - side) / 2
    inner = _box(pixels, start, start, side).copy()
    _box(pixels, start - width, start - width, side + 2 * width)[:] = 20
    _box(pixels, start, start, side)[:] = inner


def _picture(source: SlideSource, patches: PatchGrid, row: int) -> Image:
    corner = patches.corners_um[row]
    return _read(source, tuple(corner), PATCH_PX, patches.patch_um / PATCH_PX)


def _read(source: SlideSource, corner_um: YX, side_px: int, mpp: float) -> Image:
    y, x = map(float, corner_um)
    return np.array(read_rgb(source, y, x, (side_px, side_px), mpp))


def pick_decoder(
    decoder: PixelDecoder | None,
    source: SlideSource,
    patches: PatchGrid,
    features: Tensor,
) -> tuple[Decode, str]:
    """Return a decoder and where it comes from.

    Parameters
    ----------
    decoder
        The checkpoint's; None fits one on this slide in closed form.
    source, patches, features
        The slide, its N patches and their features (N, P).
    """
    if decoder is not None:
        return decoder, "by the model's decoder"
    import torch
    from gimp_models.decoder import SIDE_PX, RidgeDecoder

    rows = np.unique(
        np.linspace(0, len(patches) - 1, RIDGE_PATCHES).round().astype(int)
    )
    corners, mpp = patches.corners_um[rows], patches.patch_um / SIDE_PX
    pictures = np.stack([_read(source, tuple(c), SIDE_PX, mpp) for c in corners])
    thumbnails = torch.from_numpy(pictures).to(features.device).float() / 255
    ridge = RidgeDecoder.fit(features[torch.from_numpy(rows)], thumbnails)
    return ridge, "fitted on this slide (ridge regression)"


def _decoded(decode: Decode, predicted: Floats) -> NDArray[np.uint8]:
    """Return pictures (B, 32, 32, 3) uint8 of predicted features (B, P)."""
    import torch

    device = _device_of(decode)
    with torch.no_grad():
        pictures = decode(torch.from_numpy(predicted).to(device))
    pixels = (pictures.clamp(0, 1) * 255).round().to(torch.uint8)
    return np.asarray(pixels.cpu().numpy(), dtype=np.uint8)


def _device_of(decode: Decode) -> torch.device:
    import torch

    if isinstance(decode, torch.nn.Module):
        return next(decode.parameters()).device
    weight = getattr(decode, "weight", None)
    return weight.device if isinstance(weight, torch.Tensor) else torch.device("cpu")
