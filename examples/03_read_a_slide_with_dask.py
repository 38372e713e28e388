"""Read any region of a slide as exact pixels, lazily, by level or by um/px.

You will see the levels of the slide as Dask arrays, the mean colour of the whole
slide computed from its coarsest level, and a 256 um square at 1 um/px.

Run it with: python examples/03_read_a_slide_with_dask.py SLIDE
"""

from __future__ import annotations

import sys
from pathlib import Path

from napari_gimp.slide.pyramid import Pyramid
from napari_gimp.slide.resample import read_at
from napari_gimp.slide.source import open_slide


def main(path: Path) -> None:
    with open_slide(path) as source:
        pyramid = Pyramid(source)
        for level, grid in zip(pyramid.levels, pyramid.grids, strict=True):
            print(level.shape, "at", f"{grid.cell_um[0]:.3g} um/px")
        mean = pyramid.levels[-1].mean(axis=(0, 1)).compute()
        print("mean colour:", ", ".join(f"{value:.0f}" for value in mean))
        y_um, x_um = pyramid.grids[0].rect.center_um
        square = read_at(source, y_um - 128, x_um - 128, (256, 256), 1.0)
        print("centre at 1 um/px:", square.shape, square.dtype)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
