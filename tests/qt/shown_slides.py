"""Slides on disk and in a viewer, for the tests of docks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from napari_gimp.reader import read_slides

SHAPE = (700, 900)


def show_slide(viewer: Any, path: Path) -> list[Any]:
    """Open a slide as napari would; return its layers."""
    return [viewer.add_image(levels, **kw) for levels, kw, _ in read_slides(str(path))]


def coloured_slide(path: Path, profile: bytes | None = None) -> Path:
    """Write a reddish tiled slide of 0.5 um/px."""
    pixels = np.full((*SHAPE, 3), (200, 120, 40), dtype=np.uint8)
    um = {"resolution": (2e4, 2e4), "resolutionunit": 3}
    tifffile.imwrite(
        path, pixels, tile=(256, 256), photometric="rgb", iccprofile=profile, **um
    )
    return path
