"""What a checkpoint is needed for, and in what it differs from that."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gimp_models.card import Card
from gimp_models.errors import CheckpointError

__all__ = ["Expectation", "differences", "require"]

_NAMED = 3
"""Genes named in a message; the rest are counted."""
_DIGITS = 12
"""Characters of a hash that a message shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """What a checkpoint must be; None leaves a point open.

    Parameters
    ----------
    architecture
        Registered name.
    genes
        The panel in the order in which profiles will be given.
    classes
        Class names in the order in which logits will be read.
    encoder
        Of the patch features: any of name, fingerprint, width.
    patch_um, mpp
        Side of a patch in um, um/px at which patches are read.
    sha256
        Of the weights.
    """

    architecture: str | None = None
    genes: Sequence[str] | None = None
    classes: Sequence[str] | None = None
    encoder: Mapping[str, Any] | None = None
    patch_um: float | None = None
    mpp: float | None = None
    sha256: str | None = None


def differences(card: Card, expected: Expectation) -> tuple[str, ...]:
    """Return in what a card differs from what is expected, a phrase each.

    Parameters
    ----------
    card
        What the checkpoint says of itself.
    expected
        What it is needed for.
    """
    return tuple(_differences(card, expected))


def require(card: Card, expected: Expectation, where: object) -> None:
    """Refuse a card that differs from what is expected.

    Parameters
    ----------
    card
        What the checkpoint says of itself.
    expected
        What it is needed for.
    where
        The checkpoint's folder, for the message.

    Raises
    ------
    CheckpointError
        If it differs; the text says in what, all of it.
    """
    found = differences(card, expected)
    if found:
        raise CheckpointError(
            f"The model in {where} is not the one that is needed: {'; '.join(found)}. "
            "Choose a checkpoint made for this, or train one."
        )


def _differences(card: Card, expected: Expectation) -> Iterator[str]:
    pairs = {
        name: (getattr(card, name), getattr(expected, name))
        for name in ("architecture", "patch_um", "mpp", "sha256")
    }
    for name, wanted in (expected.encoder or {}).items():
        pairs[f"encoder {name}"] = (card.encoder.get(name), wanted)
    for name, (given, wanted) in pairs.items():
        if wanted is not None and given != wanted:
            yield f"its {name} is {_short(given)}, it must be {_short(wanted)}"
    for name in ("genes", "classes"):
        wanted = getattr(expected, name)
        if wanted is not None:
            yield from _names(name, getattr(card, name), tuple(wanted))


def _names(what: str, given: Sequence[str], wanted: Sequence[str]) -> Iterator[str]:
    """Say which names are missing or extra, or else that their order differs."""
    if tuple(given) == tuple(wanted):
        return
    missing, extra = _beyond(wanted, given), _beyond(given, wanted)
    if missing:
        yield f"its {what} lack {_listed(missing)} of {len(wanted)}"
    if extra:
        yield f"its {what} have {_listed(extra)} more"
    if not missing and not extra:
        yield f"its {len(given)} {what} are in another order{_first(given, wanted)}"


def _beyond(some: Sequence[str], others: Sequence[str]) -> list[str]:
    known = set(others)
    return [name for name in some if name not in known]


def _listed(names: Sequence[str]) -> str:
    rest = ", ..." if len(names) > _NAMED else ""
    return f"{len(names)} ({', '.join(names[:_NAMED])}{rest})"


def _first(given: Sequence[str], wanted: Sequence[str]) -> str:
    for place, (here, there) in enumerate(zip(given, wanted, strict=False), start=1):
        if here != there:
            return f" (number {place} is {here}, it must be {there})"
    return " or repeated"


def _short(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    return f"{text[:_DIGITS]}..." if len(text) > 2 * _DIGITS else text
