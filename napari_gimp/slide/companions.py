"""Files beside a slide that belong to it: MIRAX folders, Hamamatsu's JPEGs.

The file that is opened is then only a cover or a list. People copy it alone.
"""

from __future__ import annotations

import re
from pathlib import Path

from napari_gimp.errors import SlideError

MIRAX, HAMAMATSU = (".mrxs",), (".vms", ".vmu")
MIRAX_LIST = "Slidedat.ini"


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
    missing = [file for file in companions(path) if not file.is_file()]
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
    if kind in HAMAMATSU and missing:
        raise SlideError(
            f"{path.name} needs {_some(missing)} beside it in "
            f"{path.parent.resolve()}: copy all files of the slide into one folder."
        )


_MIRAX_KEYS = re.compile(r"^(?:FILE_\d+|INDEXFILE)\s*=\s*(\S.*?)\s*$", re.MULTILINE)
_HAMAMATSU_KEYS = re.compile(
    r"^(?:ImageFile(?:\([\d,]*\))?|MapFile|MacroImage)\s*=\s*(\S.*?)\s*$", re.MULTILINE
)
_LIST_BYTES = 1 << 20
"""OpenSlide, too, reads no longer list."""


def _listed(file: Path, keys: re.Pattern[str]) -> tuple[Path, ...]:
    """Return the files that a list names, relative to it; none if it is missing."""
    try:
        with file.open("rb") as opened:
            text = opened.read(_LIST_BYTES).decode("utf-8", "replace")
    except OSError:
        return ()
    names = dict.fromkeys(keys.findall(text.replace("\r\n", "\n")))
    return tuple(file.parent / name for name in names if "\0" not in name)


def _some(files: list[Path]) -> str:
    """Return the first names of several files, and how many more there are."""
    first = ", ".join(file.name for file in files[:2])
    more = len(files) - 2
    return f"{first} and {more} more {'file' if more == 1 else 'files'}" * (
        more > 0
    ) or " and ".join(file.name for file in files)
