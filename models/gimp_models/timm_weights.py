"""Weights for MGI's image encoder from any plain ViT of timm (spec A).

timm is not needed for anything else and is imported here only. What a source
computes beyond a plain ViT (register tokens, normalised queries) has no place in
ours; the report says what was left out and whether the patch tokens are still the
source's own.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gimp_models.errors import ConfigError, GimpError
from gimp_models.vit import ViT

__all__ = ["TakenWeights", "load_timm"]

_HEADS = ("head.", "fc_norm.", "attn_pool.", "head_dist.")  # behind the patch tokens
_SAID = 4  # names an error message lists
_ACT = "activation of the MLP"


@dataclass(frozen=True, slots=True)
class TakenWeights:
    """What a source gave.

    Parameters
    ----------
    source
        Name of the source.
    taken
        Our parameters that hold the source's values.
    fresh
        Our parameters the source has no values for; they are as they were.
    left_out
        The source's parameters that have no place in ours.
    positions
        Patches along the sides of the source's images and of ours; where they differ,
        positions were interpolated (bicubic).
    patch_px
        Side of the source's patches and of ours; where they differ, the embedding was
        resampled so that an enlarged patch is embedded as the patch was.
    """

    source: str
    taken: tuple[str, ...]
    fresh: tuple[str, ...]
    left_out: tuple[str, ...]
    positions: tuple[tuple[int, int], tuple[int, int]]
    patch_px: tuple[int, int]

    @property
    def exact(self) -> bool:
        """Whether patch tokens of an image of the source's size are the source's."""
        inside = [name for name in self.left_out if not name.startswith(_HEADS)]
        pairs = (self.positions, self.patch_px)
        return not (self.fresh or inside) and all(a == b for a, b in pairs)


def load_timm(
    vit: ViT, name_or_model: str | nn.Module, *, pretrained: bool = True
) -> TakenWeights:
    """Copy a timm ViT's weights into ours.

    LayerScale is multiplied into the projections it follows, and the colours the
    source was trained on become `pixel_mean` and `pixel_std`.

    Parameters
    ----------
    vit
        Changed in place.
    name_or_model
        A name of `timm.list_models("vit*")`, or the model itself.
    pretrained
        With a name: fetch timm's pretrained weights, which may need the network.

    Returns
    -------
    TakenWeights

    Raises
    ------
    GimpError
        If timm cannot be imported, or has no such model or weights at hand.
    ConfigError
        If the source's width, depth, heads or activation are not ours.
    """
    source = name_or_model
    if isinstance(source, str):
        source = _create(source, pretrained=pretrained)
    _check_sizes(vit, source)
    grid, side = _source_grid(source), vit.config.side
    given = _in_our_names(source, vit)
    own = vit.state_dict()
    taken = {name: value for name, value in given.items() if name in own}
    _check_shapes(taken, own)
    vit.load_state_dict(taken, strict=False)
    return TakenWeights(
        source=_name(name_or_model),
        taken=tuple(taken),
        fresh=tuple(name for name in own if name not in taken),
        left_out=tuple(name for name in given if name not in own),
        positions=(grid, (side, side)),
        patch_px=(_source_patch(source), vit.config.patch_px),
    )


def _create(name: str, *, pretrained: bool) -> nn.Module:
    try:
        timm = importlib.import_module("timm")
    except (ImportError, RuntimeError) as error:  # Runtime: torchvision's operators
        raise GimpError(
            f"The weights of {name!r} need timm, which does not load here ({error}): "
            "install timm with a torchvision made for this torch."
        ) from error
    try:
        model: nn.Module = timm.create_model(name, pretrained=pretrained)
    except (OSError, RuntimeError) as error:  # no network; no such model
        raise GimpError(
            f"timm gives no weights of {name!r} ({error}): check the name against "
            "timm.list_models('vit*') and the network, or hand in a timm model that "
            "holds its weights."
        ) from error
    return model


def _name(name_or_model: str | nn.Module) -> str:
    if isinstance(name_or_model, str):
        return name_or_model
    settings = getattr(name_or_model, "pretrained_cfg", None) or {}
    return str(settings.get("architecture") or type(name_or_model).__name__)


def _check_sizes(vit: ViT, source: Any) -> None:
    """Refuse a source that is no ViT, or whose sizes are not the config's."""
    if not (hasattr(source, "blocks") and hasattr(source, "pos_embed")):
        raise ConfigError(
            f"{_name(source)} is no vision transformer of timm: choose one of "
            "timm.list_models('vit*')."
        )
    config, first = vit.config, source.blocks[0]
    ours_theirs = {
        "width": (config.width, source.patch_embed.proj.out_channels),
        "depth": (config.depth, len(source.blocks)),
        "heads": (config.heads, first.attn.num_heads),
        _ACT: ("exact GELU", _activation(getattr(first.mlp, "act", None))),
    }
    differing = [
        f"{what} {theirs} instead of {ours}"
        for what, (ours, theirs) in ours_theirs.items()
        if ours != theirs
    ]
    if differing:
        raise ConfigError(
            f"The timm model has {', '.join(differing)}: build MGI with the timm "
            "model's sizes, or choose a ViT of MGI's."
        )


