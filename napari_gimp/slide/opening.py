"""Try the readers in turn, the fastest first, and say one clear thing if none can."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from napari_gimp.errors import SlideError
from napari_gimp.geometry import YX
from napari_gimp.slide.companions import MIRAX, check_companions
from napari_gimp.slide.dicom import DicomSource, is_dicom
from napari_gimp.slide.dicom_series import dicom_files
from napari_gimp.slide.flat import FlatSource
from napari_gimp.slide.ome_zarr import OmeZarrSource, is_ome_zarr
from napari_gimp.slide.openslide import OpenSlideSource
from napari_gimp.slide.refusals import (
    NoReaderError,
    OpenSlideOnlyError,
    PictureOnlyError,
    UnknownFormatError,
)
from napari_gimp.slide.resolution import from_user
from napari_gimp.slide.tiff import TiffSource
from napari_gimp.slide.tiled import TiledSource

TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
PICTURE_MAGIC = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"RIFF")

COVER_ONLY = ".vsi"
"""A TIFF, but of the label and an overview; the slide lies in a folder beside it."""
UNREAD = {
    ".isyntax": "Philips iSyntax",
    ".lif": "Leica LIF",
    COVER_ONLY: "Olympus VSI",
}
"""Slides that none of the libraries reads so far, by the ends of their names."""


@dataclass(frozen=True, slots=True)
class Reader:
    """A library and how it opens a slide."""

    name: str
    open: Callable[[Path], TiledSource]


TIFFFILE = Reader("tifffile", TiffSource)
OPENSLIDE = Reader("OpenSlide", OpenSlideSource)
WSIDICOM = Reader("wsidicom", DicomSource)
ZARR = Reader("zarr", OmeZarrSource)
PILLOW = Reader("Pillow", FlatSource)
ONLY: dict[type[Exception], Reader] = {
    OpenSlideOnlyError: OPENSLIDE,
    PictureOnlyError: PILLOW,
}
"""Errors of the TIFF reader that say whose the file is instead."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A reader that was asked, and what it said."""

    reader: Reader
    error: Exception

    def about(self, path: Path) -> str:
        """Return "reader: what it said" as a clause, without names and advice."""
        said = str(self.error) or type(self.error).__name__
        said = re.sub(rf"^{re.escape(path.name)} ", "it ", said)
        said = re.sub(rf" '?{re.escape(str(path))}'?", "", said)
        clause = said.replace("\n", " ").partition("; ")[0].rstrip(". ")
        return f"{self.reader.name}: {clause}"


def open_with_fallback(
    path: Path, mpp: float | YX | None = None, *, srgb: bool = False
) -> TiledSource:
    """Return the slide, opened by the first reader that can; see `open_slide`."""
    stated = None if mpp is None else from_user(mpp)
    source = _first_that_reads(path, _readers(path))
    if stated is not None:
        source.resolution = stated
    if srgb:
        _convert_to_srgb(source)
    return source


def _convert_to_srgb(source: TiledSource) -> None:
    try:
        source.use_srgb()
    except SlideError:
        source.close()
        raise


def _readers(path: Path) -> tuple[Reader, ...]:
    """Return who may read a file or folder, the fastest first.

    Raises
    ------
    SlideError
        If there is no file, it cannot be read, or it is a folder of another kind.
    """
    if path.is_dir():
        return _folder_readers(path)
    head = _head(path)
    if path.suffix.lower() == COVER_ONLY:
        raise _unread(path)
    if head in TIFF_MAGIC:
        return TIFFFILE, OPENSLIDE, PILLOW
    if is_dicom(path):
        return WSIDICOM, OPENSLIDE
    if is_ome_zarr(path):  # in one zip file
        return (ZARR,)
    check_companions(path)
    if path.suffix.lower() in MIRAX:  # a JPEG, but it shows only the slide's cover
        return (OPENSLIDE,)
    return (PILLOW,) if head.startswith(PICTURE_MAGIC) else (OPENSLIDE, PILLOW)


