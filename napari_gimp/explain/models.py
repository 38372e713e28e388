"""Models by name: those shipped with the package, or any checkpoint folder."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

from napari_gimp.errors import CheckpointError

SHIPPED = Path(__file__).resolve().parents[1] / "checkpoints"
"""Folder of the shipped checkpoints, one sub-folder each."""

CARD = "card.json"
"""The file that makes a folder a checkpoint."""


def list_models(folder: Path = SHIPPED) -> dict[str, Path]:
    """Return the checkpoints of a folder by name, in alphabetical order."""
    return {card.parent.name: card.parent for card in sorted(folder.glob(f"*/{CARD}"))}


def resolve_model(name_or_path: str | Path, *, shipped: Path = SHIPPED) -> Path:
    """Return the checkpoint folder of a shipped model's name or of a path.

    A training run's folder counts as its best checkpoint.

    Raises
    ------
    CheckpointError
        If it is neither; the text lists names near to the one given.
    """
    models = list_models(shipped)
    if str(name_or_path) in models:
        return models[str(name_or_path)]
    path = Path(name_or_path).expanduser()
    for folder in (path, path / "checkpoints" / "best"):
        if (folder / CARD).is_file():
            return folder
    raise CheckpointError(_unknown(str(name_or_path), path, list(models)))


def _unknown(name: str, path: Path, known: list[str]) -> str:
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
