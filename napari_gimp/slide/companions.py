"""Files beside a slide that belong to it: MIRAX folders, Hamamatsu's JPEGs.

The file that is opened is then only a cover or a list. People copy it alone.
"""

from __future__ import annotations

import re
import struct
from pathlib import Path

from napari_gimp.errors import SlideError
from napari_gimp.slide.vms_grid import check_grid

MIRAX, HAMAMATSU = (".mrxs",), (".vms", ".vmu")
MIRAX_LIST = "Slidedat.ini"
VMS_GROUP = "[Virtual Microscope Specimen]"
VMU_GROUP = "[Uncompressed Virtual Microscope Specimen]"
VMU_KIND = "36", "RGB"
NGR_MAGIC, NGR_PIXEL_BYTES = b"GN", 6


def companions(path: Path) -> tuple[Path, ...]:
    """Return the files that belong to a slide beside its own, found or not."""
    kind = path.suffix.lower()
    if kind in MIRAX:
        folder = path.with_suffix("")
        return (folder / MIRAX_LIST, *_listed(folder / MIRAX_LIST, _MIRAX_KEYS))
    return _listed(path, _HAMAMATSU_KEYS) if kind in HAMAMATSU else ()


def check_companions(path: Path) -> None:
    """Raise SlideError if a slide's companions are not beside it.

    Single files of a MIRAX folder may be absent: their tiles then count as damaged.
    """
    kind = path.suffix.lower()
    missing = [file for file in companions(path) if not _is_there(file)]
    if kind in MIRAX and not path.with_suffix("").is_dir():
        raise SlideError(
            f"{path.name} is only the cover of a slide whose pixels lie in a folder "
            f"called {path.stem!r} beside it, and {path.parent.resolve()} has no such "
            "folder: copy it there."
        )
    if kind in MIRAX and path.with_suffix("") / MIRAX_LIST in missing:
        raise SlideError(
            f"{path.name} needs the file {MIRAX_LIST} in the folder {path.stem!r} "
            "beside it, which is missing: copy the whole folder again."
        )
    if kind not in MIRAX and VMU_GROUP in _text(path):
        _check_vmu(path)
    if kind in HAMAMATSU and missing:
        raise SlideError(
            f"{path.name} needs {_some(missing)} beside it in "
            f"{path.parent.resolve()}: copy all files of the slide into one folder."
        )
    check_grid(_parts(path), path.name)


def _parts(path: Path) -> dict[tuple[int, int], Path]:
    """Return the pictures of a VMS slide by column and row; {} of another."""
    text = _text(path)
    if VMS_GROUP not in text:
        return {}
    found = _VMS_PARTS.findall(text)
    return {
        (int(col or 0), int(row or 0)): path.parent / name
        for col, row, name in found
        if "\0" not in name
    }


def _check_vmu(path: Path) -> None:
    """Raise SlideError where OpenSlide 4.0.1 would end the whole process.

    It does so with pixels of another kind, and reads as many as the files state. It
    knows the list by its content, whatever the file is called.
    """
    stated = dict(_VMU_KIND.findall(_text(path)))
    bits, order = (stated.get(key, "?") for key in ("BitsPerPixel", "PixelOrder"))
    if (bits, order) != VMU_KIND:
        raise SlideError(
            f"{path.name} states {bits} bits per pixel in the order {order}; only 36 "
            "in the order RGB are read: copy it again from its source, or convert it "
            "with the scanner's own program."
        )
    for file in _listed(path, _HAMAMATSU_KEYS):
        if _is_there(file):
            _check_ngr(file)


def _check_ngr(file: Path) -> None:
    with file.open("rb") as opened:
        head = opened.read(28)
    if len(head) < 28 or not head.startswith(NGR_MAGIC):
        return
    cols, rows, column, start = struct.unpack("<4x3i8xi", head)
    whole = min(cols, rows, column, start) > 0 and cols % column == 0
    if not whole or start + cols * rows * NGR_PIXEL_BYTES > file.stat().st_size:
        raise SlideError(
            f"{file.name} is damaged: it states {rows:,} x {cols:,} px, but holds "
            f"{file.stat().st_size:,} bytes; copy the file again from its source."
        )


_MIRAX_KEYS = re.compile(r"^(?:FILE_\d+|INDEXFILE)\s*=\s*(\S.*?)\s*$", re.MULTILINE)
_HAMAMATSU_KEYS = re.compile(
    r"^(?:ImageFile(?:\([\d,]*\))?|MapFile|MacroImage)\s*=\s*(\S.*?)\s*$", re.MULTILINE
)
_VMS_PARTS = re.compile(
    r"^ImageFile(?:\((\d{1,4}),(\d{1,4})\))?\s*=\s*(\S.*?)\s*$", re.MULTILINE
)
_VMU_KIND = re.compile(r"^(BitsPerPixel|PixelOrder)[ \t]*=[ \t]*(\S*)", re.MULTILINE)
_LIST_BYTES = 1 << 20
"""OpenSlide, too, reads no longer list."""


def _listed(file: Path, keys: re.Pattern[str]) -> tuple[Path, ...]:
    """Return the files that a list names, relative to it; none if it is missing."""
    names = dict.fromkeys(keys.findall(_text(file)))
    return tuple(file.parent / name for name in names if "\0" not in name)


def _is_there(file: Path) -> bool:
    """Whether there is such a file; a damaged list names what cannot be a name."""
    try:
        return file.is_file()
    except OSError:  # too long, among others
        return False


def _text(file: Path) -> str:
    """Return the text of a list, "" if it is missing."""
    try:
        with file.open("rb") as opened:
            text = opened.read(_LIST_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""
    return text.replace("\r\n", "\n")


def _some(files: list[Path]) -> str:
    """Return the first names of several files, and how many more there are."""
    first = ", ".join(file.name for file in files[:2])
    more = len(files) - 2
    return f"{first} and {more} more {'file' if more == 1 else 'files'}" * (
        more > 0
    ) or " and ".join(file.name for file in files)