def _activation(act: nn.Module | None) -> str:
    exact = isinstance(act, nn.GELU) and act.approximate == "none"
    return "exact GELU" if exact else type(act).__name__


def _check_shapes(taken: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    """Refuse what has our name but not our shape, as a gated MLP has."""
    wrong = [
        f"{name} {tuple(value.shape)} instead of {tuple(own[name].shape)}"
        for name, value in taken.items()
        if value.shape != own[name].shape
    ]
    if wrong:
        raise ConfigError(
            f"{len(wrong)} weights of the timm model do not fit, so "
            f"{'; '.join(wrong[:_SAID])}: choose a plain ViT with an MLP of 4 widths."
        )


def _source_grid(source: Any) -> tuple[int, int]:
    height, width = source.patch_embed.grid_size
    return int(height), int(width)


def _source_patch(source: Any) -> int:
    return int(source.patch_embed.proj.kernel_size[0])


def _in_our_names(source: Any, vit: ViT) -> dict[str, Tensor]:
    """Return all the source has to give, under our names where we have one."""
    state: dict[str, Tensor] = dict(source.state_dict())
    _fold_layer_scale(state)
    _add_absent_biases(state, len(source.blocks))
    if "pos_embed" in state:
        grid, side = _source_grid(source), vit.config.side
        state["pos_embed"] = _resample(state["pos_embed"], grid, side)
    if (theirs := _source_patch(source)) != (ours := vit.config.patch_px):
        enlarge = _enlarge(theirs, ours)
        kernel = state["patch_embed.proj.weight"]
        state["patch_embed.proj.weight"] = _resample_kernel(kernel, enlarge)
    state.update(_colours(source))
    return {
        name.replace("patch_embed.proj.", "patch_embed."): value
        for name, value in state.items()
    }


def _fold_layer_scale(state: dict[str, Tensor]) -> None:
    """Fold it in: gamma * (W x + b) = (gamma W) x + gamma b."""
    for name in [name for name in state if name.endswith(("ls1.gamma", "ls2.gamma"))]:
        block, scale, _ = name.rsplit(".", 2)
        last = f"{block}.attn.proj" if scale == "ls1" else f"{block}.mlp.fc2"
        gamma = state.pop(name)
        state[f"{last}.weight"] = state[f"{last}.weight"] * gamma[:, None]
        state[f"{last}.bias"] = state[f"{last}.bias"] * gamma


def _add_absent_biases(state: dict[str, Tensor], depth: int) -> None:
    """Give a projection without bias one of zeros, which is the same."""
    layers = [f"blocks.{block}.attn.qkv" for block in range(depth)]
    for layer in [*layers, "patch_embed.proj"]:
        weight = state.get(f"{layer}.weight")
        if weight is not None:
            state.setdefault(f"{layer}.bias", weight.new_zeros(len(weight)))


def _resample(positions: Tensor, grid: tuple[int, int], side: int) -> Tensor:
    """Positions (1,p+h w,D) of class and other tokens and patches to (1,1+side^2,D).

    Bicubic with antialiasing, as timm does when an image's size changes. Where the
    class token has no position of its own, it is zero.
    """
    own = positions.shape[1] - grid[0] * grid[1]
    first = positions[:, :1] if own else torch.zeros_like(positions[:, :1])
    patches = positions[:, own:]
    if grid != (side, side):
        image = patches.reshape(1, *grid, -1).permute(0, 3, 1, 2)
        image = F.interpolate(image, (side, side), mode="bicubic", antialias=True)
        patches = image.permute(0, 2, 3, 1).flatten(1, 2)
    return torch.cat([first, patches], dim=1)


def _enlarge(old: int, new: int) -> Tensor:
    """Matrix (new^2,old^2) float64 that resizes a patch of pixels, bicubic."""
    every = torch.eye(old**2, dtype=torch.float64).reshape(-1, 1, old, old)
    resized = F.interpolate(every, (new, new), mode="bicubic", antialias=True)
    return resized.flatten(1).T


def _resample_kernel(kernel: Tensor, enlarge: Tensor) -> Tensor:
    """Kernel (D,3,p,p) for patches of another size (FlexiViT, Beyer et al. 2023).

    The best in the least squares' sense: an enlarged patch is embedded exactly as
    the patch was.
    """
    new = round(len(enlarge) ** 0.5)
    inverse: Tensor = torch.linalg.pinv(enlarge.T).to(kernel)
    return (kernel.flatten(2) @ inverse.T).reshape(*kernel.shape[:2], new, new)


def _colours(source: Any) -> dict[str, Tensor]:
    settings = getattr(source, "pretrained_cfg", None) or {}
    names = {"pixel_mean": "mean", "pixel_std": "std"}
    return {
        ours: torch.tensor(settings[theirs])
        for ours, theirs in names.items()
        if theirs in settings
    }
