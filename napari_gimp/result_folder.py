"""The folder of a result: whole or absent, and never over somebody's other files."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from napari_gimp.errors import ResultError

HEAD = "result.json"
"""The file that says of what kind a result is."""


@dataclass(frozen=True, slots=True)
class ResultKind:
    """A kind of result.

    Parameters
    ----------
    format
        What its `result.json` says it is.
    written
        The names of what it consists of.
    """

    format: str
    written: frozenset[str]


def check_folder(out: Path, kind: ResultKind) -> None:
    """Refuse a place where a result must not go; call it before a long analysis.

    Raises
    ------
    ResultError
        If `out` is a file or lies below one, is a folder that holds something else
        than a former result of this kind, or may not be written.
    """
    if out.is_file():
        raise ResultError(f"'{out}' is a file; a result needs a folder. Give another.")
    _check_writable(next(p for p in out.absolute().parents if p.exists()))
    foreign = _foreign(out, kind) if out.is_dir() else []
    if foreign:
        raise ResultError(
            f"The folder '{out}' holds other files ({foreign[0]}); a result only goes "
            "into a new or empty folder, or over a former result. Give another folder."
        )


def _foreign(folder: Path, kind: ResultKind) -> list[str]:
    """Return what would be lost: what is not of a result."""
    names = sorted(path.name for path in folder.iterdir())
    ours = {".DS_Store", *(kind.written if _is_result(folder, kind) else ())}
    return [name for name in names if name not in ours]


def _check_writable(parent: Path) -> None:
    if not parent.is_dir():
        raise ResultError(f"'{parent}' is a file, so no folder fits below it.")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise ResultError(
            f"The folder '{parent}' may not be written to. Give another place."
        )


def _is_result(folder: Path, kind: ResultKind) -> bool:
    try:
        head = json.loads((folder / HEAD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(head, dict) and head.get("format") == kind.format


@contextmanager
def replaced_folder(out: Path) -> Iterator[Path]:
    """Yield an empty folder that takes the place of `out` if the block succeeds.

    Raises
    ------
    ResultError
        If the disk refuses the writing; what was there is kept.
    """
    try:
        with _scratch(out) as scratch:
            fresh = scratch / "fresh"
            fresh.mkdir()
            yield fresh
            _swap(fresh, out, scratch / "former")
    except OSError as error:
        raise ResultError(
            f"The result could not be written to '{out}': {error.strerror or error}. "
            "What was there is unchanged. Free some space or choose another folder."
        ) from error


@contextmanager
def _scratch(out: Path) -> Iterator[Path]:
    out.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _swap(fresh: Path, out: Path, former: Path) -> None:
    had = out.exists()
    if had:
        out.rename(former)
    try:
        fresh.rename(out)
    except BaseException:  # an interruption here must not cost the former result
        if had:
            former.rename(out)
        raise