def _folder_readers(path: Path) -> tuple[Reader, ...]:
    if is_ome_zarr(path):
        return (ZARR,)
    if is_dicom(path):
        return WSIDICOM, Reader(OPENSLIDE.name, _open_folder_of_dicom)
    raise SlideError(
        f"{path} is a folder, but holds neither DICOM nor OME-Zarr: give the slide's "
        "file itself (of MIRAX, the .mrxs file beside the folder)."
    )


def _open_folder_of_dicom(folder: Path) -> TiledSource:
    """Open a folder with OpenSlide, which takes any one of its files."""
    return OpenSlideSource(next(dicom_files(folder)))


def _head(path: Path) -> bytes:
    """Return the first four bytes; SlideError where there is no readable file."""
    try:
        if path.exists() and not path.is_file():
            raise SlideError(f"{path} is a device, not a file: give the slide's file.")
        with path.open("rb") as file:
            head = file.read(4)
    except FileNotFoundError:
        raise SlideError(
            f"There is no file {path}: check the spelling and whether its drive is "
            "connected."
        ) from None
    except OSError as error:
        raise SlideError(
            f"{path} cannot be read ({error.strerror}): ask for access to it, and "
            "check that its drive or network share is connected."
        ) from error
    if not head:
        raise SlideError(
            f"{path} is empty (0 bytes): copy the file again from its source."
        )
    return head


def _first_that_reads(path: Path, readers: tuple[Reader, ...]) -> TiledSource:
    refusals: list[Refusal] = []
    only: Reader | None = None
    for reader in readers:
        if only not in (None, reader):
            continue
        try:
            source = reader.open(path)
        except NoReaderError:
            raise
        except Exception as error:  # what libraries raise on damaged files is endless
            refusals.append(Refusal(reader, error))
            only = ONLY.get(type(error), only)
        else:
            source.refused = tuple(
                refusal.about(path) + "."
                for refusal in refusals
                if type(refusal.error) not in ONLY
            )
            return source
    raise _nobody(path, refusals) from refusals[0].error


def _nobody(path: Path, refusals: list[Refusal]) -> SlideError:
    """Return what to tell where no reader can: who refused what, and what helps."""
    unknown = all(isinstance(r.error, UnknownFormatError) for r in refusals)
    if len(refusals) == 1 and not unknown and refusals[0].reader is not OPENSLIDE:
        return _alone(path, refusals[0])
    if unknown and path.suffix.lower() in UNREAD:
        return _unread(path)
    if len(refusals) > 1 and unknown:
        return SlideError(
            f"{path.name} is not a slide: give an SVS, TIFF, OME-TIFF, OME-Zarr, "
            "DICOM, NDPI, MRXS, SCN, BIF or another file that OpenSlide reads, or a "
            "PNG or JPEG picture."
        )
    said = "; ".join(refusal.about(path) for refusal in refusals)
    return SlideError(
        f"{path.name} cannot be read: copy it again from its source in case it is "
        "damaged, or convert it with QuPath or `vips tiffsave "
        f"{shlex.quote(path.name)} out.tif --tile --pyramid --compression jpeg` "
        f"({said})."
    )


def _unread(path: Path) -> SlideError:
    return SlideError(
        f"{path.name} is a slide in the format {UNREAD[path.suffix.lower()]}, which "
        "none of the readers knows: convert it to OME-TIFF, with QuPath or with the "
        "scanner's own program."
    )


def _alone(path: Path, refusal: Refusal) -> SlideError:
    """Return what the only reader of a format said, with its own advice."""
    if isinstance(refusal.error, SlideError):
        return SlideError(str(refusal.error))
    return SlideError(
        f"{path.name} cannot be read: copy it again from its source, it may be "
        f"incomplete ({refusal.about(path)})."
    )
