"""Checkpoints: a folder with `weights.safetensors` and `card.json`.

The folder is written under a temporary name and renamed, so it is whole or absent.
Nothing is ever unpickled. Weights are stored on the CPU, wherever they were trained.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from gimp_models.card import Card
from gimp_models.decoder import PixelDecoder
from gimp_models.errors import CheckpointError, ConfigError
from gimp_models.expectation import Expectation, require
from gimp_models.registry import MODELS, build, find, name_of

__all__ = [
    "CARD",
    "WEIGHTS",
    "Card",
    "Checkpoint",
    "Expectation",
    "load",
    "load_as",
    "read_card",
    "save",
]

ModelT = TypeVar("ModelT", bound=nn.Module, covariant=True)

WEIGHTS, CARD = "weights.safetensors", "card.json"

_DECODER = "decoder."
HOW_TO_CONVERT = (
    "convert it where you trust its origin: load its weights there with "
    "torch.load(FILE, weights_only=True) into the model and write the folder with "
    "gimp_models.save(FOLDER, MODEL, CARD)"
)
"""What to do with a pickle, which is never opened here."""
PICKLES = (".pt", ".pth", ".pkl", ".pickle", ".bin", ".ckpt", ".joblib", ".npy")


@dataclass(frozen=True, slots=True)
class Checkpoint(Generic[ModelT]):
    """A model as it was saved.

    Parameters
    ----------
    model
        In evaluation mode.
    card
        What must be known to use it.
    decoder
        Patch features to thumbnails, None if the checkpoint has none.
    """

    model: ModelT
    card: Card
    decoder: PixelDecoder | None = None


def save(
    folder: Path,
    model: nn.Module,
    card: Card,
    decoder: PixelDecoder | None = None,
) -> Card:
    """Write a checkpoint folder; one that is there is replaced.

    Parameters
    ----------
    folder
        The folder to write.
    model
        A registered model.
    card
        Its card; architecture, config, choices (if empty) and sha256 are filled in,
        and for a model of pixels um/px and um of what it sees at once.
    decoder
        Its pixel decoder, saved beside the model's weights; only a model of patch
        features can have one.

    Returns
    -------
    Card
        The card as written.

    Raises
    ------
    CheckpointError
        If the model is not registered, card or decoder do not fit it, or the
        folder's place holds something that is no checkpoint.
    """
    folder = Path(folder)
    _check_replaceable(folder)
    card = _completed(card, model)
    _check_decoder(model, decoder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    staged = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        card = _write(staged, model, card, decoder)
        staged.chmod(0o755)  # mkdtemp makes private folders, a model is to be shared
        _put_in_place(staged, folder)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return card


def load(
    folder: Path,
    *,
    device: torch.device | str = "cpu",
    expected: Expectation | None = None,
) -> Checkpoint[nn.Module]:
    """Read a checkpoint folder.

    Parameters
    ----------
    folder
        A folder `save` wrote.
    device
        Where the weights go, wherever they were trained.
    expected
        What the checkpoint must be; checked before its weights are read.

    Returns
    -------
    Checkpoint

    Raises
    ------
    CheckpointError
        If the folder is missing, no checkpoint, holds pickles, its weights are not
        those of the card, its architecture is unknown, or it is not as expected.
    """
    folder = Path(folder)
    card = read_card(folder)
    find(card.architecture)
    require(card, expected or Expectation(), folder)
    _check_sha256(folder, card)
    tensors = _read_tensors(folder)
    model = _build(folder, card)
    decoding = _split_decoder(tensors, model)
    _load_state(model, tensors, folder)
    decoder = _read_decoder(decoding, model, folder)
    return Checkpoint(
        model=model.to(device).eval(),
        card=card,
        decoder=None if decoder is None else decoder.to(device).eval(),
    )


def load_as(
    folder: Path,
    kind: type[ModelT],
    *,
    device: torch.device | str = "cpu",
    expected: Expectation | None = None,
) -> Checkpoint[ModelT]:
    """Read a checkpoint folder of one architecture.

    Parameters
    ----------
    folder, device, expected
        As in `load`.
    kind
        The model's class, such as `Gimp`.

    Raises
    ------
    CheckpointError
        As `load`, and if the checkpoint is of another architecture.
    """
    card, name = read_card(folder), name_of(kind)
    if find(card.architecture).name != name:
        raise CheckpointError(
            f"The model in {folder} is of the architecture {card.architecture}, it "
            f"must be {name}: choose a checkpoint of {MODELS[name].title}."
        )
    return cast(Checkpoint[ModelT], load(folder, device=device, expected=expected))


def read_card(folder: Path) -> Card:
    """Read a checkpoint's card alone, without its weights.

    Raises
    ------
    CheckpointError
        If the folder is missing or no checkpoint, or holds pickles.
    """
    folder = Path(folder)
    _check_folder(folder)
    try:
        values = json.loads((folder / CARD).read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(
            f"The card {folder / CARD} is no JSON ({error}): copy the model's folder "
            "again or train it anew."
        ) from error
    if not isinstance(values, dict):
        raise CheckpointError(
            f"The card {folder / CARD} holds {type(values).__name__}, it must hold one "
            "JSON object: copy the model's folder again or train it anew."
        )
    return Card.from_dict(values)


def _completed(card: Card, model: nn.Module) -> Card:
    name = name_of(model)
    config: Any = model.config
    for field, expected in (("classes", config.classes), ("genes", config.genes)):
        count = len(getattr(card, field))
        if count != expected:
            raise CheckpointError(
                f"The card names {count} {field}, the model has {expected}: give the "
                f"card the {field} the model was trained on."
            )
    chosen = card.choices or MODELS[name].choices(config)
    card = replace(card, architecture=name, config=config.as_dict(), choices=chosen)
    return _with_scale(card, config)


def _with_scale(card: Card, config: Any) -> Card:
    """Copy the scale of a model of pixels, which is part of its config."""
    if not hasattr(config, "mpp"):
        return card
    return replace(card, mpp=config.mpp, patch_um=config.image_px * config.mpp)


def _check_decoder(model: nn.Module, decoder: PixelDecoder | None) -> None:
    if decoder is not None and _patch_features(model) is None:
        raise CheckpointError(
            f"A pixel decoder was given with {type(model).__name__}, which has no "
            "patch features to decode: save the model without it."
        )


def _write(
    folder: Path, model: nn.Module, card: Card, decoder: PixelDecoder | None
) -> Card:
    tensors = dict(model.state_dict())
    if decoder is not None:
        held = decoder.state_dict().items()
        tensors |= {f"{_DECODER}{name}": tensor for name, tensor in held}
    save_file(_on_cpu(tensors), folder / WEIGHTS)
    card = replace(card, sha256=_sha256(folder / WEIGHTS))
    text = json.dumps(card.as_dict(), indent=1, ensure_ascii=False, allow_nan=False)
    (folder / CARD).write_text(text + "\n", encoding="utf-8")
    return card


def _on_cpu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: t.detach().cpu().contiguous() for name, t in tensors.items()}


def _put_in_place(staged: Path, folder: Path) -> None:
    """Rename; what was there steps aside first and returns if that fails."""
    if not folder.exists():
        staged.replace(folder)
        return
    aside = folder.replace(staged.with_name(f"{staged.name}.old"))
    try:
        staged.replace(folder)
    except BaseException:  # an interruption must not cost the former checkpoint
        aside.replace(folder)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _check_replaceable(folder: Path) -> None:
    whole = not folder.exists() or (folder / CARD).is_file()
    if not whole and not (folder.is_dir() and not any(folder.iterdir())):
        raise CheckpointError(
            f"{folder} is there and no checkpoint (it has no {CARD}): give the name "
            "of a new or empty folder, or remove it first."
        )


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise CheckpointError(
            f"There is no model folder {folder}: give the path of a folder with "
            f"{WEIGHTS} and {CARD}, or the name of a shipped model."
        )
    pickles = sorted(p.name for p in folder.iterdir() if p.suffix in PICKLES)
    if pickles:
        raise CheckpointError(
            f"The model folder {folder} holds {', '.join(pickles)}, which may run code "
            f"when read: it must hold {WEIGHTS} and {CARD} only; {HOW_TO_CONVERT}, or "
            "remove the file if you trust the rest."
        )
    missing = [name for name in (WEIGHTS, CARD) if not (folder / name).is_file()]
    if missing:
        raise CheckpointError(
            f"The folder {folder} is no model, it lacks {' and '.join(missing)}: give "
            f"the path of a folder with {WEIGHTS} and {CARD}."
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_sha256(folder: Path, card: Card) -> None:
    found = _sha256(folder / WEIGHTS)
    if found != card.sha256:
        raise CheckpointError(
            f"The weights in {folder} are not those of the card: their sha256 is "
            f"{found[:12]}..., it must be {card.sha256[:12]}...; copy the model's "
            "folder again."
        )


def _read_tensors(folder: Path) -> dict[str, Tensor]:
    try:
        return load_file(folder / WEIGHTS)
    except SafetensorError as error:
        raise CheckpointError(
            f"The weights {folder / WEIGHTS} cannot be read ({error}), they must be a "
            "safetensors file: copy the model's folder again."
        ) from error


def _build(folder: Path, card: Card) -> nn.Module:
    try:
        with torch.random.fork_rng(devices=[]):  # reading draws nothing from the seed
            return build(card.architecture, card.config)
    except ConfigError as error:
        raise CheckpointError(f"The model in {folder} cannot be built. {error}") from (
            error
        )


def _split_decoder(tensors: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Take the pixel decoder's weights out; MGI's `decoder` is a part of the model."""
    if _patch_features(model) is None:
        return {}
    taken = [name for name in tensors if name.startswith(_DECODER)]
    return {name: tensors.pop(name) for name in taken}


def _patch_features(model: nn.Module) -> int | None:
    """Return P, None for a model that sees pixels."""
    features: int | None = getattr(model.config, "patch_features", None)
    return features


def _read_decoder(
    tensors: Mapping[str, Tensor], model: nn.Module, folder: Path
) -> PixelDecoder | None:
    features = _patch_features(model)
    if features is None or not tensors:
        return None
    decoder = PixelDecoder(features)
    bare = {name.removeprefix(_DECODER): t for name, t in tensors.items()}
    _load_state(decoder, bare, folder)
    return decoder


def _load_state(module: nn.Module, tensors: Mapping[str, Tensor], folder: Path) -> None:
    try:
        module.load_state_dict(dict(tensors), strict=True)
    except RuntimeError as error:
        first = str(error).splitlines()[1:2]
        raise CheckpointError(
            f"The weights in {folder} do not fit the card's config "
            f"({' '.join(first).strip()}), they must be those of the same model: copy "
            "the model's folder again or train it anew."
        ) from error
