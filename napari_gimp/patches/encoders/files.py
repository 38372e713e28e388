"""Encoders in local files and folders, each with a card that says how it looks.

A file has its card beside it, of the same name with .json; a folder holds config.json,
as timm and transformers write it. A card has our keys (input_px, mpp, mean, sd,
pooling, prefix; architecture and model_args for timm) or timm's pretrained_cfg. What
changes the features and is not known is asked for, never guessed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_gimp.errors import EncoderError
from napari_gimp.patches.encoders.archives import (
    file_digest,
    kind_of,
    read_exported,
    read_tensors,
    read_torchscript,
)
from napari_gimp.patches.encoders.hub import load_transformers
from napari_gimp.patches.encoders.look import Look
from napari_gimp.patches.encoders.module import ModuleEncoder, digest
from napari_gimp.patches.encoders.timm_models import build

if TYPE_CHECKING:
    pass

FOLDER_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
EXAMPLE = '{"input_px": 224, "mpp": 0.5, "mean": [0, 0, 0], "sd": [1, 1, 1]}'


def load_file(path: Path, *, mpp: float | None = None) -> ModuleEncoder:
    """Return the encoder of a file or a folder.

    Parameters
    ----------
    path
        safetensors or .pt weights with a card naming timm's architecture, TorchScript,
        torch.export, or a folder of timm or transformers.
    mpp
        um/px at which it looks; None takes the card's.

    Raises
    ------
    EncoderError
        If a file is missing, damaged or unsafe, or the card leaves something open.
    """
    if path.is_dir():
        return _load_folder(path, mpp)
    kind, card_path = kind_of(path), path.with_suffix(".json")
    card = _read_card(card_path)
    name = _name(path, mpp)
    if kind == "weights":
        return _load_timm(path, card, card_path, name=name, mpp=mpp)
    look = _look(card, card_path, mpp)
    reader = read_torchscript if kind == "torchscript" else read_exported
    mark = file_digest(path, look.as_dict())
    return ModuleEncoder(name, reader(path), look=look, fingerprint=mark)


def _name(path: Path, mpp: float | None) -> str:
    return f"{path.resolve()}" if mpp is None else f"{path.resolve()}@{mpp:g}"


def _load_folder(folder: Path, mpp: float | None) -> ModuleEncoder:
    card_path = folder / "config.json"
    card, name = _read_card(card_path), _name(folder, mpp)
    if "model_type" in card:
        return _load_transformers(folder, card, name=name, mpp=mpp)
    found = [folder / file for file in FOLDER_WEIGHTS if (folder / file).is_file()]
    if not found:
        raise EncoderError(
            f"the encoder folder {folder} has none of {', '.join(FOLDER_WEIGHTS)}; "
            "put the weights there"
        )
    return _load_timm(found[0], card, card_path, name=name, mpp=mpp)


def _load_timm(
    path: Path, card: dict[str, Any], card_path: Path, *, name: str, mpp: float | None
) -> ModuleEncoder:
    """Return a network of timm with the weights of a file."""
    architecture = card.get("architecture")
    if not isinstance(architecture, str):
        raise EncoderError(
            f"{path} holds weights without a network, and the card {card_path} does "
            'not name one; add "architecture": a name of timm such as '
            '"vit_small_patch16_224", and "model_args" if it has other sizes'
        )
    look, arguments = _look(card, card_path, mpp), card.get("model_args", {})
    network = build(architecture, arguments, read_tensors(path))
    settings = {"timm": architecture, "arguments": arguments, **look.as_dict()}
    mark = digest(network.state_dict(), settings)
    return ModuleEncoder(name, network, look=look, fingerprint=mark)


def _load_transformers(
    folder: Path, card: dict[str, Any], *, name: str, mpp: float | None
) -> ModuleEncoder:
    """Return a network of transformers; its processor's file says how it looks."""
    card_path = folder / "preprocessor_config.json"
    shown = _read_card(card_path)
    crop = shown.get("crop_size") or shown.get("size") or {}
    keys = {"mean": shown.get("image_mean"), "sd": shown.get("image_std")}
    ours = {"pooling": "class", "input_px": crop.get("height"), **keys, **shown}
    look = _look({k: v for k, v in ours.items() if v is not None}, card_path, mpp)
    try:
        network = load_transformers(str(folder), local_files_only=True)
    except (OSError, RuntimeError, ValueError) as error:
        raise EncoderError(
            f"the transformers folder {folder} cannot be loaded ({error}); download "
            "config.json and model.safetensors again"
        ) from error
    settings = {"transformers": card["model_type"], **look.as_dict()}
    mark = digest(network.state_dict(), settings)
    return ModuleEncoder(name, network, look=look, fingerprint=mark)


def _read_card(path: Path) -> dict[str, Any]:
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise EncoderError(
            f"there is no card {path}, so how the encoder looks is not known; write "
            f"one such as {EXAMPLE}"
        ) from error
    except (OSError, ValueError) as error:
        raise EncoderError(
            f"the card {path} is damaged ({error}); write one such as {EXAMPLE}"
        ) from error
    if not isinstance(card, dict):
        raise EncoderError(
            f"the card {path} holds a {type(card).__name__}, not named values; write "
            f"one such as {EXAMPLE}"
        )
    return card


def _look(card: dict[str, Any], path: Path, mpp: float | None) -> Look:
    """Return how a card says to look; our keys go before timm's.

    Raises
    ------
    EncoderError
        If it leaves something open.
    """
    theirs = card.get("pretrained_cfg", {})
    timm = {
        "input_px": (theirs.get("input_size") or [None])[-1],
        "mean": theirs.get("mean"),
        "sd": theirs.get("std"),
    }
    known: dict[str, Any] = {
        key: card.get(key, timm.get(key)) for key in ("input_px", "mean", "sd")
    }
    known["mpp"] = card.get("mpp") if mpp is None else mpp
    if lacking := [key for key, value in known.items() if value is None]:
        raise EncoderError(
            f"the card {path} does not say {', '.join(lacking)}; add to it, as in "
            f"{EXAMPLE}"
            + ("; um/px may also follow the path, as @0.5" if "mpp" in lacking else "")
        )
    rest = {key: card[key] for key in ("pooling", "prefix") if key in card}
    known |= {key: tuple(known[key]) for key in ("mean", "sd")}
    return Look(**known, **rest)
