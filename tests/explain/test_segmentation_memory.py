"""A whole slide is segmented in a band of memory, not in that of its map."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

WIDTH_PX, SHORT_PX, TALL_PX = 2000, 8_000, 28_000
"""Of slides at 1 um/px; the tall one's map takes 224 MB, and its weights the same."""

CODE = """
import resource, sys
import numpy as np, torch, zarr
from pathlib import Path
from napari_gimp.explain.tiles import fill, plan_over
from napari_gimp.geometry import Grid
from napari_gimp.patches.tissue import Tissue
from napari_gimp.slide.ome_zarr_writer import MapWriter
from napari_gimp.slide.source import open_slide

torch.set_num_threads(1)

def write_slide(path, height, width):
    group = zarr.open_group(path, mode="w", zarr_format=3)
    group.create_array("0", shape=(3, height, width), dtype="uint8", fill_value=200,
                       chunks=(3, 512, 512), dimension_names=("c", "y", "x"))
    axes = [{"name": "c", "type": "channel"}] + [
        {"name": n, "type": "space", "unit": "micrometer"} for n in "yx"]
    scale = [{"type": "scale", "scale": [1.0, 1.0, 1.0]}]
    image = {"axes": axes,
             "datasets": [{"path": "0", "coordinateTransformations": scale}]}
    group.attrs["ome"] = {"version": "0.5", "multiscales": [image]}
    return path

def run(folder, height, width):
    slide = write_slide(folder / f"slide{height}.zarr", height, width)
    with open_slide(slide) as source:
        cells = (height // 8, width // 8)
        tissue = Tissue(np.ones(cells, bool), Grid(cells, (8.0, 8.0)))
        plan, grid = plan_over(source, tissue, 512, 1.0)
        writer = MapWriter(folder / f"map{height}.zarr", grid, ("a",), (1.0, 1.0))
        for _, bands in fill(source, plan, lambda x: x[:, :1] * 0, 1.0):
            for band in bands:
                writer.write(band.top, band.values.numpy())

def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

folder, (width, short, tall) = Path(sys.argv[1]), map(int, sys.argv[2:])
run(folder, short, width)
before = peak_mb()
run(folder, tall, width)
print(peak_mb() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KB on Linux only")
def test_memory_grows_by_bands_not_by_the_map(tmp_path: Path) -> None:
    sizes = map(str, (WIDTH_PX, SHORT_PX, TALL_PX))
    command = [sys.executable, "-c", CODE, str(tmp_path), *sizes]
    environment = {**os.environ, "NAPARI_GIMP_CACHE_MB": "64"}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    map_mb = WIDTH_PX * TALL_PX * 4 / 2**20
    assert float(done.stdout) < 0.4 * map_mb
