"""Small slides of made-up tissue, and the bytes a store keeps of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile

PER_CM = {"resolution": (20000, 20000), "resolutionunit": "CENTIMETER"}


def write_slide(path: Path, *, seed: int, side_px: int = 1024) -> Path:
    """Write purple tissue without glass, 0.5 um/px: (side_px / 256)^2 patches."""
    rng = np.random.default_rng(seed)
    tissue = rng.normal((170, 100, 170), 25, (side_px, side_px, 3))
    pixels = tissue.clip(0, 255).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, pixels, photometric="rgb", tile=(256, 256), **PER_CM)
    return path


def entries_of(store: Path) -> dict[str, bytes]:
    """Every byte of a store's entries; its locks are none."""
    files = (f for f in store.glob("*.zarr/**/*") if f.is_file())
    return {str(f.relative_to(store)): f.read_bytes() for f in files}
