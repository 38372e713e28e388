"""The tiles of a slide that cannot be decoded: counted, and spoken of once."""

from __future__ import annotations

import logging
import threading

Place = tuple[int, int, int]
"""Level, row and column of a tile."""

_log = logging.getLogger(__name__)


class Damage:
    """The damaged tiles of one slide; thread safe.

    Parameters
    ----------
    name
        The slide's file name, for the report.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._reasons: dict[Place, str] = {}
        self._lock = threading.Lock()

    def note(self, place: Place, reason: str) -> None:
        """Remember a damaged tile; the first of a slide is logged."""
        with self._lock:
            first = not self._reasons
            self._reasons.setdefault(place, reason)
        if first:
            _log.warning("%s", reason)

    def __contains__(self, place: object) -> bool:
        return place in self._reasons

    def __len__(self) -> int:
        return len(self._reasons)

    @property
    def places(self) -> tuple[Place, ...]:
        """Level, row and column of each damaged tile, in the order found."""
        with self._lock:
            return tuple(self._reasons)

    @property
    def report(self) -> str:
        """One sentence on how many tiles are damaged, "" if none is known to be."""
        with self._lock:
            if not self._reasons:
                return ""
            count, (level, row, col) = len(self._reasons), next(iter(self._reasons))
        tiles = "1 tile" if count == 1 else f"{count:,} tiles"
        count_as = "counts" if count == 1 else "count"
        return (
            f"{self._name}: {tiles} could not be decoded (the first: level {level}, "
            f"row {row}, column {col}) and {count_as} as empty; copy the file again "
            "from its source."
        )
