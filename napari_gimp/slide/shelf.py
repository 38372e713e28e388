"""Slides that this process keeps open between tasks, a few at a time."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from napari_gimp.errors import SlideError
from napari_gimp.slide.source import SlideSource, open_slide

PLACES = 16
"""Slides kept open: handles are few, and a task opens one in some 10 ms."""


@dataclass(frozen=True, slots=True)
class Volume:
    """A slide by its path, and whether it converts to sRGB; picklable."""

    path: Path
    srgb: bool = False


@dataclass(slots=True)
class _Loan:
    """An open slide and how many read from it now."""

    alone: threading.Lock = field(default_factory=threading.Lock)
    source: SlideSource | None = None
    readers: int = 0
    kept: bool = True


class Shelf:
    """Open slides, the least recently used closed when there are too many.

    One that is being read is closed when its last reader is done. A file that was
    replaced is opened anew.

    Parameters
    ----------
    places
        Slides to keep open.
    """

    def __init__(self, places: int = PLACES) -> None:
        self.places = places
        self._loans: OrderedDict[tuple[Volume, int], _Loan] = OrderedDict()
        self._lock = threading.Lock()

    @contextmanager
    def borrow(self, volume: Volume) -> Iterator[SlideSource]:
        """Give the open slide for the length of a `with`.

        Raises
        ------
        SlideError
            If the file is gone or cannot be opened.
        """
        loan = self._loan((volume, _version(volume.path)))
        try:
            with loan.alone:
                if loan.source is None:
                    loan.source = open_slide(volume.path, srgb=volume.srgb)
                source = loan.source
            with nullcontext() if source.thread_safe else loan.alone:
                yield source
        finally:
            self._give_back(loan)

    def clear(self) -> None:
        """Close all slides that nobody reads now, the others after that."""
        with self._lock:
            idle = [self._remove() for _ in range(len(self._loans))]
        _close(idle)

    def __len__(self) -> int:
        return len(self._loans)

    def _loan(self, key: tuple[Volume, int]) -> _Loan:
        with self._lock:
            loan = self._loans.setdefault(key, _Loan())
            self._loans.move_to_end(key)
            loan.readers += 1
            full = len(self._loans) > self.places
            idle = [self._remove()] if full else []
        _close(idle)
        return loan

    def _remove(self) -> SlideSource | None:
        """Take the least recently used off the shelf; return what is to be closed."""
        _, loan = self._loans.popitem(last=False)
        loan.kept = False
        return loan.source if loan.readers == 0 else None

    def _give_back(self, loan: _Loan) -> None:
        with self._lock:
            loan.readers -= 1
            idle = None if loan.kept or loan.readers else loan.source
        _close([idle])


def _close(idle: list[SlideSource | None]) -> None:
    for source in idle:
        if source is not None:
            source.close()


def _version(path: Path) -> int:
    """Return when the file was changed, ns."""
    try:
        return path.stat().st_mtime_ns
    except OSError as error:
        raise SlideError(
            f"{path} can no longer be read ({error.strerror}): check that its drive or "
            "network share is connected on this computer."
        ) from error


@cache
def shelf() -> Shelf:
    """Return this process's shelf."""
    return Shelf()
