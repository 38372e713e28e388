"""Models by name: those shipped with the package, or any checkpoint folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from napari_gimp.errors import CheckpointError

SHIPPED = Path(__file__).resolve().parents[1] / "checkpoints"
"""Folder of the shipped checkpoints, one sub-folder each."""

ANALYSED = "gimp"
"""The architecture that an analysis takes."""

CARD = "card.json"
"""The file that makes a folder a checkpoint."""


@dataclass(frozen=True, slots=True)
class ListedModel:
    """A checkpoint as a list shows it; its weights are not looked at.

    Parameters
    ----------
    name
        The name that `resolve_model` takes.
    path
        The checkpoint's folder.
    card
        What its card says.
    """

    name: str
    path: Path
    card: dict[str, Any]

    @property
    def summary(self) -> str:
        """One line: what the model is for and what it tells apart."""
        classes = self.card.get("classes") or ()
        told = f" Classes: {', '.join(map(str, classes))}." if classes else ""
        return f"{self.card.get('description') or 'No description.'}{told}"

    @property
    def obstacle(self) -> str:
        """Why the model cannot analyse a slide, "" if nothing speaks against it."""
        architecture = self.card.get("architecture") or ANALYSED
        if architecture == ANALYSED:
            return ""
        return (
            f"The model {self.name} is of the architecture {architecture}; an analysis "
            f"needs {ANALYSED}. Choose another model."
        )

    def as_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold."""
        return {"name": self.name, "path": str(self.path), "card": self.card}


def list_models(folder: Path = SHIPPED) -> list[ListedModel]:
    """Return the checkpoints of a folder, in alphabetical order.

    Raises
    ------
    CheckpointError
        If a card cannot be read.
    """
    return [model_in(card.parent) for card in sorted(folder.glob(f"*/{CARD}"))]


def model_in(folder: Path) -> ListedModel:
    """Return the checkpoint in a folder; what lies beside it does not matter.

    Raises
    ------
    CheckpointError
        If its card cannot be read.
    """
    return ListedModel(folder.name, folder, _read(folder / CARD))


def resolve_model(name_or_path: str | Path, *, shipped: Path = SHIPPED) -> Path:
    """Return the checkpoint folder of a shipped model's name or of a path.

    A training run's folder counts as its best checkpoint.

    Raises
    ------
    CheckpointError
        If it is neither; the text lists names near to the one given.
    """
    models = {model.name: model.path for model in list_models(shipped)}
    if str(name_or_path) in models:
        return models[str(name_or_path)]
    path = Path(name_or_path).expanduser()
    for folder in (path, path / "checkpoints" / "best"):
        if (folder / CARD).is_file():
            return folder
    raise CheckpointError(_unknown(str(name_or_path), path, list(models)))


def _read(path: Path) -> dict[str, Any]:
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(card, dict):
            raise ValueError("it holds no named values")
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"The model card '{path}' cannot be read ({error}). Install the package "
            "again, or put the card of the original checkpoint back."
        ) from error
    return card


def _unknown(name: str, path: Path, known: list[str]) -> str:
    if pickles := _pickles(path):
        from gimp_models.checkpoint import HOW_TO_CONVERT

        what = "is" if path.is_file() else f"holds {', '.join(pickles)}, not card.json:"
        return (
            f"'{name}' {what} a pickle, which may run code when read and is never "
            f"opened; {HOW_TO_CONVERT}."
        )
    if path.is_file():
        return (
            f"'{name}' is a file; a model is a folder with card.json and "
            "weights.safetensors. Give that folder."
        )
    if path.is_dir():
        return (
            f"The folder '{name}' has no card.json, so it is no checkpoint. Give a "
            "checkpoint folder, or a run folder with checkpoints/best in it."
        )
    near = get_close_matches(name, known, n=3, cutoff=0.4)
    hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
    names = ", ".join(known) or "none"
    return (
        f"No model is called '{name}' and no folder has that path.{hint} "
        f"Shipped models: {names}. Otherwise give the path of a checkpoint folder."
    )


def _pickles(path: Path) -> list[str]:
    """Return the names of the pickles that a path is or a folder holds."""
    from gimp_models.checkpoint import PICKLES

    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return [one.name for one in files if one.is_file() and one.suffix in PICKLES]
