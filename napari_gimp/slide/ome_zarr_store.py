"""Where an OME-Zarr image lies: a folder or a zip file, and what names its content."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from napari_gimp.errors import SlideError
from napari_gimp.slide.fingerprint import fingerprint

METADATA = ("zarr.json", ".zattrs", ".zgroup", ".zarray")
SAMPLES, SAMPLE_BYTES = 24, 1 << 14


def is_zarr(path: Path) -> bool:
    """Whether a folder, or a zip file, holds a zarr group or array."""
    if path.is_dir():
        return any((path / name).is_file() for name in METADATA)
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as packed:
        return any(name in METADATA for name in packed.namelist())


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


def content_fingerprint(path: Path, image: Path, arrays: Sequence[Any]) -> str:
    """Return a hex digest of the metadata, the coarsest level and samples of each.

    Parameters
    ----------
    path
        The folder or zip file.
    image
        The folder of the image's group; `path` itself but for a series.
    arrays
        The levels, finest first.
    """
    if path.is_file():
        return fingerprint(path)
    digest = hashlib.sha256()
    for name in METADATA:
        digest.update(_bytes(image / name, 1 << 24))
    for array in arrays:
        folder = image / array.basename
        for name in METADATA:
            digest.update(_bytes(folder / name, 1 << 24))
        for key in _sampled_chunks(array):
            digest.update(key.encode() + _bytes(folder / key, SAMPLE_BYTES))
    return digest.hexdigest()[:32]


def _sampled_chunks(array: Any) -> Iterator[str]:
    """Yield the keys of chunk files (or shards) spread over a level."""
    sides = array.shards or array.chunks
    grid = [-(-a // b) for a, b in zip(array.shape, sides, strict=True)]
    count = int(np.prod(grid, dtype=np.int64))
    for number in np.unique(np.linspace(0, count - 1, SAMPLES).astype(np.int64)):
        place = np.unravel_index(number, grid)
        yield array.metadata.encode_chunk_key(tuple(int(i) for i in place))


def _bytes(path: Path, most: int) -> bytes:
    """Return a file's size, head and tail; b"" where there is none."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(most)
            file.seek(max(0, size - most))
            return f"{size}:".encode() + head + file.read(most)
    except OSError:
        return b""
