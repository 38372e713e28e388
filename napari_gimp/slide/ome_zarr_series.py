"""The images of an OME-Zarr folder: which is the slide, which are label and macro."""

from __future__ import annotations

import html
import itertools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_gimp.errors import SlideError
from napari_gimp.slide.ome_zarr_metadata import Multiscale, multiscale, ome_block
from napari_gimp.slide.ome_zarr_store import read_text

XML = "OME/METADATA.ome.xml"
BESIDE = {
    "label": "label",
    "macro": "macro",
    "overview": "macro",
    "thumbnail": "thumbnail",
}
"""Words in an image's name, and what the image is then called."""


@dataclass(frozen=True, slots=True)
class Series:
    """One image: its group, its metadata and the name it has in the OME-XML."""

    group: Any
    image: Multiscale
    name: str

    @property
    def beside(self) -> str:
        """What it is beside the slide, "" for the slide itself."""
        words = self.name.lower()
        return next((kind for word, kind in BESIDE.items() if word in words), "")

    @property
    def pixels(self) -> int:
        """Pixels of the finest level."""
        shape = self.finest().shape
        axes = self.image.axes
        return int(shape[axes.index("y")] * shape[axes.index("x")])

    def finest(self) -> Any:
        """Return the zarr array of the finest level."""
        return level_array(self.group, self.image.levels[0].path)


def images_in(root: Any, path: Path) -> tuple[list[Series], dict[str, Series]]:
    """Return the images that may be the slide, largest first, and those beside it.

    Raises
    ------
    SlideError
        If there is none, or it is a plate of many.
    """
    block = ome_block(dict(root.attrs))
    for kind in ("plate", "well"):
        if kind in block:
            raise SlideError(
                f"{path.name} is a {kind} of many images, not a slide: give the folder "
                "of one of its images."
            )
    if "multiscales" in block:
        return [Series(root, multiscale(block, path.name), "")], {}
    found = _series(root, path)
    slides = [one for one in found if not one.beside] or found
    slides.sort(key=lambda one: one.pixels, reverse=True)
    return slides, {one.beside: one for one in found if one not in slides}


def _series(root: Any, path: Path) -> list[Series]:
    """Return the images that bioformats2raw puts into groups called 0, 1, ..."""
    text = read_text(path, XML)
    names = [
        html.unescape(n) for n in re.findall(r'<Image\b[^>]*?\sName="([^"]*)"', text)
    ]
    found = []
    for number in itertools.takewhile(lambda n: str(n) in root, itertools.count()):
        group = root[str(number)]
        block = ome_block(dict(group.attrs))
        if "multiscales" in block:
            name = names[number] if number < len(names) else ""
            found.append(Series(group, multiscale(block, path.name), name))
    if not found:
        raise SlideError(
            f"{path.name} is zarr but no OME-Zarr image: it has no multiscales "
            "metadata; write it with an OME-Zarr writer (0.4 or 0.5)."
        )
    return found


def level_array(group: Any, path: str) -> Any:
    """Return a level's array.

    Raises
    ------
    SlideError
        If it is absent, damaged or compressed in a way that is not known.
    """
    import zarr

    name = Path(str(group.store)).name
    try:
        array = _with_all_codecs(group, path)
    except Exception as error:  # each kind of damage raises another
        raise SlideError(
            f"{name} has no readable level {path!r} ({error}): it is "
            "incomplete, or compressed in a way zarr does not know; copy it again from "
            "its source or write it anew."
        ) from error
    if not isinstance(array, zarr.Array):
        raise SlideError(f"{name} has a group, not an array, as level {path!r}.")
    return array


def _with_all_codecs(group: Any, path: str) -> Any:
    """Return a member; where zarr lacks its codec, ask imagecodecs for its own."""
    from imagecodecs.numcodecs import register_codecs

    try:
        return group[path]
    except ValueError:  # also of numcodecs: UnknownCodecError
        register_codecs(verbose=False)
        return group[path]
