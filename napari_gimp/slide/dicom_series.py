"""Which DICOM files beside a given one belong to the same slide.

Only the attributes named here are read, so nothing about a patient ever reaches
this program's memory, error texts or logs.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_gimp.errors import SlideError
from napari_gimp.slide.refusals import NoReaderError

MAGIC_AT, MAGIC = 128, b"DICM"
SLIDE_CLASS = "1.2.840.10008.5.1.4.1.1.77.1.6"
"""VL Whole Slide Microscopy Image Storage."""
PER_FRAME_GROUPS = 0x52009230
"""Where a header ends: the tiles' places follow, then the pixels."""
LONGEST_TEXT = 64
"""Characters of a long string, as DICOM calls it."""
KEYWORDS = (
    "SeriesInstanceUID", "ImageType", "Manufacturer",
    "ManufacturerModelName", "OpticalPathSequence", "PhotometricInterpretation",
    "SamplesPerPixel", "BitsStored",
)  # fmt: skip

_switch = threading.RLock()


@dataclass(frozen=True, slots=True)
class Member:
    """One file of a slide's series and the few attributes read from it."""

    path: Path
    header: Any

    @property
    def sop_class(self) -> str:
        """What kind of DICOM file it is; "" where that is not to be read."""
        return str(self.header.file_meta.get("MediaStorageSOPClassUID", ""))

    @property
    def is_slide(self) -> bool:
        """Whether it is a whole-slide image of any kind, also a label."""
        return self.sop_class == SLIDE_CLASS

    @property
    def flavour(self) -> str:
        """VOLUME for a level; LABEL, OVERVIEW or THUMBNAIL beside it."""
        kinds = list(self.header.get("ImageType") or ())
        return str(kinds[2]) if len(kinds) > 2 else ""

    @property
    def series(self) -> str:
        """The series, which is one scan of one slide."""
        return str(self.header.get("SeriesInstanceUID", ""))

    @property
    def optics(self) -> dict[str, Any]:
        """The description of each optical path, by its identifier."""
        sequence = self.header.get("OpticalPathSequence") or ()
        return {str(item.get("OpticalPathIdentifier", "0")): item for item in sequence}


def has_magic(path: Path) -> bool:
    """Whether a file begins as DICOM files do; False where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(MAGIC_AT + len(MAGIC))[MAGIC_AT:] == MAGIC
    except OSError:
        return False


def dicom_files(folder: Path) -> Iterator[Path]:
    """Yield the DICOM files of a folder, in the order of their names."""
    for path in sorted(folder.iterdir()):
        if path.is_file() and has_magic(path):
            yield path


def slide_series(path: Path) -> list[Member]:
    """Return the files of the slide that `path`, a file or folder, stands for.

    Raises
    ------
    SlideError
        If the file is no whole-slide image, or the folder holds none or several.
    """
    return _series_in_folder(path) if path.is_dir() else _series_of_file(path)


def _series_of_file(path: Path) -> list[Member]:
    member = read_member(path)
    if not member.is_slide:
        raise NoReaderError(
            f"{path.name} is a DICOM file but no slide ({_class_name(member)}): give "
            "a VL Whole Slide Microscopy Image, or the folder of its files."
        )
    others = [read_member(p) for p in dicom_files(path.parent) if p != path]
    return [member, *(m for m in others if m.is_slide and m.series == member.series)]


def _series_in_folder(folder: Path) -> list[Member]:
    found = [member for file in dicom_files(folder) if (member := read_member(file))]
    slides: dict[str, list[Member]] = {}
    for member in found:
        if member.is_slide:
            slides.setdefault(member.series, []).append(member)
    if not slides:
        kinds = sorted({_class_name(member) for member in found})
        raise NoReaderError(
            f"{folder.name} holds {len(found)} DICOM files but no slide "
            f"({', '.join(kinds)}): give a folder of VL Whole Slide Microscopy Images."
        )
    if len(slides) > 1:
        firsts = ", ".join(members[0].path.name for members in slides.values())
        raise NoReaderError(
            f"{folder.name} holds {len(slides)} slides: give one file of the slide "
            f"you want ({firsts})."
        )
    return next(iter(slides.values()))


def read_member(path: Path) -> Member:
    """Return a file with its header.

    Raises
    ------
    SlideError
        If the header is cut off or damaged.
    """
    from pydicom.datadict import tag_for_keyword
    from pydicom.filereader import read_partial

    tags = [tag_for_keyword(keyword) for keyword in KEYWORDS]
    try:
        with path.open("rb") as file, quietly():
            header = read_partial(
                file, lambda tag, vr, length: tag >= PER_FRAME_GROUPS, None, False, tags
            )
            for values in (header, header.file_meta):
                values.decode()  # every one now, so that damage shows here
    except OSError as error:
        raise SlideError(
            f"{path.name} cannot be read ({error.strerror}): check that its drive is "
            "connected and that you have access to it."
        ) from error
    except Exception as error:  # each kind of damage raises another
        raise damaged_header(path) from error
    member = Member(path, header)
    if not member.sop_class or (
        member.is_slide and not (member.series and member.flavour)
    ):
        raise damaged_header(path)
    return member


@contextmanager
def quietly() -> Iterator[None]:
    """Keep pydicom from warning of values: damaged ones may hold names.

    Its switch is one for the process, hence the lock.
    """
    from pydicom.config import disable_value_validation

    with _switch, disable_value_validation():
        yield


def damaged_header(path: Path) -> SlideError:
    """Return the error for a file whose header cannot be read.

    The library's own words are left out: they may quote values.
    """
    return SlideError(
        f"{path.name} is a DICOM file whose header cannot be read: it is cut off or "
        "damaged; copy the file again from its source, or move it elsewhere if it "
        "belongs to no slide."
    )


def plain(value: object) -> str:
    """Return a value as text, "" for one that damage has filled with other bytes."""
    text = "" if value is None else str(value)
    return text if text.isprintable() and len(text) <= LONGEST_TEXT else ""


def _class_name(member: Member) -> str:
    from pydicom.config import IGNORE
    from pydicom.uid import UID

    name = str(UID(member.sop_class, IGNORE).name)
    return "of unknown kind" if name == member.sop_class else name
