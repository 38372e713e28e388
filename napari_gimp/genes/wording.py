"""Words for lists of names and their number."""

from __future__ import annotations

from collections.abc import Sequence, Sized


def some(names: Sequence[str]) -> str:
    """Return the first names, and how many more there are."""
    more = f" and {len(names) - 5:,} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more


def counted(names: Sized, one: str, many: str) -> str:
    """Return how many there are, with the words for one or for many."""
    return f"{len(names):,} {one if len(names) == 1 else many}"
