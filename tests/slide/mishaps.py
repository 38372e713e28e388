"""What happens to a slide while it is open: drives are unplugged, copies break off."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np

from napari_gimp.errors import GimpError, SlideError
from napari_gimp.slide.source import SlideSource, open_slide
from napari_gimp.slide.tiles import tile_cache
from slide_file import expected
from slide_user import look_at

CLOSINGS, THREADS = 10, 4


def files_of(path: Path) -> list[Path]:
    """Return every file of a slide: those beside it and those in its folder."""
    return [file for file in path.parent.rglob("*") if file.is_file()]


def cut_off(path: Path) -> None:
    """Keep the first third of every file; who maps one into memory gets SIGBUS."""
    for file in files_of(path):
        os.truncate(file, file.stat().st_size // 3)


def emptied(path: Path) -> None:
    """Keep nothing of any file."""
    for file in files_of(path):
        os.truncate(file, 0)


def deleted(path: Path) -> None:
    """Remove all of it; what is open can still be read."""
    shutil.rmtree(path.parent)


def replaced_by_folders(path: Path) -> None:
    """Put a folder where each file was."""
    for file in files_of(path):
        file.unlink()
        file.mkdir()


def unplugged(path: Path) -> None:
    """Let every read from an open handle fail with an I/O error, and delete the rest.

    A process' own memory cannot be read at 0: that gives the error of a lost drive.
    """
    lost = os.open("/proc/self/mem", os.O_RDONLY)
    for link in Path("/proc/self/fd").iterdir():
        if link.exists() and link.resolve().is_relative_to(path.parent.resolve()):
            os.dup2(lost, int(link.name))
    os.close(lost)
    shutil.rmtree(path.parent)


LINUX = (unplugged,) if Path("/proc/self/fd").is_dir() else ()
ALL: dict[str, Callable[[Path], None]] = {
    mishap.__name__.replace("_", " "): mishap
    for mishap in (cut_off, emptied, deleted, replaced_by_folders, *LINUX)
}


def look_while(name: str, path: Path) -> str:
    """Open a slide, let something happen to it, go on looking; returns what came.

    Raises
    ------
    Exception
        Whatever is no GimpError: that is what is looked for.
    """
    tile_cache().clear()
    with open_slide(path) as source:
        source.read_region(0, 0, 0, 20, 20)
        pickled = pickle.dumps(source)
        ALL[name](path)
        tile_cache().clear()
        refusals = look_at(source)
        damaged = len(source.damage)
    try:
        pickle.loads(pickled).close()
        again = "opens again"
    except GimpError as error:
        again = str(error)
    return f"{damaged} tiles damaged; {'; '.join(refusals) or 'no refusal'}; {again}"


def close_while_others_read(path: Path) -> str:
    """Close a slide under four threads that read it; each must end with SlideError.

    Raises
    ------
    AssertionError
        If pixels that came were wrong, or a thread ended in another way.
    """
    for _ in range(CLOSINGS):
        tile_cache().clear()
        with open_slide(path) as source:
            truth = source.read_region(0, 0, 0, *source.levels[0].shape)
            tile_cache().clear()
            under_way = Barrier(THREADS + 1, timeout=20)
            with ThreadPoolExecutor(THREADS) as pool:
                readers = [
                    pool.submit(_read_on, source, truth, seed, under_way)
                    for seed in range(THREADS)
                ]
                under_way.wait()
                source.close()
                endings = [reader.result() for reader in readers]
        assert all("is closed" in text for text in endings), endings
    return f"closed {CLOSINGS} times"


def _read_on(
    source: SlideSource, truth: np.ndarray, seed: int, under_way: Barrier
) -> str:
    """Read until it is refused; returns the text of that."""
    height, width = source.levels[0].tile
    dice = np.random.default_rng(seed)
    for turn in range(100_000):
        if turn == 1:
            under_way.wait()
        y, x = (int(dice.integers(-side, side)) for side in (height, width))
        try:
            found = source.read_region(0, y, x, height, width)
        except SlideError as error:
            return str(error)
        wanted = expected(truth, (y, x, height, width), source.fill)
        assert np.array_equal(found, wanted)
    return "was never refused"
