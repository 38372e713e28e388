"""The encoder of another tool: its features are here, its weights are not.

Only a name and a width are known of it. At which um/px it looked, and how large its
patches were, stands with the features that were imported.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isnan, nan

import numpy as np
from numpy.typing import NDArray

from napari_gimp.errors import EncoderError

PREFIX = "imported:"


@dataclass(frozen=True, slots=True)
class ImportedEncoder:
    """An encoder that stands for imported features; it makes none.

    Parameters
    ----------
    label
        Its name, as the import was told.
    width
        P, features per patch.
    mpp
        um/px of the pixels it was given; NaN takes what a store holds.
    patch_um
        Side of a patch, um; NaN takes what a store holds.
    """

    label: str
    width: int
    mpp: float = nan
    patch_um: float = nan

    @property
    def fingerprint(self) -> str:
        """What stands for the digest of weights that nobody has here."""
        return f"{PREFIX}{self.label}:{self.width}"

    @property
    def name(self) -> str:
        """What `load_encoder` takes to load it again."""
        return self.fingerprint + ("" if isnan(self.mpp) else f"@{self.mpp:.6g}")

    @property
    def input_px(self) -> int:
        """Side of a patch, px; 0 while it is not known."""
        size = self.patch_um / self.mpp
        return 0 if isnan(size) else round(size)

    def to(self, device: str) -> ImportedEncoder:
        """Return itself: nothing runs on a device."""
        del device
        return self

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Refuse pixels.

        Raises
        ------
        EncoderError
            Always.
        """
        raise EncoderError(
            f"{self.fingerprint} stands for features that another tool has made and "
            "cannot encode pixels; bring the slide's features in with `napari-gimp "
            "import-features`, or choose an encoder that runs here"
        )


def load_imported(name: str, mpp: float | None) -> ImportedEncoder:
    """Return the encoder of "imported:NAME:WIDTH".

    Raises
    ------
    EncoderError
        If it has no name or no width.
    """
    label, _, width = name.removeprefix(PREFIX).rpartition(":")
    if not label or not width.isdecimal() or not int(width):
        raise EncoderError(
            f"imported features are named imported:NAME:WIDTH, as in "
            f"imported:uni2:1536, got {name!r}; `napari-gimp import-features` says both"
        )
    return ImportedEncoder(label, int(width), nan if mpp is None else mpp)
