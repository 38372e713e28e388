"""What a feature file of another tool is taken to mean on a slide, and its keeping.

No Qt; both functions run in the background.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from napari_gimp.geometry import YX

if TYPE_CHECKING:
    from napari_gimp.patches.h5 import H5Features
    from napari_gimp.patches.h5_units import Interpretation, Unit
    from napari_gimp.slide.source import SlideSource


@dataclass(frozen=True, slots=True)
class Asked:
    """A file, its slide, and what the user says of it; None is to be concluded.

    Parameters
    ----------
    file
        Features of CLAM, TRIDENT or STAMP (.h5).
    slide
        The slide they were made from.
    patches
        CLAM's file of patches, which knows their size.
    mpp, srgb
        How the slide is opened.
    unit, patch_um, encoder
        What the coordinates count in, the side of a patch, who made the features.
    """

    file: Path
    slide: Path
    patches: Path | None = None
    mpp: YX | None = None
    srgb: bool = False
    unit: Unit | None = None
    patch_um: float | None = None
    encoder: str | None = None

    def open(self) -> SlideSource:
        """Open the slide."""
        from napari_gimp.slide.source import open_slide

        return open_slide(self.slide, mpp=self.mpp, srgb=self.srgb)


@dataclass(frozen=True, slots=True)
class Taken:
    """What a file was taken to mean.

    Parameters
    ----------
    asked
        What was read.
    file
        What the file holds.
    meaning
        What its numbers mean.
    size_um, reach_um
        (y, x) of the slide, and of the end of the last patches.
    """

    asked: Asked
    file: H5Features
    meaning: Interpretation
    size_um: YX
    reach_um: YX

    @property
    def encoder(self) -> str:
        """What the features are called as an encoder."""
        from napari_gimp.patches.imported import imported_encoder

        return imported_encoder(self.meaning.encoder.value, self.file.width)


def take(asked: Asked) -> Taken:
    """Read a file and conclude what its numbers mean.

    Raises
    ------
    StoreError
        If it is no such file, or its patches do not lie on the slide.
    SlideError
        If the slide cannot be opened.
    """
    from napari_gimp.patches.h5 import read_h5
    from napari_gimp.patches.h5_units import interpret
    from napari_gimp.patches.imported import locate

    file = read_h5(asked.file, patch_file=asked.patches)
    with closing(asked.open()) as source:
        meaning = interpret(
            file,
            source.mpp,
            unit=asked.unit,
            patch_um=asked.patch_um,
            encoder=asked.encoder,
        )
        corners = locate(file, meaning, source).corners_um
        height, width = source.levels[0].shape
        size = (height * source.mpp[0], width * source.mpp[1])
    y, x = (corners.max(axis=0) + meaning.patch_um.value).tolist()
    return Taken(asked, file, meaning, size, (y, x))


def keep(taken: Taken, store: Path) -> int:
    """Keep the features; return how many patches there are.

    Raises
    ------
    StoreError
        If features are not finite, or the store holds others of this name.
    """
    from napari_gimp.patches.imported import import_features
    from napari_gimp.patches.store import FeatureStore

    with closing(taken.asked.open()) as source:
        import_features(taken.file, taken.meaning, source, FeatureStore(store))
    return len(taken.file)
