"""Try the readers in turn, the fastest first, and say one clear thing if none can."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from napari_gimp.errors import SlideError
from napari_gimp.geometry import YX
from napari_gimp.slide.dicom import DicomSource, is_dicom
from napari_gimp.slide.flat import FlatSource
from napari_gimp.slide.ome_zarr import OmeZarrSource, is_ome_zarr
from napari_gimp.slide.openslide import OpenSlideSource
from napari_gimp.slide.resolution import from_user
from napari_gimp.slide.tiff import TiffSource
from napari_gimp.slide.tiff_tags import (
    NoReaderError,
    OpenSlideOnlyError,
    PictureOnlyError,
)
from napari_gimp.slide.tiled import TiledSource

TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
Reader = Callable[[Path], TiledSource]


def open_with_fallback(
    path: Path, mpp: float | YX | None = None, *, srgb: bool = False
) -> TiledSource:
    """Return the slide, opened by the first reader that can; see `open_slide`."""
    stated = None if mpp is None else from_user(mpp)
    reader = _only_reader(path)
    source = reader(path) if reader else _first_that_reads(path, _readers(_head(path)))
    if stated is not None:
        source.resolution = stated
    if srgb:
        source.use_srgb()
    return source


def _only_reader(path: Path) -> Reader | None:
    """Return the reader of a format that one alone reads, a file or a folder."""
    if is_dicom(path):
        return DicomSource
    return OmeZarrSource if is_ome_zarr(path) else None


def _head(path: Path) -> bytes:
    """Return the first four bytes; SlideError where there is no readable file."""
    if path.is_dir():
        raise SlideError(f"{path} is a folder, not a slide: give the file itself.")
    try:
        with path.open("rb") as file:
            return file.read(4)
    except FileNotFoundError:
        raise SlideError(
            f"There is no file {path}: check the spelling and whether its drive is "
            "connected."
        ) from None
    except OSError as error:
        raise SlideError(
            f"{path} cannot be read ({error.strerror}): ask for access to it."
        ) from error


def _readers(head: bytes) -> tuple[Reader, ...]:
    if head in TIFF_MAGIC:
        return TiffSource, OpenSlideSource, FlatSource
    return OpenSlideSource, FlatSource


def _first_that_reads(path: Path, readers: tuple[Reader, ...]) -> TiledSource:
    errors: list[SlideError] = []
    for reader in readers:
        try:
            return reader(path)
        except NoReaderError:
            raise
        except SlideError as error:
            errors.append(error)
    if readers[0] is TiffSource:
        raise _most_telling(errors)
    raise SlideError(
        f"{path.name} is not a slide: give an SVS, TIFF, OME-TIFF, NDPI, MRXS, SCN or "
        "another file that OpenSlide reads, or a PNG or JPEG picture."
    )


def _most_telling(errors: list[SlideError]) -> SlideError:
    """Return the error of the reader that a TIFF belongs to, in the order tried."""
    owner = {OpenSlideOnlyError: 1, PictureOnlyError: 2}.get(type(errors[0]), 0)
    return SlideError(str(errors[owner]))
