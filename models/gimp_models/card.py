"""A checkpoint's card: everything one must know to use its weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from gimp_models.errors import CheckpointError

__all__ = ["FORMAT", "Card"]

FORMAT = 1
"""Version of the checkpoint format; a newer one is refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """What a checkpoint's `card.json` says.

    Parameters
    ----------
    architecture, config
        Registered name and config of plain values; `checkpoint.save` takes both
        from the model.
    stage
        "pretrain" or "finetune".
    classes
        Class names in the order of the logits.
    genes, gene_mean, gene_sd
        The panel in the model's order, with the statistics of the training fold.
    gene_scale
        Scale the statistics are on, "log2" usually.
    encoder
        Name, fingerprint and width of the patch encoder.
    patch_um, mpp
        Side of a patch in um, and um/px at which it was encoded; for a model of
        pixels the largest region it sees at once.
    cohort
        What it was trained on: name, patients, folds.
    metrics
        Results on held-back patients, with intervals.
    choices
        What the paper leaves open and how this model settles it; `checkpoint.save`
        fills them in if empty.
    licence, description
        Licence of the weights and a sentence for people.
    sha256
        Of `weights.safetensors`; filled in by `checkpoint.save`.
    format
        Version of the checkpoint format.

    Raises
    ------
    CheckpointError
        If the gene statistics do not have the panel's length.
    """

    architecture: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    stage: str = "pretrain"
    classes: tuple[str, ...] = ()
    genes: tuple[str, ...] = ()
    gene_mean: tuple[float, ...] = ()
    gene_sd: tuple[float, ...] = ()
    gene_scale: str = "log2"
    encoder: Mapping[str, Any] = field(default_factory=dict)
    patch_um: float = 128.0
    mpp: float = 1.0
    cohort: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    choices: tuple[str, ...] = ()
    licence: str = ""
    description: str = ""
    sha256: str = ""
    format: int = FORMAT

    def __post_init__(self) -> None:
        for name in ("gene_mean", "gene_sd"):
            length = len(getattr(self, name))
            if length != len(self.genes):
                raise CheckpointError(
                    f"The card has {length} values of {name}, it must have one for "
                    f"each of its {len(self.genes)} genes: write the card anew."
                )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Card:
        """Rebuild a card from what `as_dict` wrote.

        Raises
        ------
        CheckpointError
            If the format is newer than this version, or a field is missing.
        """
        version = values.get("format")
        if not isinstance(version, int) or version > FORMAT:
            raise CheckpointError(
                f"The card's format is {version!r}, this version reads up to {FORMAT}: "
                "update napari-gimp."
            )
        names = {f.name for f in fields(cls)}
        missing = sorted(names - set(values))
        if missing:
            raise CheckpointError(
                f"The card lacks {', '.join(missing)}, it must hold every field of "
                "format 1: copy the model's folder again or train it anew."
            )
        return cls(**{name: _held(values[name]) for name in names})

    def as_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold; NaN becomes null."""
        plain: dict[str, Any] = _plain(asdict(self))
        return plain


def _held(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _plain(value: Any) -> Any:
    """Tuples to lists and numbers that JSON does not know to None, at any depth."""
    if isinstance(value, Mapping):
        return {str(key): _plain(held) for key, held in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(held) for held in value]
    lost = isinstance(value, float) and not math.isfinite(value)
    return None if lost else value
