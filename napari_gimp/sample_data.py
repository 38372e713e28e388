"""The built-in sample: one synthetic patient, painted once into the user's cache.

The patient SAMPLE is in no training cohort: their seed is used for nothing else. The
slide shows every tissue the synthetic slides have, and a pen mark.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_gimp.synthetic.patient import Patient

SAMPLE_ID = "SAMPLE"
SAMPLE_SEED = 7_202_611
SAMPLE_SIDE_PX = 8192
SAMPLE_MPP = 0.5
SAMPLE_VERSION = 1
"""Raised whenever the painted pixels or the genes change; old copies stay unused."""

Progress = Callable[[int, int], None]


def sample_slide(progress: Progress | None = None) -> Path:
    """Return the sample slide; the first call paints it, which takes about 30 s.

    Parameters
    ----------
    progress
        Called with painted blocks and blocks in all, while it is painted.
    """
    return sample_folder(progress) / "slides" / f"{SAMPLE_ID}.tif"


def sample_genes(progress: Progress | None = None) -> Path:
    """Return the sample's gene table: one row, SAMPLE, log2 values."""
    return sample_folder(progress) / "genes.csv"


def sample_folder(progress: Progress | None = None) -> Path:
    """Return the sample as a cohort folder, made if it is not there yet."""
    folder = cache_folder() / f"sample-{SAMPLE_VERSION}"
    if not (folder / "manifest.csv").is_file():
        _make(folder, progress)
    return folder


def cache_folder() -> Path:
    """Return where napari-gimp keeps what it can make again.

    The environment variable NAPARI_GIMP_CACHE takes the place of the user's own.
    """
    from platformdirs import user_cache_path

    named = os.environ.get("NAPARI_GIMP_CACHE")
    return Path(named) if named else user_cache_path("napari-gimp", appauthor=False)


def open_sample() -> list[Any]:
    """Return the sample slide as napari layers (npe2 sample data)."""
    from napari_gimp.reader import get_reader

    path = str(sample_slide())
    reader = get_reader(path)
    return list(reader(path)) if reader else []


def sample_patient() -> Patient:
    """Return the patient of the sample: a tumour with a bit of everything."""
    from dataclasses import replace

    from napari_gimp.synthetic.patient import draw_patient

    drawn = draw_patient(SAMPLE_ID, SAMPLE_SEED, "basal-like", "north")
    habit = replace(
        drawn.habit, tumour=0.55, necrosis=0.1, lymphocytes=0.55, fat=0.18, glands=0.4
    )
    return replace(drawn, habit=habit, pen=True)


def _make(folder: Path, progress: Progress | None) -> None:
    from napari_gimp.synthetic.cohort import write_cohort

    try:
        write_cohort(
            folder,
            (sample_patient(),),
            SAMPLE_SEED,
            side_px=SAMPLE_SIDE_PX,
            mpp=SAMPLE_MPP,
            workers=min(os.cpu_count() or 1, 4),
            blocks=progress,
        )
    except OSError:
        if not (folder / "manifest.csv").is_file():  # else another process was first
            raise
