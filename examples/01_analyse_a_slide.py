"""Analyse the built-in sample slide together with its genes.

You will see the class probabilities for the slide alone and with the genes, how
much each of the two moved the prediction, the genes that moved it most, and where
on the slide the model looked. A folder with maps, tables and a report is written.

Run it with: python examples/01_analyse_a_slide.py [OUT]
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from napari_gimp.explain.inference import Finished, Request, analyse
from napari_gimp.explain.result import Result
from napari_gimp.export import write_result
from napari_gimp.sample_data import sample_genes, sample_slide


def main(out: Path) -> None:
    request = Request(sample_slide(), "demo", genes=sample_genes(), sample="SAMPLE")
    events = analyse(request)
    result = next(e.result for e in events if isinstance(e, Finished))
    show(result)
    print("written to", write_result(result, out))


def show(result: Result) -> None:
    for name, alone, both in zip(
        result.classes, result.slide_only, result.probabilities, strict=True
    ):
        print(f"{name:>16}: slide only {alone:5.1%}, with genes {both:5.1%}")
    attention = result.maps["attention"]
    row, col = np.unravel_index(np.nanargmax(attention.values), attention.values.shape)
    y_um, x_um = attention.grid.rect_of(int(row), int(col)).center_um
    print(f"most attended patch at y = {y_um:.0f} um, x = {x_um:.0f} um")
    if result.genes is not None:
        best = result.genes.top(5)
        print("leading genes:", ", ".join(result.genes.genes[i] for i in best))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("analysis"))
