"""Slides on disk and in a viewer, for the tests of docks."""

from __future__ import annotations

import json
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


def stained_slide(path: Path) -> Path:
    """Write a slide of 0.5 um/px with 768 um of tissue either way and a pen's mark.

    The tissue covers just 6 x 6 patches of 128 um; its corner is 256 um from the
    slide's.
    """
    rng = np.random.default_rng(5)
    pixels = np.full((2560, 2560, 3), 245, dtype=np.uint8)
    shades = rng.integers(-12, 12, (1536, 1536, 1)) + np.array((190, 110, 170))
    pixels[512:2048, 512:2048] = shades
    pixels[2200:2400, 300:1800] = (40, 60, 200)
    um: dict[str, Any] = {"resolution": (2e4, 2e4), "resolutionunit": 3}
    tifffile.imwrite(path, pixels, tile=(256, 256), photometric="rgb", **um)
    return path


def square_annotations(path: Path, **classes: tuple[int, int, int, int]) -> Path:
    """Write GeoJSON as QuPath does: one rectangle (x0, y0, x1, y1), px, per class."""
    features = [
        {
            "type": "Feature",
            "geometry": {
                "type": "Polygon",
                "coordinates": [[[a, b], [c, b], [c, d], [a, d], [a, b]]],
            },
            "properties": {"classification": {"name": name}},
        }
        for name, (a, b, c, d) in classes.items()
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path
