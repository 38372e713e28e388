"""Positioned reads from one file; tells a damaged file from one that is gone."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from napari_gimp.errors import SlideError


class FileBytes:
    """A file's bytes, read by place, safe from several threads.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    OSError
        If it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb", buffering=0)
        self._name = path.name
        self._lock = threading.Lock()
        self.size = os.fstat(self._file.fileno()).st_size

    def read(self, offset: int, count: int) -> bytes:
        """Return `count` bytes from `offset`.

        Raises
        ------
        ValueError
            If they lie beyond the end that the file had when it was opened.
        OSError
            If the file can no longer be read.
        SlideError
            If it has become shorter.
        """
        if offset + count > self.size:
            raise ValueError(
                f"its bytes {offset:,} to {offset + count:,} lie beyond the file's "
                f"end at {self.size:,}"
            )
        found = self._read(offset, count)
        if len(found) < count:
            raise SlideError(
                f"{self._name} has become shorter since it was opened: wait until it "
                "is written or copied, then open it again."
            )
        return found

    def close(self) -> None:
        """Release the file."""
        self._file.close()

    def _read(self, offset: int, count: int) -> bytes:
        if hasattr(os, "pread"):
            return os.pread(self._file.fileno(), count, offset)
        with self._lock:  # Windows
            self._file.seek(offset)
            return self._file.read(count)
