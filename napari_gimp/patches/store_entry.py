"""One entry of a feature store: rows that fill up, each chunk with its checksum."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from napari_gimp.errors import StoreError

if TYPE_CHECKING:
    import zarr

LOCKS = ".locks"
"""Folder of a store's locks."""
LOCKED_S = 60.0
"""A write takes milliseconds; whoever holds a lock for so long has stopped."""
LOOKED_CHUNKS = 32
"""Chunks that are looked at together when an entry is verified."""
DAMAGED = (ValueError, RuntimeError)
"""What zarr raises where a checksum is wrong, or a chunk cannot be decoded."""


class StoredFeatures:
    """Features (N, P) of one key, filled from row 0 on. `FeatureStore` makes it."""

    def __init__(self, group: zarr.Group) -> None:
        self._group = group
        self._features = cast("zarr.Array[Any]", group["features"])
        root = group.store_path.store.root  # type: ignore[attr-defined] # local's
        self.path = Path(str(root))

    @property
    def key(self) -> dict[str, Any]:
        """The key it was made for, as plain values."""
        return dict(cast("dict[str, Any]", self._group.attrs["key"]))

    @property
    def shape(self) -> tuple[int, int]:
        """N patches, P features."""
        return cast("tuple[int, int]", self._features.shape)

    @property
    def done(self) -> int:
        """How many rows have been written, by whomever."""
        return int(self._description()["attributes"]["done"])

    @property
    def complete(self) -> bool:
        """Whether every row has been written; `lost` knows which are damaged."""
        return self.done == self.shape[0]

    def read(self) -> NDArray[np.float32]:
        """Return the rows that were written, (done, P) float32, bit for bit.

        Rows of a damaged chunk are NaN.
        """
        return self._rows(slice(0, self.done))

    def whole(self) -> NDArray[np.float32]:
        """Return all rows, (N, P) float32, bit for bit.

        Raises
        ------
        StoreError
            If some are not there.
        """
        rows = self.read()
        there = len(rows) - len(absent(rows))
        if there < self.shape[0]:
            raise StoreError(
                f"only {there} of {self.shape[0]} features in {self.path} are there "
                "and undamaged; extract or import them again"
            )
        return rows

    def lost(self) -> NDArray[np.intp]:
        """Return the rows that were written and are not there: damaged or missing.

        All are read, some chunks at a time: memory holds 50 MB of 1,536 features.
        """
        done, size = self.done, LOOKED_CHUNKS * self._features.chunks[0]
        parts = [slice(k, min(k + size, done)) for k in range(0, done, size)]
        lost = [part.start + absent(self._rows(part)) for part in parts]
        return np.concatenate([np.empty(0, np.intp), *lost])

    def write(self, start: int, features: NDArray[np.float32]) -> None:
        """Write rows (n, P) from row `start` on, which must not leave a gap.

        Rows may be written again: two extractions of one slide write the same.

        Raises
        ------
        StoreError
            If they do not fit, or another process has the entry locked for long.
        """
        with _locked(self.path):
            description, stop = self._description(), start + len(features)
            done = int(description["attributes"]["done"])
            self._check_fit(start, stop, done, features)
            self._put(start, stop, features)
            if stop > done:
                description["attributes"]["done"] = stop
                self._describe(description)

    def _description(self) -> dict[str, Any]:
        """Return what zarr keeps of the entry, as it is now: others write, too."""
        text = (self.path / "zarr.json").read_text(encoding="utf-8")
        return cast("dict[str, Any]", json.loads(text))

    def _describe(self, description: dict[str, Any]) -> None:
        path = self.path / "zarr.json"
        building = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        building.write_text(json.dumps(description, indent=2), encoding="utf-8")
        building.replace(path)

    def write_rows(self, rows: NDArray[np.intp], features: NDArray[np.float32]) -> None:
        """Write some rows (n, P), in ascending order, again; see `write`."""
        if not len(rows):
            return
        breaks = np.flatnonzero(np.diff(rows) > 1) + 1
        for places in np.split(np.arange(len(rows)), breaks):
            self.write(int(rows[places[0]]), features[places])

    def _put(self, start: int, stop: int, features: NDArray[np.float32]) -> None:
        try:
            self._features[start:stop] = features
        except DAMAGED:  # what else was in the chunk is lost, and must read as such
            self._start_anew(start, stop)
            self._features[start:stop] = features

    def _check_fit(
        self, start: int, stop: int, done: int, features: NDArray[np.float32]
    ) -> None:
        total, width = self.shape
        if features.shape[1:] != (width,) or stop > total or start > done:
            raise StoreError(
                f"rows {start} to {stop} of width {features.shape[1:]} do not fit into "
                f"stored features of {total} x {width} of which {done} rows are there; "
                "delete the entry to start anew"
            )

    def _rows(self, rows: slice) -> NDArray[np.float32]:
        """Return some rows from the beginning of a chunk on."""
        try:
            return np.asarray(self._features[rows], dtype=np.float32)
        except DAMAGED:
            return self._rows_by_chunk(rows)

    def _rows_by_chunk(self, rows: slice) -> NDArray[np.float32]:
        size = rows.stop - rows.start
        out = np.full((size, self.shape[1]), np.nan, dtype=np.float32)
        for part in self._chunks(rows.start, rows.stop):
            part = slice(part.start, min(part.stop, rows.stop))
            try:
                found = self._features[part]
            except DAMAGED:
                continue
            out[part.start - rows.start : part.stop - rows.start] = found
        return out

    def _start_anew(self, start: int, stop: int) -> None:
        """Empty the damaged chunks among those that hold some rows."""
        for part in self._chunks(start, stop):
            try:
                self._features[part]
            except DAMAGED:
                self._features[part] = np.nan

    def _chunks(self, start: int, stop: int) -> Iterator[slice]:
        """Yield the rows of each chunk that holds some of `start` to `stop`."""
        size, last = self._features.chunks[0], self.shape[0]
        for first in range(start - start % size, stop, size):
            yield slice(first, min(first + size, last))


def absent(rows: NDArray[np.float32]) -> NDArray[np.intp]:
    """Return which rows (n, P) are not there: all of such a row is NaN."""
    some = np.flatnonzero(np.isnan(rows[:, 0]))
    return some[np.isnan(rows[some]).all(axis=1)]


@contextmanager
def _locked(entry: Path) -> Iterator[None]:
    """Let nobody else write to an entry; say what the disk refuses."""
    from filelock import FileLock, Timeout

    folder = entry.parent / LOCKS
    try:
        folder.mkdir(exist_ok=True)
        with FileLock(folder / f"{entry.stem}.write.lock", timeout=LOCKED_S):
            yield
    except Timeout as error:
        raise StoreError(
            f"another program has held {entry} for {LOCKED_S:.0f} s; end it, and run "
            "again: what is stored is kept"
        ) from error
    except (OSError, NotImplementedError) as error:  # the latter without locks
        why = getattr(error, "strerror", None) or error
        raise StoreError(
            f"features cannot be kept in {entry.parent} ({why}); "
            "free space or give a folder that can be written to: what is stored is kept"
        ) from error
