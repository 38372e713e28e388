"""What somebody names on a command line: manifests, slides, patterns, folders."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from napari_gimp.cohorts.manifest import SUFFIXES, Entry, matches, read_manifest
from napari_gimp.errors import CohortError

SLIDE_SUFFIXES = (
    *(".svs", ".tif", ".tiff", ".ndpi", ".scn", ".mrxs", ".vms", ".vmu", ".bif"),
    *(".svslide", ".czi", ".dcm", ".zarr.zip", ".ozx"),
)
"""Ends of names that make a file of a folder a slide; pictures are to be named."""


def list_slides(named: Iterable[Path | str]) -> tuple[Entry, ...]:
    """Return the slides that some paths name, each once, in their order.

    What a manifest says of a slide holds, also where a folder or pattern names it too.

    Parameters
    ----------
    named
        Manifests (.csv, .tsv, .txt), slides, patterns (`*.svs`), and folders, of
        which every slide is taken, sub-folders included.

    Raises
    ------
    CohortError
        If a pattern or folder holds no slide, or a manifest cannot be used.
    """
    found: dict[Path, Entry] = {}
    for entry in (entry for path in named for entry in _entries(Path(path))):
        if entry.slide not in found or not found[entry.slide].row:
            found[entry.slide] = entry
    return tuple(found.values())


def _entries(named: Path) -> tuple[Entry, ...]:
    if named.suffix.lower() in SUFFIXES and named.is_file():
        return read_manifest(named)
    slides = [s for path in matches(str(named), Path.cwd()) for s in _slides(path)]
    if not slides:
        raise CohortError(
            f"{named} names no slide: no file matches, or the folder holds none that "
            f"ends in {', '.join(SLIDE_SUFFIXES)}. Name the slides themselves."
        )
    return tuple(map(Entry, slides))


def _slides(path: Path) -> tuple[Path, ...]:
    """Return a slide's path itself, or the slides of a folder that is none."""
    if not path.is_dir() or _is_slide(path):
        return (path,)
    return tuple(_inside(path))


def _inside(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            yield from (path,) if _is_slide(path) else _inside(path)
        elif path.name.lower().endswith(SLIDE_SUFFIXES):
            yield path


def _is_slide(folder: Path) -> bool:
    """Whether a folder is one slide: DICOM or OME-Zarr."""
    from napari_gimp.slide.dicom import is_dicom
    from napari_gimp.slide.ome_zarr import is_ome_zarr

    return is_ome_zarr(folder) or is_dicom(folder)
