"""Networks built by timm: by name, from local weights, or from a hub."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from napari_gimp.errors import EncoderError
from napari_gimp.patches.encoders.look import Look

if TYPE_CHECKING:
    from types import ModuleType

    import torch


def import_timm() -> ModuleType:
    """Return timm, or say in one sentence why it cannot be had.

    Raises
    ------
    EncoderError
        If timm is missing or does not fit the installed torch.
    """
    try:
        return importlib.import_module("timm")
    except ImportError as error:
        raise EncoderError(
            f"this encoder is built by timm, which is not installed ({error}); "
            "install it with: pip install timm"
        ) from error
    except RuntimeError as error:  # torchvision of another build than torch
        raise EncoderError(
            f"this encoder is built by timm, which cannot be imported here ({error}); "
            "install the torchvision that fits your torch: pip install --force-"
            "reinstall torchvision"
        ) from error


def build(
    architecture: str,
    arguments: Mapping[str, Any],
    tensors: Mapping[str, torch.Tensor],
) -> torch.nn.Module:
    """Return timm's `architecture` with given weights, in evaluation mode.

    A classifier's head in the weights is left out; every other name must fit.

    Raises
    ------
    EncoderError
        If timm is missing, the architecture unknown, or the weights do not fit.
    """
    timm = import_timm()
    try:
        network: torch.nn.Module = timm.create_model(
            architecture,
            pretrained=False,
            **with_layers({"num_classes": 0, **arguments}),
        )
        truncated = bool(arguments.get("features_only"))
        network.load_state_dict(_needed(tensors, network, truncated=truncated))
    except (RuntimeError, TypeError, ValueError) as error:
        raise EncoderError(
            f"the weights do not make timm's {architecture} with "
            f"{dict(arguments)} ({error}); mend architecture or model_args in the card"
        ) from error
    return network.eval()


def _needed(
    tensors: Mapping[str, torch.Tensor], network: torch.nn.Module, *, truncated: bool
) -> dict[str, torch.Tensor]:
    """Return the weights without a classifier's head and truncated-away stages."""
    known = network.state_dict()
    heads = ("head.", "fc.", "classifier.", "head_dist.")
    return {
        name: tensor
        for name, tensor in tensors.items()
        if name in known or not (truncated or name.startswith(heads))
    }


def fetch(model: str, arguments: Mapping[str, Any]) -> torch.nn.Module:
    """Return a pretrained network through timm's usual call, in evaluation mode.

    Raises
    ------
    EncoderError
        If timm is missing. What the hub refuses is raised as it comes.
    """
    timm = import_timm()
    network: torch.nn.Module = timm.create_model(
        model, pretrained=True, **with_layers(arguments)
    )
    return network.eval()


def default_look(network: torch.nn.Module, mpp: float) -> Look:
    """Return how timm's own settings of a network show it pixels."""
    settings = import_timm().data.resolve_model_data_config(network)
    return Look(
        settings["input_size"][-1],
        mpp,
        tuple(settings["mean"]),
        tuple(settings["std"]),
    )


def with_layers(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments with the layers that cards and presets name by a word."""
    import torch

    given = dict(arguments)
    words = {"SwiGLUPacked", "SiLU", "ConvStem"}.intersection(
        value for value in given.values() if isinstance(value, str)
    )
    if not words:
        return given
    from napari_gimp.patches.encoders.stem import ConvStem

    known = {
        "SwiGLUPacked": import_timm().layers.SwiGLUPacked,
        "SiLU": torch.nn.SiLU,
        "ConvStem": ConvStem,
    }
    return {k: known.get(v, v) if isinstance(v, str) else v for k, v in given.items()}
