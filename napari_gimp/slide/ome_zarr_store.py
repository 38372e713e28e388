"""Where an OME-Zarr image lies: a folder or a zip file, and what names its content."""

from __future__ import annotations

import hashlib
import math
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from napari_gimp.errors import SlideError
from napari_gimp.slide.fingerprint import fingerprint

METADATA = ("zarr.json", ".zattrs", ".zgroup", ".zarray")
FINEST, COARSER, SAMPLED_BYTES = 256, 16, 1 << 22
"""Chunk files of a level that name its content, and bytes read of them together."""


def is_zarr(path: Path) -> bool:
    """Whether a folder, or a zip file, holds a zarr group or array."""
    if path.is_dir():
        return any((path / name).is_file() for name in METADATA)
    try:
        with zipfile.ZipFile(path) as packed:
            return any(name in METADATA for name in packed.namelist())
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile):
        return False


def open_group(path: Path) -> Any:
    """Return the zarr group in a folder or zip file.

    Raises
    ------
    SlideError
        If there is none or it is damaged.
    """
    import zarr
    from zarr.storage import LocalStore, ZipStore

    store = LocalStore(path, read_only=True) if path.is_dir() else ZipStore(path)
    try:
        return zarr.open_group(store, mode="r", use_consolidated=False)
    except zarr.errors.ContainsArrayError as error:
        raise SlideError(
            f"{path.name} is one zarr array: give the OME-Zarr folder that holds it."
        ) from error
    except Exception as error:  # each kind of damage raises another
        raise SlideError(
            f"{path.name} is no readable zarr group ({error}): it is incomplete or "
            "damaged; copy it again from its source."
        ) from error


def read_text(path: Path, name: str) -> str:
    """Return a file within the folder or zip file as text, "" where there is none."""
    try:
        if path.is_dir():
            return (path / name).read_text(encoding="utf-8", errors="replace")
        with zipfile.ZipFile(path) as packed:
            return packed.read(name).decode(errors="replace")
    except (OSError, KeyError, zipfile.BadZipFile):
        return ""


def is_there(path: Path, array: Any) -> bool:
    """Whether a level's metadata can still be read, so its chunks could be."""
    if path.is_file():
        return True
    return any((path / array.path / name).is_file() for name in METADATA)


def content_fingerprint(path: Path, group: Any, arrays: Sequence[Any]) -> str:
    """Return a hex digest of the metadata and of chunk files spread over each level.

    Parameters
    ----------
    path
        The folder or zip file.
    group
        The zarr group of the image.
    arrays
        Its levels.
    """
    if path.is_file():
        return fingerprint(path)
    digest = hashlib.sha256()
    for node in (group, *arrays):
        for name in METADATA:
            digest.update(_parts(path / node.path / name, SAMPLED_BYTES))
    for array, most in zip(arrays, (FINEST, *[COARSER] * len(arrays)), strict=False):
        keys = list(_chunks(array, most))
        for key in keys:
            stored = _parts(path / array.path / key, SAMPLED_BYTES // len(keys))
            digest.update(key.encode() + stored)
    return digest.hexdigest()[:32]


def _chunks(array: Any, most: int) -> Iterator[str]:
    """Yield the keys of chunk files (or shards) spread over a level."""
    sides = array.shards or array.chunks
    grid = [-(-a // b) for a, b in zip(array.shape, sides, strict=True)]
    last = math.prod(grid) - 1
    for number in sorted({last * i // (most - 1) for i in range(most)}):
        place: list[int] = []
        for side in reversed(grid):
            number, here = divmod(number, side)
            place.insert(0, here)
        yield array.metadata.encode_chunk_key(tuple(place))


def _parts(path: Path, most: int) -> bytes:
    """Return a file's size and content; of a long one head, middle and tail.

    b"" where there is no file.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            if size <= most:
                return f"{size}:".encode() + file.read()
            found = f"{size}:".encode()
            for offset in (0, (size - most // 3) // 2, size - most // 3):
                file.seek(offset)
                found += file.read(most // 3)
            return found
    except OSError:
        return b""
