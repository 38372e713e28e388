"""Presets: through their usual hub call, or from weights the user holds."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_gimp.errors import EncoderError
from napari_gimp.patches.encoders.archives import read_tensors
from napari_gimp.patches.encoders.module import ModuleEncoder, digest
from napari_gimp.patches.encoders.presets import PRESETS, Preset
from napari_gimp.patches.encoders.timm_models import build, default_look, fetch

if TYPE_CHECKING:
    import torch

TRUST = "NAPARI_GIMP_TRUST_REMOTE_CODE"
"""Environment variable: 1 lets the one preset that needs it run its hub's code."""


def load_preset(name: str, *, mpp: float | None = None) -> ModuleEncoder:
    """Return a preset through its usual hub call; the hub's client keeps a copy.

    Parameters
    ----------
    name
        One of `PRESETS`.
    mpp
        um/px to look at, if not the preset's own.

    Raises
    ------
    EncoderError
        If it cannot be had: no access, no network, no library.
    """
    preset = PRESETS[name]
    try:
        network = LOADERS[preset.loader](preset)
    except EncoderError as error:  # of ours: a library is missing, code is not trusted
        also = f"; {_ask(preset)}" if preset.gated else ""
        raise EncoderError(f"{error}{also}") from error
    except Exception as error:  # each hub client has its own classes of refusal
        raise EncoderError(_refusal(preset, error)) from error
    return _encoder(preset, network, mpp=mpp, given=name)


def load_preset_file(
    name: str, path: Path, *, mpp: float | None = None
) -> ModuleEncoder:
    """Return a preset from a local file of its published weights.

    Raises
    ------
    EncoderError
        If the weights are not the preset's, or it cannot be built from a file.
    """
    preset = PRESETS[name]
    if not preset.architecture:
        raise EncoderError(
            f"the preset {name} cannot be built from the weights {path} alone; load "
            f"it by its name ({preset.page}), or export it with torch.export"
        )
    network = build(preset.architecture, preset.arguments, read_tensors(path))
    return _encoder(preset, network, mpp=mpp, given=f"{name}={path.resolve()}")


def load_timm(model: str, *, mpp: float) -> ModuleEncoder:
    """Return any pretrained network of timm by its name there.

    Raises
    ------
    EncoderError
        If timm or the weights cannot be had.
    """
    try:
        network = fetch(model, {"num_classes": 0})
    except EncoderError:
        raise
    except Exception as error:  # each hub client has its own classes of refusal
        raise EncoderError(
            f"timm's {model} could not be loaded ({_first_line(error)}); check the "
            "name with timm.list_pretrained() and the network, or give a local file"
        ) from error
    look = default_look(network, mpp)
    mark = digest(network.state_dict(), {"timm": model, **look.as_dict()})
    name = f"timm:{model}@{mpp:g}"
    return ModuleEncoder(name, network, look=look, fingerprint=mark)


def _encoder(
    preset: Preset, network: torch.nn.Module, *, mpp: float | None, given: str
) -> ModuleEncoder:
    look = preset.look if mpp is None else replace(preset.look, mpp=mpp)
    mark = digest(network.state_dict(), {"preset": preset.name, **look.as_dict()})
    name = given if mpp is None else f"{given}@{mpp:g}"
    encoder = ModuleEncoder(name, network, look=look, fingerprint=mark)
    if encoder.width != preset.width:
        raise EncoderError(
            f"{preset.title} gives {preset.width} features, but what was loaded gives "
            f"{encoder.width}; these are not its weights. See {preset.page}"
        )
    return encoder


def _refusal(preset: Preset, error: Exception) -> str:
    """Return the one sentence for a preset that its hub did not hand out."""
    ask = _ask(preset) if preset.gated else f"it is open: see {preset.page}"
    then = "" if preset.gated else ", check the network"
    local = (
        f", or give its weights as {preset.name}=FILE" if preset.architecture else ""
    )
    return (
        f"{preset.title} could not be loaded ({_first_line(error)}); {ask}{then} and "
        f"try again{local}"
    )


def _ask(preset: Preset) -> str:
    """Return how one comes by the access that a gated preset needs."""
    return (
        f"{preset.title} is gated: ask for access at {preset.page}, log in with `hf "
        "auth login`"
    )


def _from_timm(preset: Preset) -> torch.nn.Module:
    return fetch(preset.model, preset.hub_arguments)


def _from_transformers(preset: Preset) -> torch.nn.Module:
    return load_transformers(preset.model)


def load_transformers(model: str, **options: Any) -> torch.nn.Module:
    """Return a network of transformers by hub name or folder, without remote code.

    Raises
    ------
    EncoderError
        If transformers is missing. What it refuses is raised as it comes.
    """
    try:
        from transformers import AutoModel
    except ImportError as error:
        raise EncoderError(
            f"this encoder is built by transformers, which cannot be imported "
            f"({error}); install it with: pip install transformers"
        ) from error
    network: torch.nn.Module = AutoModel.from_pretrained(model, **options)
    return network.eval()


def _from_titan(preset: Preset) -> torch.nn.Module:
    """Return CONCH v1.5 out of TITAN, whose code comes from the hub with it."""
    if os.environ.get(TRUST) != "1":
        raise EncoderError(
            f"{preset.title} comes with Python code of its hub ({preset.page}), which "
            f"is not run unasked; read it, then set {TRUST}=1 and try again"
        )
    titan: Any = load_transformers(preset.model, trust_remote_code=True)
    network: torch.nn.Module = titan.return_conch()[0]
    return network.eval()


LOADERS: Mapping[str, Callable[[Preset], Any]] = {
    "timm": _from_timm,
    "transformers": _from_transformers,
    "titan": _from_titan,
}


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
